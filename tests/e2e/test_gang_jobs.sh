#!/bin/bash
# Jobs over two hosts: a training run has the bits of one host, stops and continues; what travels to other hosts; a declared signal; a
# hang with the stacks of all hosts; a host that is drained.
. "$(dirname "$0")/gang_bed.sh"
. "$(dirname "$0")/lib.sh"
command -v mpirun >/dev/null || skip_all "no mpirun"
cleanup() { kill_bertd; bed_end; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
diagnose() { "$BERTCTL" list; [[ -z ${job:-} ]] || { "$BERTCTL" status "$job"; "$BERTCTL" events "$job"; "$BERTCTL" logs -n 25 "$job"; }; }
checkpoint() { printf '%s/jobs/%s/checkpoints/step-%09d.ckpt' "$BERTD_STATE_DIR" "$1" "$2"; }

TRAVELS=yes STAYS=yes OMP_X=yes TMPDIR=$bed/tmp/head SSH_CONNECTION=x XDG_RUNTIME_DIR= start_bertd
mkdir -p "$bed/tmp/head"

more_resources=', environment: [TRAVELS]' job=$(TRAVELS="a b" STAYS=1 OMP_X=2 SSH_CONNECTION=3 TMPDIR=$bed/tmp/head submit_on h1,h2 2 \
  sh -c '[ $RANK = 0 ] || env | sort')
more_resources=
ok "a command runs on two hosts" wait_job "$job"
log_of "$job" >"$work/env"
for v in "TRAVELS=a b" "OMP_X=2" "BERTD_JOB_ID=$job" "BERTD_ATTEMPT=1" RANK=1 WORLD_SIZE=2 NNODES=2 NODE_RANK=1 LOCAL_RANK=0; do
  ok "its rank there has $v" grep -qx "$v" "$work/env"
done
ok "and nothing that belongs to this host" not grep -E '^(STAYS|SSH_CONNECTION|NOTIFY_SOCKET|BERTD_NONCE|BERTD_GANG_FD)=|tmp/head' "$work/env"

more_resources=', network: 10.77.0.0/24' job=$(submit_on h1,h2 2 sh -c 'echo at $MASTER_ADDR')
more_resources=
ok "a job has a network" wait_job "$job"
is "and its address there" "$(log_of "$job" | grep -c "^at 10.77.0.1$")" 2

cat >"$work/saves.py" <<'EOF'
import os, signal, socket, sys, time
rank = int(os.environ["RANK"])
def save(number, frame):
    os.write(1, b"rank %d got %d\n" % (rank, number))
    sys.exit(75)
signal.signal(signal.SIGUSR1, save)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
if rank == 0:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ["NOTIFY_SOCKET"])
    s.send(b"READY=1\nX_BERTD_SIGNALS=stop:USR1\nX_BERTD_STEP=1\nX_BERTD_STEPS=9")
os.write(1, b"rank %d is up\n" % rank) # at once: the ranks share a log
time.sleep(600)
EOF
job=$(submit_on h1,h2 2 python3 "$work/saves.py")
up() { local t; t=$(log_of "$job") && [[ $t == *"rank 0 is up"* && $t == *"rank 1 is up"* ]]; }
ok "ranks that save on SIGUSR1 are up" wait_for 10 up
sleep 0.3
ok "a stop" "$BERTCTL" pause "$job"
ok "ends them" wait_state "$job" paused
for i in 0 1; do ok "rank $i got the signal" says "$(log_of "$job")" "rank $i got 10"; done

cat >"$work/deaf.py" <<'EOF'
import os, signal, socket, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ["RANK"] == "0":
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ["NOTIFY_SOCKET"])
    s.send(b"X_BERTD_STEP=7")
time.sleep(600)
EOF
more_restart=", grace_sec: 2" job=$(submit_on h1,h2 2 python3 "$work/deaf.py")
more_restart=
ok "ranks that ignore SIGTERM are up" wait_for 20 step_past "$job" 7
is "a program without a status of its own is not starting for ever" "$(field "$job" status)" ""
"$BERTCTL" cancel "$job"
ok "cancel kills them" wait_state "$job" cancelled
is "and names them, not what started them" "$(field "$job" reason)" "cancelled; grace time expired, killed: python3 $work/deaf.py"

job=$(submit_on h1,h2 2 sh -c 'sleep 300 & echo rank $RANK is over')
ok "ranks that leave a process behind end without it" wait_job "$job"
for i in 0 1; do ok "rank $i names it" says "$(log_of "$job")" "bertd: rank $i left 1 process behind, stopped: sleep"; done
is "it is gone on both hosts" "$(processes_on h1 sleep; processes_on h2 sleep)" ""
job=$("$BERTCTL" submit --hosts h1,h2 --retries 0 --ends-with last -- sh -c '(sleep 1; exit $RANK) & exit 0')
ok "with --ends-with last a later failure is one" not wait_job "$job"
ok "of that rank" says "$(record_of "$job" 1 reason)" '^rank 1 on h2: exit code 1'
job=$("$BERTCTL" submit --hosts h1,h2 --retries 0 --ends-with last -- sh -c '(sleep 1; echo late $RANK) & exit 0')
ok "and a later end is awaited" wait_job "$job"
for i in 0 1; do ok "of rank $i" says "$(log_of "$job")" "late $i"; done
job=$("$BERTCTL" submit --hosts h1,h2 --retries 0 -- sh -c 'cd /; mpirun -n 2 hostname')
ok "a program that calls mpirun" not wait_job "$job"
ok "is told so" says "$("$BERTCTL" status "$job")" 'the program calls mpirun: bertd starts the ranks; give the program alone'

cat >"$work/saver.py" <<'EOF'
import os, signal, sys, time
def say(text):
    os.write(1, (text + "\n").encode())
def stop(number, frame):
    say("rank %s got SIGTERM" % os.environ["RANK"])
    if os.environ["RANK"] == sys.argv[2]:
        time.sleep(3)
        say("it has saved")
    os._exit(int(sys.argv[1]))
signal.signal(signal.SIGTERM, stop)
say("rank %s is up" % os.environ["RANK"])
while True:
    time.sleep(1)
EOF
printf '#!/bin/sh\npython3 %s "$@"\necho after\n' "$work/saver.py" >"$work/script"
chmod +x "$work/script"
launcher='import subprocess, sys; subprocess.call(sys.argv[1:])'
stops() { # OPTION... -- COMMAND...: the rank that saves does so for longer than the other lives, and than what is left behind may; each is asked once
  local text
  job=$("$BERTCTL" submit --grace 60 --hosts h1,h2 "$@")
  wait_for 10 up && sleep 0.3 && "$BERTCTL" pause "$job" && wait_state "$job" paused && text=$(log_of "$job") && says "$text" "it has saved" &&
    [[ $(grep -c "got SIGTERM" <<<"$text") == 2 && $(record_of "$job" 1 class) == stopped ]]
}
for rank in 0 1; do
  ok "rank $rank still saves when the other has stopped" stops -- python3 "$work/saver.py" 75 $rank
  ok "behind a shell that reads it" stops -- sh -c "python3 $work/saver.py 0 $rank | cat; echo after"
done
ok "behind a script" stops -- "$work/script" 0 1
ok "behind a launcher that ends at once" stops -- sh -c "exec python3 -c '$launcher' python3 $work/saver.py 0 1"
ok "the same, to its last process" stops --ends-with last -- python3 -c "$launcher" python3 "$work/saver.py" 0 0
ok "where the others fail" stops -- python3 -c "import os, sys; sys.argv[1] = '0' if os.environ['RANK'] == '0' else '1'; exec(open('$work/saver.py').read())" 0 0
job=$("$BERTCTL" submit --hosts h1,h2 -- echo a : b)
ok "a colon is an argument" wait_job "$job"
is "of each rank" "$(log_of "$job" | grep -c '^a : b$')" 2

cat >"$work/steps.py" <<'EOF'
import os, socket, time
if os.environ["RANK"] == "0":
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ["NOTIFY_SOCKET"])
    for step in range(1, 4):
        s.send(b"X_BERTD_STEP=%d\nX_BERTD_STEPS=5" % step)
        time.sleep(0.2)
time.sleep(600 if os.environ["BERTD_ATTEMPT"] == "1" else 0.1)
EOF
more_restart=", hang_sec: $((2 * patience))" job=$(submit_on h1,h2 2 python3 "$work/steps.py")
more_restart=
ok "ranks are up" wait_for 10 is_running "$job" h2 python3
kill -STOP $(processes_on h2 python3)
ok "one that hangs is found" wait_for 40 attempt_past "$job" 2
is "by class hang" "$(record_of "$job" 1 class)" hang
ok "the stopped rank is named" says "$(record_of "$job" 1 reason)" 'rank 1 on h2 is stopped'
evidence=$(record_of "$job" 1 evidence)
ok "the stacks of h2 are there" grep -q python "$evidence/h2.txt"
ok "it is done then" wait_job "$job"

job=$(submit_on h1,h2,h3 2 sleep 600)
ok "ranks are up" wait_for 10 is_running "$job" h2 sleep
touch "$bed/fake/h2.draining"
ok "h2 drains: the job moves" wait_for 10 is_running "$job" h3 sleep
is "by class stopped" "$(record_of "$job" 1 class)" stopped
ok "for that reason" says "$(record_of "$job" 1 reason)" '^host h2 drains: '
ok "without a cool-down" equal "$(field "$job" attempts)" 2
rm "$bed/fake/h2.draining"
"$BERTCTL" cancel --now "$job"
ok "it ends" wait_state "$job" cancelled

ok "corpus is prepared" make_corpus
make_spec one 2 400
make_spec two 1 400
sed -i 's/resources: {/resources: {hosts: [h1, h2], host_timeout_sec: 8, /' "$work/two.yaml"
one=$("$BERTCTL" submit "$work/one.yaml")
ok "two ranks train on one host" wait_job "$one"
job=$("$BERTCTL" submit "$work/two.yaml")
ok "a run trains on two" wait_for 30 step_past "$job" 5
ok "a stop" "$BERTCTL" pause "$job"
ok "pauses it" wait_state "$job" paused
is "after a checkpoint" "$(record_of "$job" 1 exit_code) $(record_of "$job" 1 class)" "75 stopped"
ok "nothing is left there" wait_for 5 empty_on h2
ok "it resumes" "$BERTCTL" resume "$job"
ok "and is done" wait_job "$job"
ok "both have the same bits" "$BERT_TRAINER" diff "$(checkpoint "$one" 400)" "$(checkpoint "$job" 400)"

finish
