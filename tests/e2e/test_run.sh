#!/bin/bash
# bertctl run: a job with a bertd of its own. Its output, its exit codes, its stops, and that nothing is left behind,
# whoever is killed. Slurm's programs are faked.
. "$(dirname "$0")/lib.sh"
unset BERTD_SOCKET BERTD_STATE_DIR TMPDIR CUDA_VISIBLE_DEVICES
for name in $(compgen -e | grep ^SLURM_); do unset "$name"; done
mkdir "$work/tmp" "$work/bin"
export SLURM_TMPDIR=$work/tmp
make_corpus

diagnose() { tail -n 5 "$work/out" "$work/err"; }
cleanup() { pkill -KILL -f -- "$work/" 2>/dev/null; sleep 0.2; }

command_spec() { # NAME SHELL-LINE [LINE...]
  local name=$1 line=$2
  shift 2
  printf '%s\n' "name: $name" "kind: command" "command: [sh, -c, '${line//\'/\'\'}']" \
    "restart: {max_without_progress: 0, backoff_sec: [1, 1], grace_sec: 5}" "$@" >"$work/$name.yaml"
}
run() { # SPEC [OPTION...]: in the background, its output in $work/out and $work/err
  local spec=$1
  shift
  : >"$work/out"
  "$BERTCTL" run "$@" "$work/$spec.yaml" >"$work/out" 2>"$work/err" </dev/null &
  runner=$!
}
reap() { wait "$runner" 2>/dev/null; code=$?; }
says() { grep -q -- "$1" "$work/out"; }
nothing_left() { [[ -z $(ls -A "$work/tmp") ]]; }
bertd_of() { pgrep -f -- "bertd --owner $1 "; }
none_runs() { ! pgrep -f -- "$work/tmp/bertd-run-" >/dev/null; }

# ---- the end ----
command_spec seven 'echo one; echo two >&2; exit 7'
run seven
reap
is "a run ends with its job's exit code" "$code" 7
is "its output is the job's" "$(cat "$work/out")" $'one\ntwo'
is "and one line says why" "$(cat "$work/err")" "bertctl: seven has failed: exit code 7: two; not retried (--retries 0)"
ok "nothing is left" nothing_left
command_spec fine 'echo "$SLURM_JOB_ID"' "on_exit: $work/notice"
printf '#!/bin/sh\nsleep 1; echo "$BERTD_STATE" >"%s/noticed"\n' "$work" >"$work/notice"
chmod +x "$work/notice"
SLURM_JOB_ID=42 run fine
reap
is "0 if it is done" "$code" 0
is "in the environment of the allocation" "$(cat "$work/out")" 42
is "its on_exit has ended" "$(cat "$work/noticed" 2>&1)" "done"
ok "its folder is removed" nothing_left

# ---- stops ----
make_spec train 2 100000 "run_dir: $work/train"
run train
trains() { compgen -G "$work/train/checkpoints/step-*.ckpt" >/dev/null; }
ok "a trainer trains" wait_for 60 trains
kill -USR1 "$runner"
reap
is "SIGUSR1: a checkpoint, and 75" "$code" 75
ok "one line says so" grep -q "^bertctl: train: stopped at step [0-9]*$" "$work/err"
ok "nothing is left" nothing_left
last=$(ls "$work/train/checkpoints" | tail -n 1)
run train
ok "the next run" wait_for 60 says 'step'
kill -TERM "$runner"
reap
is "ends likewise on SIGTERM" "$code" 75
ok "and began at the last checkpoint" at_least "$(ls "$work/train/checkpoints" | tail -n 1 | tr -dc 0-9 | sed 's/^0*//')" "$(tr -dc 0-9 <<<"$last" | sed 's/^0*//')"

# ---- kills ----
command_spec long 'echo begins; trap "sleep 0.2; exit 3" TERM; while :; do sleep 0.1; done'
run long
ok "a command runs" wait_for 20 says begins
kill -KILL "$runner"
reap
ok "after kill -9 of bertctl its bertd stops the job and ends" wait_for 20 none_runs
ok "and removes the folder" wait_for 5 nothing_left
run long
wait_for 20 says begins
kill -KILL "$(bertd_of "$runner")"
again() { [[ -n $(bertd_of "$runner") ]]; }
ok "a bertd that is killed is started again" wait_for 20 again
sleep 1
kill -INT "$runner"
reap
is "and stops the job" "$code" 75
is "which was begun once" "$(grep -c begins "$work/out")" 1
ok "nothing is left" nothing_left
run long
wait_for 20 says begins
kill -TERM "$(bertd_of "$runner")"
sleep 0.5
ok "a bertd with an owner ignores SIGTERM" again
kill -TERM "$runner"
wait_for 20 none_runs

# ---- Slurm ----
cat >"$work/bin/scontrol" <<'END'
#!/bin/sh
echo "$*" >>"$SCONTROL_SAID"
exit "${SCONTROL_CODE:-0}"
END
cat >"$work/bin/sbatch" <<'END'
#!/bin/sh
echo "$*" >"$SCONTROL_SAID"
cat >"$SCONTROL_SAID.script"
echo 4711
END
chmod +x "$work/bin/"*
export SCONTROL_SAID=$work/said
in_job() { local -x SLURM_JOB_ID=42; "$@"; }
in_task() { local -x SLURM_PROCID=3; in_job "$@"; }
with_slurm() { local -x PATH=$work/bin:$PATH; in_job "$@"; }
stop_and_requeue() { # [NAME=VALUE...]: the arguments that scontrol got
  rm -f "$SCONTROL_SAID"
  env PATH="$work/bin:$PATH" SLURM_JOB_ID=42 "$@" "$BERTCTL" run --requeue "$work/long.yaml" >"$work/out" 2>"$work/err" </dev/null &
  runner=$!
  wait_for 20 says begins
  kill -USR1 "$runner"
  reap
}
stop_and_requeue
is "after a stop the Slurm job is requeued" "$(cat "$SCONTROL_SAID")" "requeue 42"
is "and the code is 75" "$code" 75
stop_and_requeue SLURM_ARRAY_JOB_ID=40 SLURM_ARRAY_TASK_ID=0
is "an array's task by its own id" "$(cat "$SCONTROL_SAID")" "requeue 40_0"
rm "$SCONTROL_SAID"
with_slurm run seven --requeue
reap
ok "a job that failed is not requeued" test "$code" -eq 7 -a ! -e "$SCONTROL_SAID"
stop_and_requeue SCONTROL_CODE=1
ok "a requeue that fails is told" grep -q '^bertctl: scontrol requeue 42: failed; ' "$work/err"
ok "without scontrol --requeue is refused" in_job refuses 2 "scontrol is not in PATH" "$BERTCTL" run --requeue "$work/seven.yaml"
ok "so it is outside Slurm" refuses 2 "not in a Slurm job" "$BERTCTL" run --requeue "$work/seven.yaml"
ok "and in each task of a step" in_task refuses 2 "run it once" "$BERTCTL" run "$work/seven.yaml"

# GPUs and CPUs of the allocation; one GPU's name is not a number of them.
command_spec gpu 'echo "gpus $CUDA_VISIBLE_DEVICES"' "resources: {gpus: 1}"
CUDA_VISIBLE_DEVICES=3 SLURM_JOB_ID=42 run gpu
reap
is "a job gets the GPU of the allocation" "$(cat "$work/out")" "gpus 3"
CUDA_VISIBLE_DEVICES= SLURM_JOB_ID=42 run gpu
reap
ok "none, if it has none" grep -q "gpus: 1, this host has 0" "$work/err"
command_spec limits 'echo limits' "resources: {memory: 1G, cpus: 2}"
SLURM_JOB_ID=42 run limits
reap
is "limits of memory and CPUs are left to Slurm" "$code $(cat "$work/out")" "0 limits"
command_spec wide 'echo wide' "resources: {threads: 6}"
SLURM_CPUS_ON_NODE=4 SLURM_JOB_ID=42 run wide
reap
ok "more CPUs than the allocation has are refused" grep -q "= 6 slots, this host has 4" "$work/err"

# Continued: the counters and what was demoted are in run_dir.
make_spec again 1 100000 "run_dir: $work/again"
saves() { compgen -G "$work/again/checkpoints/step-*.ckpt" >/dev/null; }
SLURM_JOB_ID=42 run again
wait_for 60 saves
kill -USR1 "$runner"
reap
steps=$(jq .counters.run_steps "$work/again/bertd.json")
ok "a run's steps are counted in its folder" at_least "$steps" 1
jq '.counters.free_deaths = 3 | .checkpoints += [{step: 7, state: "demoted"}]' "$work/again/bertd.json" >"$work/again/new" && mv "$work/again/new" "$work/again/bertd.json"
cp "$work/again/checkpoints/$(ls "$work/again/checkpoints" | tail -n 1)" "$work/again/checkpoints/step-000000007.ckpt"
SLURM_JOB_ID=42 SLURM_RESTART_COUNT=1 run again
wait_for 60 says resuming
kill -USR1 "$runner"
reap
ok "in the next allocation they go on" at_least "$(jq .counters.run_steps "$work/again/bertd.json")" $((steps + 1))
is "deaths count on in a job that Slurm has requeued" "$(jq .counters.free_deaths "$work/again/bertd.json")" 3
is "what was demoted stays so" "$(jq -c '.checkpoints[] | select(.step == 7) | .state' "$work/again/bertd.json")" '"demoted"'
echo '{"host": "h9", "boot_id": "0", "job": 5, "attempt": 1, "pid": 1, "usec": 1}' >"$work/again/heartbeat"
touch -d "@$(($(date +%s) - 117))" "$work/again/heartbeat"
SLURM_JOB_ID=42 run again
ok "a lost node's heartbeat is waited for" wait_for 5 grep -q "the run lives on h9 (job 5): its heartbeat is 11[78] s old; .*; waiting at most 130 s" "$work/err"
ok "until it is old" wait_for 30 says resuming
kill -USR1 "$runner"
reap
is "but not in one that was submitted again" "$(jq .counters.free_deaths "$work/again/bertd.json")" 0

# Several nodes.
cat >"$work/bin/mpirun" <<'END'
#!/bin/sh
echo "mpirun $*"
if [ -n "$MPIRUN_LOSES" ]; then
  printf 'ORTE has lost communication with a remote daemon.\n\n  HNP daemon   : [[1,0],0] on node n1\n  Remote daemon: [[1,0],2] on node %s\n' "$MPIRUN_LOSES"
  exit 205
fi
while [ "${1##*/}" != bertd-gang ]; do shift; done
OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 exec "$@"
END
chmod +x "$work/bin/mpirun"
command_spec nodes 'echo "$RANK of $WORLD_SIZE on $NODE_RANK, to $MASTER_ADDR"' "resources: {ranks: 2, hosts: [a, b]}"
nodes() { # [NAME=VALUE...] -- SPEC
  env PATH="$work/bin:$PATH" SLURM_JOB_ID=42 SLURM_JOB_NUM_NODES=2 SLURM_JOB_NODELIST="n[1-2]" SLURMD_NODENAME=n2 "$@" >"$work/out" 2>"$work/err" </dev/null
  code=$?
}
nodes "$BERTCTL" run "$work/nodes.yaml"
ok "in an allocation of two nodes mpirun starts the ranks" grep -q "^mpirun -n 4 --map-by ppr:2:node --bind-to none --oversubscribe -wdir $PWD " "$work/out"
is "a command's with their variables" "$(tail -n 1 "$work/out")" "3 of 4 on 1, to n2"
rm "$SCONTROL_SAID"
nodes MPIRUN_LOSES=n1 "$BERTCTL" run --requeue "$work/nodes.yaml"
is "a node that is lost is Slurm's to replace" "$code $(cat "$SCONTROL_SAID")" "75 requeue 42"
is "and named" "$(cat "$work/err")" "bertctl: nodes: n1: lost from the allocation"
ok "without Slurm several hosts are refused" refuses 2 "2 hosts need a Slurm allocation" "$BERTCTL" run "$work/nodes.yaml"

# The batch script.
script() { "$BERTCTL" submit --slurm --print "$@"; }
is "the script asks for what the spec needs" "$(script --set resources.memory=1500M "$work/nodes.yaml" | sed -n '2,9p')" '#SBATCH --job-name=nodes
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@65
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=1
#SBATCH --mem=1500M'
is "sbatch's options follow, quoted as it reads them" "$(script -p gpu --comment='say "a\b"' "$work/nodes.yaml" | sed -n '9,10p')" '#SBATCH -p gpu
#SBATCH "--comment=say \"a\\b\""'
mkdir "$work/it's"
cp "$work/nodes.yaml" "$work/it's/a b.yaml"
is "and the command for a shell" "$(script "$work/it's/a b.yaml" | tail -n 1 | sed 's/^exec/printf "%s|"/' | sh)" \
  "$(readlink -f "$BERTCTL")|run|--requeue|$work/it's/a b.yaml|"
ok "it is submitted" equal "$(PATH=$work/bin:$PATH "$BERTCTL" submit --slurm "$work/nodes.yaml")" 4711
is "as it is printed" "$(cat "$SCONTROL_SAID.script")" "$(script "$work/nodes.yaml")"
ok "without sbatch: one line" refuses 1 "sbatch is not in PATH" "$BERTCTL" submit --slurm "$work/nodes.yaml"
make_spec bare 1 10
ok "--hosts is not sbatch's" refuses 2 "submit --slurm: --hosts: Slurm chooses the hosts; use sbatch's --nodes or --nodelist" "$BERTCTL" submit --slurm --hosts h1,h2 "$work/bare.yaml"
ok "nor --continue" refuses 2 "submit --slurm: --continue: a run continues in its run_dir" "$BERTCTL" submit --slurm --continue=runs/a "$work/bare.yaml"
ok "a trainer without run_dir is refused" refuses 2 "run_dir: missing" "$BERTCTL" submit --slurm "$work/bare.yaml"
ok "so it is by run" refuses 2 "run_dir: missing" "$BERTCTL" run "$work/bare.yaml"
ok "--print alone is refused" refuses 2 "only with it" "$BERTCTL" submit --print "$work/nodes.yaml"
ok "nothing is left" nothing_left
finish
