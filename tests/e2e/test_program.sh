#!/bin/bash
# Programs that are not the trainer, on python/bertd.py: checkpoints that are folders, a resume, stops, checkpoints on request, stacks of a
# hang, what is not recorded and why, and what such a program finds in its environment.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip_all "needs python3"
export PYTHONPATH=$source_dir/python
unset PYTHONUNBUFFERED MASTER_PORT PET_MASTER_PORT TORCHELASTIC_ERROR_FILE
start_bertd
program=("python3" "$source_dir/tests/e2e/program.py")
rows() { "$BERTCTL" checkpoints --json "$1" | jq -c "[.[] | select(.state == \"$2\") | .step] | sort"; } # JOB STATE
has_row() { "$BERTCTL" checkpoints --json "$1" | jq -e ".[] | select(.step == $2 and .state == \"$3\")" >/dev/null; }
log() { cat "$BERTD_STATE_DIR/jobs/$1/attempt-$2/log"; } # JOB ATTEMPT
events() { "$BERTCTL" events --json "$1" | jq -r '.[] | "\(.what): \(.reason)"'; }

# A death: again from the newest folder.
job=$("$BERTCTL" submit -- "${program[@]}" 60 die=47)
ok "a program that dies is brought back and ends" wait_job "$job" 60
is "from the folder that it saved last" "$(log "$job" 2 | head -n 1)" "begin at step 40"
is "which was restored once" "$("$BERTCTL" checkpoints --json "$job" | jq -c '.[] | select(.step == 40) | [.path, .restored, .size > 0]')" \
  "[\"$BERTD_STATE_DIR/jobs/$job/checkpoint-40\",1,true]"
is "every folder is in the ledger" "$(rows "$job" good)" "[10,20,30,40,50,60]"
ok "the steps since then are lost" at_least "$(field "$job" lost_steps)" 1

# A stop: 75 after a checkpoint, and on from there. A checkpoint on request.
job=$("$BERTCTL" submit -- "${program[@]}" 100000 every=1000)
ok "a program that declared a signal is asked for a checkpoint" wait_for 20 quietly "$BERTCTL" checkpoint "$job"
one_good() { [[ $(rows "$job" good) == \[*[0-9]\] ]]; }
ok "and takes one" wait_for 20 one_good
quietly "$BERTCTL" pause "$job"
ok "asked to pause it stops" wait_for 20 state_is "$job" paused
is "with a checkpoint, in its own words" "$(field "$job" first_cause)" "stopped after a checkpoint (exit code 75)"
last=$(rows "$job" good | jq 'max')
quietly "$BERTCTL" resume "$job"
goes_on() { log "$job" 2 | grep -qx "begin at step $last"; }
ok "and resumes there" wait_for 20 goes_on
# Its own retention is noticed; a folder that is gone is not begun from.
rm -r "$BERTD_STATE_DIR/jobs/$job/checkpoint-$last"
wait_for 20 quietly "$BERTCTL" checkpoint "$job"
deleted() { has_row "$job" "$last" deleted; }
ok "a folder that the program removes is deleted in the ledger" wait_for 20 deleted
"$BERTCTL" cancel --now "$job"
plain=$("$BERTCTL" submit -- sleep 100)
wait_for 20 state_is "$plain" running
ok "one that declared nothing cannot be asked" refuses 1 "has not declared a checkpoint signal" "$BERTCTL" checkpoint "$plain"
"$BERTCTL" cancel --now "$plain"

# A hang: the Python stacks of all threads. Work between two steps is none.
job=$("$BERTCTL" submit --hang-sec 2 --retries 0 -- "${program[@]}" 100 busy=6 hang=12)
wait_job "$job" 60
ok "work between two steps is no hang" at_least "$(field "$job" step)" 10
is "a hang is found" "$(field "$job" exit_class)" hang
ok "with the Python stack of the process beside the log" grep -q 'program.py", line' "$BERTD_STATE_DIR/jobs/$job/attempt-1/hang-1/python-"*.txt

# What is not recorded, and why; each line once in the log. Steps that go back; 10,000 reports.
cat >"$work/reports.py" <<'END2'
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(*lines):
    s.sendto("\n".join(lines).encode("utf-8", "surrogateescape"), os.environ["NOTIFY_SOCKET"])
run = os.environ["BERTD_RUN_DIR"]
def make(name, text="x"):
    open(f"{run}/{name}", "w").write(text)
    return f"{run}/{name}"
say("READY=1", "X_BERTD_STEP=nan", "X_BERTD_STEP=-3")
say("X_BERTD_CHECKPOINT=" + make("stepless"))
say("X_BERTD_STEP=50", "X_BERTD_STEPS=100")
say("X_BERTD_CHECKPOINT=/etc/passwd")
say("X_BERTD_CHECKPOINT=" + run + "/../x")
say("X_BERTD_CHECKPOINT=" + run + "/absent")
os.symlink(make("real"), run + "/link")
say("X_BERTD_CHECKPOINT=" + run + "/link")
os.symlink("/etc", run + "/out")
say("X_BERTD_CHECKPOINT=" + run + "/out/passwd")
os.mkfifo(run + "/pipe")
say("X_BERTD_CHECKPOINT=" + run + "/pipe")
say("X_BERTD_CHECKPOINT=" + make("empty", ""))
say("X_BERTD_CHECKPOINT=" + run + "/\udcff")
for step in ("-3", "nan", "0", "1e3", "", "9223372036854775807"):
    say("X_BERTD_CHECKPOINT_STEP=" + step, "X_BERTD_CHECKPOINT=" + make("badstep"))
say("X_BERTD_\udcff=1", "STATUS=caf\udce9", "X_BERTD_LOSS=nan", "X_BERTD_SIGNALS=stop:KILL,checkpoint:\udcff", "MAINPID=1", "X_BERTD_STACKS=KILL")
say("X_BERTD_CHECKPOINT_STEP=44", "X_BERTD_CHECKPOINT=" + make("mine"))
say("X_BERTD_CHECKPOINT_STEP=44", "X_BERTD_CHECKPOINT=" + make("mine"))
say("X_BERTD_CHECKPOINT=" + make("fifty"))
os.mkdir(run + "/folder")
say("X_BERTD_CHECKPOINT_STEP=48", "X_BERTD_CHECKPOINT=" + os.path.dirname(make("folder/part")) + "//")
while not os.path.exists(sys.argv[2]): time.sleep(0.05)
say("X_BERTD_STEP=30")
time.sleep(1)
for i in range(10000):
    say("X_BERTD_STEP=%d" % (31 + i % 3), "X_BERTD_CHECKPOINT_STEP=60", "X_BERTD_CHECKPOINT=" + run + "/real")
print("port", os.environ["MASTER_PORT"], os.environ["PET_MASTER_PORT"], "unbuffered", os.environ["PYTHONUNBUFFERED"])
time.sleep(float(sys.argv[1]))
END2
rss() { awk '/^VmRSS:/ {print $2}' "/proc/$1/status"; } # PID: kB
before=$(rss "$bertd_pid")
job=$("$BERTCTL" submit -- python3 "$work/reports.py" 2 "$work/go-back")
confirmed() { [[ $(rows "$job" good) == "[44,48,50]" ]]; }
wait_for 30 confirmed
touch "$work/go-back"
ok "a program that reports what cannot be ends anyway" wait_job "$job" 60
is "what can be is recorded, with its own step or the last one" "$(rows "$job" good)" "[44,48,50,60]"
refused() { log "$job" 1 | grep -q "bertd: checkpoint [^ ]*$1: $2; not recorded"; }
ok "10,000 reports in a moment take no memory of bertd's" at_least $((16384 - $(rss "$bertd_pid") + before)) 0
is "none has a huge one" "$("$BERTCTL" checkpoints --all --json "$job" | jq 'map(.step) | max')" 60
ok "not without a step" refused /stepless "without a step (X_BERTD_CHECKPOINT_STEP)"
ok "nor with one that is not a number from 1" refused /badstep "without a step (X_BERTD_CHECKPOINT_STEP)"
ok "not elsewhere" refused /etc/passwd "not below the job's run folder or working directory"
ok "not by .." refused '/../x' "not below .*"
ok "not what is not there" refused /absent "no such file or folder"
ok "not a link" refused /link "not below .*\|expected a file or a folder, not a link"
ok "not through a link" refused /out/passwd "not below .*"
ok "not a pipe" refused /pipe "expected a file or a folder, not a link"
ok "not an empty file" refused /empty "empty"
ok "not what is not UTF-8" refused '' "not UTF-8, or contains control characters"
ok "a step that goes back is said" grep -qx "back: from step 50 to 30" <<<"$(events "$job")"
ok "a free port, and output at once" grep -qE '^port ([0-9]+) \1 unbuffered 1$' <<<"$(log "$job" 1)"
job=$(MASTER_PORT=12345 PYTHONUNBUFFERED= "$BERTCTL" submit -- python3 -c 'import os; print(os.environ["MASTER_PORT"], os.environ.get("PET_MASTER_PORT"), repr(os.environ["PYTHONUNBUFFERED"]))')
wait_job "$job" 30
is "but not where the submitter has set them" "$(log "$job" 1)" "12345 None ''"

# One name for all checkpoints.
cat >"$work/last.py" <<'END2'
import os, time
import bertd
path = bertd.run_dir("out") + "/last.pt"
for step in (10, 20):
    open(path, "w").write(str(step))
    bertd.saved(path, step)
    while step == 10 and not os.path.exists(path + ".go"):
        bertd.stopping()
        time.sleep(0.05)
END2
job=$("$BERTCTL" submit -- python3 "$work/last.py")
wait_for 20 has_row "$job" 10 good
touch "$BERTD_STATE_DIR/jobs/$job/last.pt.go"
wait_job "$job" 30
is "a name that is used again stands for the newer checkpoint" "$(rows "$job" good) $(rows "$job" deleted)" "[20] [10]"

# Wrappers: a stop reaches the program, which alone has declared it, and the job's exit code is its own.
cat >"$work/run.sh" <<'END2'
echo prepared
python3 "$1" 100000 every=20
END2
job=$("$BERTCTL" submit -- bash "$work/run.sh" "$source_dir/tests/e2e/program.py")
wait_for 20 one_good
quietly "$BERTCTL" pause "$job"
ok "a stop reaches the program below bash run.sh" wait_for 20 state_is "$job" paused
is "which ends with a checkpoint" "$(field "$job" first_cause)" "stopped after a checkpoint (exit code 75)"
"$BERTCTL" cancel --now "$job"
# As accelerate does with one process.
job=$("$BERTCTL" submit -- python3 -c 'import subprocess, sys; subprocess.run([sys.executable] + sys.argv[1:], check=True)' "$source_dir/tests/e2e/program.py" 100000 every=20)
wait_for 20 one_good
quietly "$BERTCTL" pause "$job"
wait_for 20 state_is "$job" paused
is "below a launcher that ends with a traceback, too" "$(field "$job" first_cause)" "stopped after a checkpoint (exit code 75)"
"$BERTCTL" cancel --now "$job"
# One that hides the exit code.
job=$("$BERTCTL" submit -- bash -c 'python3 "$@"; exit 3' - "$source_dir/tests/e2e/program.py" 100000 every=1000000)
wait_for 20 step_past "$job" 5
quietly "$BERTCTL" pause "$job"
wait_for 20 state_is "$job" paused
ok "below a shell that hides the exit code the checkpoint counts" grep -q "^stopped after a checkpoint: exit code 3" <<<"$(field "$job" first_cause)"
"$BERTCTL" cancel --now "$job"
# As torchrun does: a process a rank; SIGTERM is handed on; the first that fails is reported, and ends the others; the exit code is 1.
cat >"$work/launch.py" <<'END2'
import os, signal, subprocess, sys, time
ranks = [subprocess.Popen([sys.executable] + sys.argv[1:], env={**os.environ, "RANK": str(r)}) for r in range(2)]
def end(*_):
    for rank in ranks:
        rank.poll() is None and rank.terminate()
signal.signal(signal.SIGTERM, lambda *_: (end(), sys.exit(1)))
while all(rank.poll() is None for rank in ranks):
    time.sleep(0.05)
failed = [(r, rank.poll()) for r, rank in enumerate(ranks) if rank.poll()]
end()
for rank in ranks:
    rank.wait()
if failed:
    print("Root Cause (first observed failure):\n[0]:\n  rank      : %d (local_rank: 0)\n  exitcode  : %d (pid: 7)" % failed[0])
    sys.exit(1)
END2
job=$("$BERTCTL" submit -- python3 "$work/launch.py" "$source_dir/tests/e2e/program.py" 100000 every=20)
wait_for 20 one_good
quietly "$BERTCTL" pause "$job"
ok "a stop reaches the rank that declared it, below its launcher" wait_for 20 state_is "$job" paused
is "whose exit code is the job's, not the launcher's" "$(field "$job" first_cause)" "stopped after a checkpoint (exit code 75)"
last=$(rows "$job" good | jq 'max')
quietly "$BERTCTL" resume "$job"
wait_for 20 goes_on
of_attempt() { of_job "$1" python3 | while read -r p; do grep -qz "^BERTD_ATTEMPT=$2\$" "/proc/$p/environ" && echo "$p"; done; true; } # JOB ATTEMPT
wait_for 20 at_least "$(of_attempt "$job" 2 | wc -l)" 3
kill -KILL "$(of_attempt "$job" 2 | sort -n | head -n 1)"
third() { log "$job" 3 | grep -q "begin at step"; }
ok "when the launcher is killed the job starts again" wait_for 30 third
is "without the ranks that it left" "$(of_attempt "$job" 2)" ""
is "from a checkpoint" "$(log "$job" 3 | grep -c "begin at step 0")" 0
"$BERTCTL" cancel --now "$job"

# Another user's file.
if [[ $EUID -eq 0 ]] && command -v setpriv >/dev/null; then
  mkdir -m 777 "$work/shared"
  echo x >"$work/shared/roots"
  cat >"$work/foreign.py" <<'END2'
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"X_BERTD_CHECKPOINT_STEP=5\nX_BERTD_CHECKPOINT=" + os.getcwdb() + b"/roots", os.environ["NOTIFY_SOCKET"])
END2
  cp "$BERTCTL" "$work/bertctl"
  mkdir "$work/daemon" # the build's may be where others may not look
  cp "$BERTD" "$BERTD-shim" "$work/daemon/"
  chmod -R a+rX "$work/daemon" "$work/foreign.py"
  kill_bertd
  BERTD=$work/daemon/bertd start_bertd
  chmod 666 "$BERTD_SOCKET"
  job=$(cd "$work/shared" && setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/ "$work/bertctl" submit -- python3 "$work/foreign.py")
  wait_job "$job" 30
  ok "a file of another user is not recorded" refused /roots "owned by another user"
  is "at all" "$("$BERTCTL" checkpoints --all --json "$job" | jq length)" 0
else
  skip "a file of another user" "needs root and setpriv"
fi

# torchrun: its report names the rank, its error file the exception.
cat >"$work/torchrun" <<'END2'
#!/bin/sh
echo '{"message": {"message": "ValueError: shapes differ: (3, 4)", "extraInfo": {}}}' >"$TORCHELASTIC_ERROR_FILE"
printf 'Root Cause (first observed failure):\n[0]:\n  time      : now\n  host      : h\n  rank      : 3 (local_rank: 1)\n  exitcode  : %s (pid: 7)\n' "$1"
exit 1
END2
chmod +x "$work/torchrun"
job=$("$BERTCTL" submit --retries 0 -- "$work/torchrun" 1)
wait_job "$job" 30
is "of torchrun's ranks the first that failed is named, with its exception" "$(field "$job" first_cause)" "rank 3: exit code 1: ValueError: shapes differ: (3, 4)"
job=$("$BERTCTL" submit --retries 0 -- "$work/torchrun" -11)
wait_job "$job" 30
ok "and by its signal" grep -q '^rank 3: .*signal 11 (SIGSEGV)' <<<"$(field "$job" first_cause)"
finish
