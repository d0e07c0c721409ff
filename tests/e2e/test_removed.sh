#!/bin/bash
# Files of bertd's that somebody removes while jobs run: an attempt's folder, its exit.json, log, socket, lock and tombstone, jobs/ as a whole,
# state.db. What a shim saw is recorded all the same, no job is run again, and what cannot be kept is refused.
. "$(dirname "$0")/lib.sh"
attempt_of() { echo "$BERTD_STATE_DIR/jobs/$1/attempt-1"; }
run() { # NAME SCRIPT [OPTION...]: a job that writes a line each time that it runs, until $work/NAME.go is there, then SCRIPT; prints its id
  local name=$1 script=$2
  shift 2
  "$BERTCTL" submit "$@" -- sh -c "echo \$\$ >>$work/$name.runs; until [ -e $work/$name.go ]; do sleep 0.1; done; $script"
}
runs() { wc -l <"$work/$1.runs"; }
let_go() { touch "$work/$1.go"; }
begun() { wait_for 20 test -s "$work/$1.runs"; }
ended_as() { # JOB: state, exit code and signal, attempts
  wait_for 30 has_ended "$1"
  echo "$(field "$1" state) $(field "$1" exit) $(field "$1" exit_signal) $(field "$1" attempts)"
}
has_ended() { [[ $(field "$1" state) =~ ^(done|failed|cancelled|backoff)$ ]]; }

# The folder of an attempt, or of the job.
start_bertd
seven=$(run seven 'exit 7' --retries 0)
segv=$(run segv 'kill -SEGV $$' --retries 0)
zero=$(run zero 'exit 0')
job=$seven
for name in seven segv zero; do begun $name; done
rm -r "$(attempt_of "$seven")" "$(attempt_of "$segv")" "$BERTD_STATE_DIR/jobs/$zero"
for name in seven segv zero; do let_go $name; done
is "without its folder a job's exit code is recorded" "$(ended_as "$seven")" "failed 7 null 1"
is "and a signal" "$(ended_as "$segv")" "failed null SIGSEGV 1"
is "and that it is done" "$(ended_as "$zero")" "done 0 null 1"
is "none is run again" "$(runs seven) $(runs segv) $(runs zero)" "1 1 1"
is "with the reason that the shim saw" "$(field "$seven" first_cause)" "exit code 7"
ok "such a job can be removed" quietly "$BERTCTL" rm "$zero"
asked=$(run asked 'sleep 1000')
begun asked
rm -r "$BERTD_STATE_DIR/jobs/$asked"
let_go asked
ok "it is paused as others are" quietly "$BERTCTL" pause "$asked"
ok "and is then paused" wait_for 20 state_is "$asked" paused
"$BERTCTL" resume "$asked"
ok "resume makes the folder anew" wait_for 20 test -s "$BERTD_STATE_DIR/jobs/$asked/attempt-2/attempt.json"
"$BERTCTL" cancel --now "$asked"

# The same without a bertd: the shim waits for one.
away=$(run away 'exit 7' --retries 0)
job=$away
begun away
shim=$(shim_of "$away")
kill_bertd
mv "$(attempt_of "$away")" "$work/moved"
let_go away
child=$(cat "$work/away.runs")
ok "it ends without a bertd" wait_for 20 not lives "$child"
sleep 1 # time for a mistake
ok "its shim waits for one" lives "$shim"
start_bertd
is "and tells how it ended" "$(ended_as "$away")" "failed 7 null 1"
ok "then it goes" wait_for 20 not lives "$shim"
is "the job was run once" "$(runs away)" 1
away=$(run term 'exit 7' --retries 0)
begun term
shim=$(shim_of "$away")
kill_bertd
rm -r "$(attempt_of "$away")"
let_go term
child=$(cat "$work/term.runs")
wait_for 20 not lives "$child" >/dev/null
ok "SIGTERM ends a shim that waits: a host that shuts down does not wait for it" eval 'lives "$shim" && kill "$shim" && wait_for 5 not lives "$shim"'
start_bertd
"$BERTCTL" cancel --now "$away" 2>/dev/null

# exit.json is damaged before bertd reads it.
damaged=$(run damaged 'exit 7' --retries 0)
job=$damaged
begun damaged
kill -STOP "$bertd_pid"
let_go damaged
wait_for 20 test -s "$(attempt_of "$damaged")/exit.json"
echo '{"version":1' >"$(attempt_of "$damaged")/exit.json"
kill -CONT "$bertd_pid"
is "a damaged exit.json: the report counts" "$(ended_as "$damaged")" "failed 7 null 1"
ok "and the log says so" grep -q "job $damaged attempt 1: exit.json: line 2: .*; result as reported by its shim" "$work/bertd.log"
kept=$(run kept 'exit 7' --retries 0)
begun kept
kill -STOP "$bertd_pid"
let_go kept
wait_for 20 test -s "$(attempt_of "$kept")/exit.json"
sed -i 's/"exit_code":7/"exit_code":8/' "$(attempt_of "$kept")/exit.json"
kill -CONT "$bertd_pid"
is "one that can be read goes before the report" "$(ended_as "$kept")" "failed 8 null 1"

# Log, socket, lock and tombstone.
cat >"$work/steps.py" <<'END'
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
step = 0
while not os.path.exists(sys.argv[1]):
    step += 1
    print("step", step, flush=True)
    try: s.sendto(b"X_BERTD_STEP=%d" % step, os.environ["NOTIFY_SOCKET"])
    except OSError: pass
    time.sleep(0.1)
END
steps=$("$BERTCTL" submit --hang-sec 3 -- python3 "$work/steps.py" "$work/steps.go")
anew=$("$BERTCTL" submit --hang-sec 3 -- python3 "$work/steps.py" "$work/steps.go")
blind=$("$BERTCTL" submit --hang-sec 3 -- python3 "$work/steps.py" "$work/steps.go")
job=$steps
wait_for 20 step_past "$anew" 3
wait_for 20 step_past "$steps" 3
wait_for 20 step_past "$blind" 3
folder=$(attempt_of "$steps")
rm -r "$(attempt_of "$anew")" "$BERTD_STATE_DIR/jobs/$blind"
: >"$BERTD_STATE_DIR/jobs/$blind" # in the way of a folder
rm "$folder/log" "$folder/notify" "$folder/lock"
ok "a log that was removed is made anew" wait_for 20 grep -q "^step " "$folder/log"
ok "and says so" grep -q "^bertd: the log was removed" "$folder/log"
ok "so is the socket" wait_for 20 test -S "$folder/notify"
at=$(field "$steps" step)
ok "steps arrive again" wait_for 20 step_past "$steps" $((at + 3))
ok "as a whole, the attempt's folder is made anew" wait_for 20 grep -q "^step " "$(attempt_of "$anew")/log"
at=$(field "$anew" step)
ok "and steps arrive" wait_for 20 step_past "$anew" $((at + 3))
quietly timeout 20 "$BERTD-shim" --job "$steps" --attempt 1 --socket "$BERTD_SOCKET" --dir "$folder"
ok "a second shim, which the lock's file no longer keeps away, is sent away by bertd" test $? -eq 0
is "the job did not notice" "$(field "$steps" state) $(field "$steps" attempts) $(pgrep -fc "steps.py $work/steps.go")" "running 1 3"
sleep $((2 * 3 + 1)) # twice the limit
is "a job whose socket cannot be made anew is not taken for hung" "$(field "$blind" state) $(field "$blind" attempts)" "running 1"
touch "$work/steps.go"
is "and ends" "$(ended_as "$blind")" "done 0 null 1"
is "so do the others" "$(ended_as "$steps") $(ended_as "$anew")" "done 0 null 1 done 0 null 1"
folder=$(attempt_of "$damaged")
ok "an attempt that is closed has a tombstone" test -e "$folder/tombstone"
rm "$folder/tombstone" "$folder/exit.json"
quietly timeout 20 "$BERTD-shim" --job "$damaged" --attempt 1 --socket "$BERTD_SOCKET" --dir "$folder"
is "without it bertd sends a late shim away" "$? $(runs damaged)" "0 1"

# All of jobs/.
all=$(run all 'exit 7' --retries 0)
job=$all
begun all
rm -r "$BERTD_STATE_DIR/jobs"
after=$("$BERTCTL" submit -- true)
ok "jobs/ is made anew for the next job" wait_job "$after" 30
ok "bertd says so" grep -q "$BERTD_STATE_DIR/jobs was removed or replaced" "$work/bertd.log"
let_go all
is "one that ran has ended as its shim saw" "$(ended_as "$all") $(runs all)" "failed 7 null 1 1"

# bertd's own lock.
rm "$BERTD_STATE_DIR/bertd.lock"
ok "without bertd.lock a second bertd is refused all the same" refuses 1 "in use by another bertd" timeout 30 "$BERTD" --launcher fork --socket "$work/other.sock"

# state.db, and its log.
lasts=$("$BERTCTL" submit -- sleep 1000)
job=$lasts
wait_for 20 state_is "$lasts" running
for name in state.db state.db-wal; do
  rm "$BERTD_STATE_DIR/$name"
  ok "$name is removed: a submit is refused" refuses 1 "state.db: .*removed.*IF STATE.DB IS DAMAGED" "$BERTCTL" submit -- true
  ok "so is rm" refuses 1 "state.db: .*removed" "$BERTCTL" rm "$seven"
  ok "what was kept is shown" state_is "$lasts" running
  # As bertd(8) has it.
  for f in state.db state.db-wal; do
    [[ -e $BERTD_STATE_DIR/$f ]] || cp "$(find "/proc/$bertd_pid/fd" -lname "*/$f (deleted)" | head -n 1)" "$BERTD_STATE_DIR/$f"
  done
  kill_bertd
  start_bertd
  is "the cure of bertd(8) brings all back" "$(field "$lasts" state) $(field "$lasts" attempts) $(field "$all" state)" "running 1 failed"
  ok "and a submit is taken" quietly "$BERTCTL" submit -- true
done
finish
