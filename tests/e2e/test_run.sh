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

finish
