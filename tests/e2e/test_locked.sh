#!/bin/bash
# state.db locked by another program, as a backup or an administrator's transaction does: what writes waits for it, 8 s, then it is refused
# and has not happened; what reads is answered meanwhile; what bertd has seen itself is never given up; a start and a stop live through it.
. "$(dirname "$0")/lib.sh"

cat >"$work/hold.py" <<'EOF'
import os, sqlite3, sys, time
database, begin, held = sys.argv[1:]
db = sqlite3.connect(database, isolation_level=None, timeout=30)
db.execute(begin)
open(held, "w").close()
while os.path.exists(held):
    time.sleep(0.02)
EOF
hold() { # HOW: until `release`
  python3 "$work/hold.py" "$BERTD_STATE_DIR/state.db" "begin $1" "$work/held" &
  holder=$!
  wait_for 20 test -e "$work/held"
}
release() { rm -f "$work/held"; wait "$holder"; }
try() { "$BERTCTL" "$@" >"$work/$1.out" 2>&1; echo $? >"$work/$1.code"; }
runs() { wait_for 20 state_is "${job[$1]}" running || echo "# $1 does not run"; }
runs_no_more() { ! state_is "${job[$1]}" running; }
kill_program() { local p; for p in $(of_job "${job[$1]}" sleep); do kill -KILL "$p"; done; }
submit() { job[$1]=$("$BERTCTL" submit --name "$1" -- sleep 1000); runs "$1"; }

start_bertd
declare -A job
for name in cancels pauses resumes goes dies; do submit "$name"; done
"$BERTCTL" cancel "${job[goes]}" && wait_job "${job[goes]}" >"$work/said"
"$BERTCTL" pause "${job[resumes]}" && wait_job "${job[resumes]}" >"$work/said"

for how in immediate exclusive; do
  hold "$how"
  tries=()
  for words in "submit --name $how -- true" "cancel ${job[cancels]}" "pause ${job[pauses]}" "resume ${job[resumes]}" "rm ${job[goes]}"; do
    try $words & tries+=($!)
  done
  sleep 1
  for words in list "status ${job[goes]}" "events ${job[goes]}" "checkpoints ${job[goes]}"; do
    ok "$how: ${words%% *} is answered" quietly "$BERTCTL" $words
  done
  is "$how: nothing has happened yet" "$(cat "$work"/*.code 2>/dev/null)" ""
  release
  wait "${tries[@]}"
  for name in submit cancel pause resume rm; do is "$how: then $name succeeds" "$(cat "$work/$name.code")" 0; done
  job[new]=$(cat "$work/submit.out")
  ok "$how: its job runs" quietly wait_job "${job[new]}"
  rm -f "$work"/*.code
  wait_job "${job[pauses]}" >"$work/said"
  job[cancels]=${job[resumes]} job[goes]=${job[new]} job[resumes]=${job[pauses]}
  runs cancels
  submit pauses
done

# For longer: refused, in time, and nothing of it is seen later. Neither is it by a bertd that starts meanwhile.
hold exclusive
before=$(date +%s) tries=()
for words in "submit -- true" "cancel ${job[cancels]}"; do try $words & tries+=($!); done
kill_program dies
wait "${tries[@]}"
ok "they have waited" test $(($(date +%s) - before)) -ge 7
for name in submit cancel; do
  is "$name is refused" "$(cat "$work/$name.code")" 1
  ok "$name: it says why" grep -q "state.db: another program keeps it locked (see .fuser .*/state.db.): nothing was changed" "$work/$name.out"
done
ok "the job runs" state_is "${job[cancels]}" running
ok "the log says so" grep -q "state.db: another program keeps it locked" "$work/bertd.log"
kill_bertd
ok "bertd starts beside the lock" start_bertd
ok "nothing of a refused call is there" state_is "${job[cancels]}" running
is "and no job more" "$("$BERTCTL" list --json | jq 'map(.id) | max')" "${job[pauses]}"
ok "the end that could not be written is seen" wait_for 20 runs_no_more dies
release
end_is_kept() { [[ $("$BERTCTL" events "${job[dies]}") == *SIGKILL* ]]; }
ok "and is kept" wait_for 20 end_is_kept

# A stop waits for it, too.
"$BERTCTL" cancel "${job[dies]}"
hold immediate
kill -KILL "$(shim_of "${job[pauses]}")" # what bertd sees by itself, and no shim asks for
wait_for 20 runs_no_more pauses
{ wait_for 20 grep -q "bertd exits" "$work/bertd.log"; sleep 1; rm "$work/held"; } &
kill -TERM "$bertd_pid"
ok "bertd stops" wait "$bertd_pid"
ok "all is kept" not grep "could not be saved" "$work/bertd.log"
wait "$holder"
row() { sqlite3 "$BERTD_STATE_DIR/state.db" "select state='running' from job where id=$1"; }
is "in state.db" "$(row "${job[pauses]}")" 0
finish
