#!/bin/bash
# What a user does with a job: pause, resume with other ranks and from an older step, checkpoint now, cancel, remove, commands,
# the queue, and what is refused.
. "$(dirname "$0")/lib.sh"

ok "corpus is prepared" make_corpus
make_spec long 1 100000
sed -i 's/every_steps: 20/every_steps: 0, every_sec: 0/' "$work/long.yaml"
cp "$work/long.yaml" "$work/long2.yaml"
exec 9>/dev/null # what the daemon's shell holds open
start_bertd
job=$("$BERTCTL" submit "$work/long.yaml")
ok "submit prints an id alone" grep -qx '[0-9][0-9]*' <<<"$job"
rm "$work/long.yaml"
ok "it trains" wait_for 60 step_past "$job" 25
ok "though the spec file is gone" test ! -e "$work/long.yaml"

ok "checkpoint takes one now" "$BERTCTL" checkpoint "$job"
taken() { [[ $(field "$job" checkpoint_step) =~ ^[0-9]+$ ]]; }
ok "and it is there: the spec asks for none" wait_for 20 taken
"$BERTCTL" pause "$job"
ok "pause: the job is paused" wait_for 30 state_is "$job" paused
is "its checkpoint is of its last step" "$(field "$job" checkpoint_step)" "$(field "$job" step)"
is "wait gives 1 for a paused job" "$(wait_job "$job" >/dev/null 2>&1; echo $?)" 1
is "no process of it is left" "$(of_job "$job" bert-trainer)" ""
paused=$(field "$job" step)

sed "1i run_dir: $work/shared" "$work/long2.yaml" >"$work/both.yaml"
one=$("$BERTCTL" submit "$work/both.yaml")
ok "a second job that would train in the first one's folder is refused" refuses 2 "run_dir: in use by job $one " "$BERTCTL" submit "$work/both.yaml"
"$BERTCTL" cancel --now "$one"
talker=$("$BERTCTL" submit --run-dir "$work/talks/here" -- bash -c 'echo hi >"$BERTD_RUN_DIR/f"; printf "READY=1\nSTATUS=loading the corpus" | python3 -c "import os, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(sys.stdin.buffer.read(), os.environ[\"NOTIFY_SOCKET\"])"; sleep 1000')
says_status() { [[ $(field "$talker" status) == "loading the corpus" ]] && "$BERTCTL" status "$talker" | grep -q "^  status  *loading the corpus"; }
ok "what a command says it does is shown" wait_for 20 says_status
is "its run folder was made" "$(cat "$work/talks/here/f")" hi
"$BERTCTL" cancel --now "$talker"
polite=$("$BERTCTL" submit -- bash -c 'trap "exit 0" TERM; echo up; sleep 1000 & wait')
up() { "$BERTCTL" logs "$polite" 2>/dev/null | grep -q up; }
wait_for 20 up
"$BERTCTL" pause "$polite"
ok "a command that says 0 when it is paused is paused, not done" wait_for 20 state_is "$polite" paused
"$BERTCTL" resume "$polite"
ok "and goes on" wait_for 20 state_is "$polite" running
"$BERTCTL" cancel "$polite"
ok "and is cancelled" wait_for 20 state_is "$polite" cancelled

"$BERTCTL" resume --ranks 2 "$job"
ok "resume --ranks 2: it goes on past the pause" wait_for 60 step_past "$job" $((paused + 3))
is "with two ranks" "$(of_job "$job" bert-trainer | wc -l)" 2
is "status says so" "$(field "$job" ranks)" 2

"$BERTCTL" pause "$job"
wait_for 30 state_is "$job" paused
first=$("$BERTCTL" checkpoints --json "$job" | jq '[.[] | select(.state == "good")] | min_by(.step).step')
last=$(field "$job" step)
"$BERTCTL" resume --from "$first" "$job"
restored() { "$BERTCTL" logs "$job" | grep -q "step $first\b"; }
ok "resume --from an older step starts there" wait_for 60 restored
gone() { [[ $("$BERTCTL" checkpoints --json "$job" | jq "[.[] | select(.step == $last and .state == \"abandoned\")] | length") -ge 1 ]]; }
ok "newer checkpoints are abandoned" wait_for 20 gone
rows() { "$BERTCTL" checkpoints "$@" "$job" | grep -c "$work"; }
is "checkpoints --all shows what --json does" "$(rows --all)" "$("$BERTCTL" checkpoints --json "$job" | jq length)"
is "without it deleted ones that nobody began from are not shown" "$(rows)" \
  "$("$BERTCTL" checkpoints --json "$job" | jq '[.[] | select(.state != "deleted" or .restored > 0)] | length')"
"$BERTCTL" pause "$job"
wait_for 30 state_is "$job" paused
ok "resume from a step that is not there is refused" refuses 1 "job $job has no checkpoint of step 999999" "$BERTCTL" resume --from 999999 "$job"
"$BERTCTL" resume "$job"
wait_for 60 state_is "$job" running
ok "cancel" "$BERTCTL" cancel "$job"
ok "the job is cancelled" wait_for 40 state_is "$job" cancelled
dir=$(field "$job" run_dir)
ok "rm removes an ended job" "$BERTCTL" rm "$job"
ok "status then gives 3" refuses 3 "no job $job" "$BERTCTL" status "$job"
ok "and its folder is gone" test ! -e "$dir"

# Commands run as in the shell.
cd "$work" || exit 1
umask 027
export E2E_VALUE="a b"
export LISTEN_ADDR=:80 WATCHDOG_DIR=/w LISTEN_FDS=1
job=$("$BERTCTL" submit --name say -- bash -c 'pwd; umask; echo "$E2E_VALUE $LISTEN_ADDR $WATCHDOG_DIR ${LISTEN_FDS:-none}"; echo to-stderr >&2; ulimit -n; exit 0')
unset LISTEN_ADDR WATCHDOG_DIR LISTEN_FDS
ok "a command is done" wait_job "$job"
limit=$(ulimit -n)
is "in the submitter's folder, umask, environment and limits" "$("$BERTCTL" logs "$job" | grep -v '^==>' | xargs)" \
  "$work 0027 a b :80 /w none to-stderr $limit"
is "its name" "$(field "$job" name)" say
is "its exit" "$(field "$job" exit)" 0
umask 022

job=$("$BERTCTL" submit -- ls /proc/self/fd)
wait_job "$job"
is "no descriptor of the daemon's or its shell's reaches a job" "$("$BERTCTL" logs "$job" | xargs)" "0 1 2 3"

job=$("$BERTCTL" submit -- bash -c 'exit 2')
is "exit 2 is never retried: wait gives 1" "$(wait_job "$job" >/dev/null 2>&1; echo $?)" 1
is "after one attempt" "$(field "$job" attempts)" 1
cp "$(type -P true)" "$work/no-such-program-anywhere"
holds=$("$BERTCTL" submit --ranks 8 --priority 1000 -- sleep 1000)
wait_for 20 state_is "$holds" running
job=$("$BERTCTL" submit -- "$work/no-such-program-anywhere")
rm "$work/no-such-program-anywhere"
"$BERTCTL" cancel --now "$holds"
is "a program that is gone when its turn comes fails" "$(wait_job "$job" >/dev/null 2>&1; echo $?)" 1
ok "and the reason names it" grep -q no-such-program-anywhere <<<"$(field "$job" reason)"

job=$("$BERTCTL" submit -- bash -c 'trap "echo got-term; exit 0" TERM; echo up; while :; do sleep 0.1; done')
up() { "$BERTCTL" logs "$job" 2>/dev/null | grep -q up; }
wait_for 20 up
"$BERTCTL" cancel "$job"
ok "cancel of a command" wait_for 20 state_is "$job" cancelled
ok "was SIGTERM first" grep -q got-term <<<"$("$BERTCTL" logs "$job")"
job=$("$BERTCTL" submit -- bash -c 'trap "" TERM; echo up; while :; do sleep 0.1; done')
wait_for 20 up
"$BERTCTL" cancel --now "$job"
ok "cancel --now needs no consent" wait_for 10 state_is "$job" cancelled

# Queue: 8 slots.
big=$("$BERTCTL" submit --ranks 6 -- sleep 1000)
wait_for 20 state_is "$big" running
waiting=$("$BERTCTL" submit --ranks 4 -- true)
small=$("$BERTCTL" submit --ranks 2 -- true)
ok "what does not fit says for what it waits" wait_for 10 eval '[[ $(field "$waiting" reason) == *slots* ]]'
is "and is queued" "$(field "$waiting" state)" queued
urgent=$("$BERTCTL" submit --ranks 8 --priority 10 -- true)
"$BERTCTL" cancel "$big"
ok "then it runs" wait_job "$waiting"
ok "as does the urgent one" wait_job "$urgent"
ok "and the small one" wait_job "$small"
started() { "$BERTCTL" events --json "$1" | jq -r '[.[] | select(.to == "starting")][0].id'; }
ok "the urgent one went first" test "$(started "$urgent")" -lt "$(started "$waiting")"
ok "more than the host has is refused" refuses 1 "9 slots, this host has 8" "$BERTCTL" submit --ranks 9 -- true
ok "ranks 0 is refused" refuses 2 "ranks" "$BERTCTL" submit --ranks 0 -- true
ok "an unknown job is 3" refuses 3 "no job 999" "$BERTCTL" cancel 999

job=$("$BERTCTL" submit --retries 0 -- bash -c 'exit 7')
is "a command's own failure" "$(wait_job "$job" >/dev/null 2>&1; echo $?)" 1
is "is final with --retries 0" "$(field "$job" attempts)" 1
sed 's/\[corpus\]/[nowhere]/' "$work/long2.yaml" >"$work/no.yaml"
ok "a spec whose corpus is missing is refused" refuses 2 "data.train.*nowhere.idx" "$BERTCTL" submit "$work/no.yaml"

# The shims' connections are no user's: more jobs than a user may have connections.
kill -TERM "$bertd_pid"
wait "$bertd_pid"
start_bertd --slots 80
for ((i = 0; i < 80; i++)); do "$BERTCTL" submit --name many -- sleep 1000 >/dev/null; done
all_run() { [[ $("$BERTCTL" list --json | jq '[.[] | select(.state == "running")] | length') == 80 ]]; }
ok "80 jobs of a user run at once" wait_for 60 all_run
kill_bertd
start_bertd --slots 80
heard() { "$BERTCTL" list --json | jq -e '[.[] | select(.name == "many" and .state == "running")] | length == 80' >/dev/null; }
ok "and a new bertd answers beside all their shims" wait_for 30 heard
for j in $("$BERTCTL" list --json | jq '.[] | select(.name == "many") | .id'); do "$BERTCTL" cancel --now "$j"; done

job=$("$BERTCTL" submit -- sleep 1000)
wait_for 20 state_is "$job" running
kill -TERM "$bertd_pid"
wait "$bertd_pid"
is "SIGTERM: bertd ends well" $? 0
ok "and leaves the job running" test -n "$(of_job "$job" sleep)"
start_bertd
"$BERTCTL" shutdown --jobs
stopped() { ! kill -0 "$bertd_pid" 2>/dev/null; }
ok "shutdown --jobs stops bertd and its jobs" wait_for 30 stopped
finish
