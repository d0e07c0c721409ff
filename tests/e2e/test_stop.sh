#!/bin/bash
# A stop reaches the program, and only the program, first: jobs as people write them, with wrappers, workers and pipes round a program that needs
# a second to save when it is told (saves.py). Each is told once, and what is in its way is told before or after, never instead.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip_all "needs python3"
cp "$(dirname "$0")/saves.py" "$work/"
start_bertd --slots 40
cd "$work" || exit 99
ok "corpus is prepared" make_corpus
make_spec mpi 2 1000000
sed -i 's/every_steps: 20/every_steps: 0, every_sec: 0/' mpi.yaml
mpi=$("$BERTCTL" submit mpi.yaml)
names=()
job() { # NAME COMMAND...: a job of its own folder that saves to NAME
  names+=("$1")
  submit "$@"
}
submit() {
  local name=$1
  shift
  "$BERTCTL" submit --name "$name" --grace 60 -- "$@" >/dev/null
}
saves="python3 $work/saves.py $work"
is_up() { [[ -e $work/$1.up ]]; }

printf '#!/bin/bash\n%s/wrapper\necho "exit code $?"\n' "$saves" >wrapper.sh
printf '#!/bin/bash\n%s/both 1 2\necho "exit code $?"\n' "$saves" >both.sh
printf 'trap "echo trapped" TERM\n%s/trap\nwait\n' "$saves" >trap.sh
chmod +x wrapper.sh both.sh
job direct $saves/direct
job wrapper ./wrapper.sh
job workers $saves/workers 1 2
job both ./both.sh
job trap bash trap.sh
job login bash -c "exec -a -bash bash -c '$saves/login; true'"
job chain bash -c "bash -c '$saves/chain; true'; true"
job python python3 -c 'import subprocess, sys; subprocess.run(sys.argv[1:])' $saves/python
job timeout timeout 1000 $saves/timeout
job group timeout 1000 $saves/group 1 2
job script env SHELL=/bin/sh script -qc "$saves/script 1 2; true" /dev/null
job unshare unshare -f $saves/unshare 1 2
[[ $(id -u) != 0 ]] || job su su -c "$saves/su 4; true" root
job pair sh -c "$saves/pair & $saves/other & wait"
names+=(other)
job pipe bash -c "$saves/pipe | tee pipe.log"
job substitution bash -c "exec > >(tee substitution.log); $saves/substitution; true"
job nohup nohup setsid -w nice env $saves/nohup
job stopped $saves/stopped
job frozen bash -c "$saves/frozen; true"
job all bash -c "$saves/all; true"
printf 'exec %s/rank$OMPI_COMM_WORLD_RANK 3\n' "$saves" >rank.sh
printf '#!/bin/bash\nmpirun --oversubscribe -n 2 sh rank.sh\necho "exit code $?"\n' >mpirun.sh
chmod +x mpirun.sh
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
submit ranks ./mpirun.sh
names+=(rank0 rank1)
all_up() { for n in "${names[@]}"; do is_up "$n" || return 1; done; }
ok "all run" wait_for 60 all_up
# Somebody has stopped (SIGSTOP) the program, wrapper and program, the shim as well, mpirun and a rank.
pids() { # JOB COMM...
  local id
  id=$(field "$1" id)
  shift
  for comm; do of_job "$id" "$comm"; done
}
ok "a trainer trains" wait_for 60 step_past "$mpi" 5
kill -STOP $(pids stopped python3) $(pids frozen python3 bash) $(pids all python3 bash) "$(shim_of "$(field all id)")"
kill -STOP $(pids mpi mpirun) "$(pids mpi bert-trainer | head -n 1)"
"$BERTCTL" pause "$mpi" ranks
for n in "${names[@]}"; do [[ $n == other || $n == rank? ]] || "$BERTCTL" pause "$n"; done
ok "ranks: pauses" wait_for 20 state_is ranks paused
for n in "${names[@]}"; do
  [[ $n == other || $n == rank? ]] || ok "$n: pauses" wait_for 20 state_is "$n" paused
  is "$n: has saved, told once" "$(cat "$n" 2>&1)" "saved, told 1"
done
is "the pipe's reader has heard it all" "$(xargs <pipe.log) / $(xargs <substitution.log)" "up saving saved / up saving saved"
is "the trap ran when its command had ended" "$("$BERTCTL" logs trap | xargs)" "up saving saved trapped"
ok "mpirun and its ranks go on to pause" wait_for 60 state_is "$mpi" paused
is "with a checkpoint of the last step" "$(field "$mpi" checkpoint_step)" "$(field "$mpi" step)"
is "no wrapper went on" "$("$BERTCTL" logs wrapper | xargs) / $("$BERTCTL" logs both | xargs)" "up saving saved / up saving saved"

# The other ways to stop: each lets the program save behind its wrapper.
each=(cancel shutdown unit)
names=("${each[@]}" now)
for n in "${names[@]}"; do submit "$n" bash -c "$saves/$n; true"; done
cat >checkpoint.py <<'END'
import os, signal, socket, time
path = os.environ["BERTD_RUN_DIR"] + "/checkpoints/step-000000005.ckpt"
def term(*_):
    time.sleep(1)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write("weights")
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(f"X_BERTD_CHECKPOINT={path}".encode(), os.environ["NOTIFY_SOCKET"])
    os._exit(75)
signal.signal(signal.SIGTERM, term)
print("up", flush=True)
time.sleep(1000)
END
submit checkpoint bash -c "python3 $work/checkpoint.py; true"
deaf=$("$BERTCTL" submit --grace 2 -- bash -c 'python3 -c "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(\"up\", flush=True); time.sleep(1000)"; true')
says_up() { "$BERTCTL" logs "$1" 2>/dev/null | grep -qx up; }
ok "all run again" wait_for 30 eval 'all_up && says_up checkpoint && says_up "$deaf"'
begin=${EPOCHREALTIME/./}
"$BERTCTL" pause "$deaf"
"$BERTCTL" pause checkpoint
"$BERTCTL" cancel cancel
kill -TERM "$(shim_of "$(field unit id)")"
"$BERTCTL" pause now
"$BERTCTL" cancel --now now
ok "cancel --now waits for nothing" wait_for 10 state_is now cancelled
is "nothing is saved" "$(no_file . now && echo none)" none
ok "cancel" wait_for 20 state_is cancel cancelled
ok "a checkpoint that is reported behind a dead wrapper" wait_for 20 state_is checkpoint paused
is "is the job's" "$(field checkpoint checkpoint_step)" 5
ok "what is deaf is killed" wait_for 20 state_is "$deaf" paused
ok "when the grace time is over, not before" test $((${EPOCHREALTIME/./} - begin)) -ge 2000000
ok "and is named" grep -q "^paused; grace time expired, killed: python3 " <<<"$(field "$deaf" reason)"
"$BERTCTL" shutdown --jobs
wait "$bertd_pid"
for n in "${each[@]}"; do is "$n: has saved, told once" "$(cat "$n" 2>&1)" "saved, told 1"; done
finish
