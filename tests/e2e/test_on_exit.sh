#!/bin/bash
# on_exit is never lost and repeated at most once: bertd is killed before each sync and fork of a job's life (tests/fault/libfault.c), killed
# and stopped while on_exits wait for their turn, stopped while the end itself cannot be written; rm and resume wait for it.
. "$(dirname "$0")/lib.sh"
library=$(preloaded fault)
mkdir "$work/ran"
cat >"$work/hook" <<END
#!/bin/sh
echo "\$BERTD_STATE\${BERTD_NOTICE_REPEATED:+ repeated \$BERTD_NOTICE_REPEATED}" >>$work/ran/\$BERTD_JOB_ID
while [ -e $work/hold ]; do sleep 0.05; done
END
chmod +x "$work/hook"
printf 'kind: command\ncommand: [sh, -c, "exit 65"]\nrestart: {backoff_sec: [1, 1]}\non_exit: %s\n' "$work/hook" >"$work/hooked.yaml"
submit() { timeout $((10 * patience)) "$BERTCTL" submit "$work/hooked.yaml" 2>/dev/null; }
ran() { paste -sd, "$work/ran/$1" 2>/dev/null; } # JOB
has_run() { [[ -s $work/ran/$1 ]]; }
dies() { ! lives "$bertd_pid"; }
owed() { sqlite3 "$BERTD_STATE_DIR/state.db" 'select count(*) from job where exit_owed>0'; }
none_owed() { [[ $(owed) == 0 ]]; }

struck() { (($(od -An -tu8 -N8 "$work/count") >= $1)); } # N

# One round: bertd with a fault submits, it or a child of it dies (code 0) or the job ends before, and it is started again.
round() { # CALL N
  truncate -s 0 "$work/count" && truncate -s 16 "$work/count"
  LD_PRELOAD=$library FAULT_PROGRAM=bertd FAULT_CALL=$1 FAULT_N=$2 FAULT_COUNT=$work/count FAULT_KILL=1 setsid "$BERTD" --slots 8 \
    --launcher fork >>"$work/bertd.log" 2>&1 </dev/null &
  bertd_pid=$!
  wait_for 20 eval 'answers || dies' || echo "# $1 $2: bertd neither answers nor dies"
  job=$(submit)
  if [[ -n $job ]]; then wait_for 20 eval 'struck $n || { has_run "$job" && none_owed; }'; fi
  local died=0
  struck "$2" || died=1
  kill_bertd
  start_bertd
  return $died
}
bad=() repeated=0
for call in fsync fork; do
  for ((n = 5, alive = 0; n < 30 && alive < 1; n++)); do
    round $call $n || ((alive++))
    [[ -z $job ]] || wait_for 10 has_run "$job"
    kill_bertd
    case $job:$(ran "$job") in
      : | *:failed) ;;
      *:"failed repeated 1" | *:"failed,failed repeated 1") ((repeated++)); again=$job ;;
      *) bad+=("$call $n: job $job: '$(ran "$job")'") ;;
    esac
  done
  ok "killed before each $call: until none is left" test "$alive" -eq 1
done
is "each on_exit has run once, or again and was told so" "${bad[*]}" ""
ok "some were" test "$repeated" -gt 0

# Six at a time: four run, two wait for their turn.
start_bertd
ok "what was owed is paid" wait_for 10 none_owed
says_again() { "$BERTCTL" events "${again:-0}" | grep "on_exit.*started again" >/dev/null; }
ok "an event says what was repeated" says_again
no_hook_runs() { ! pgrep -f "$work/hook" >/dev/null; }
waiting() { # six jobs: the four whose on_exit runs, and two
  wait_for 10 no_hook_runs || echo "# an earlier on_exit still runs"
  touch "$work/hold"
  jobs=()
  for i in 1 2 3 4 5 6; do jobs+=("$(submit)"); done
  for j in "${jobs[@]}"; do quietly wait_job "$j"; done
  wait_for 10 eval '[[ $(owed) == 2 ]]' || echo "# $(owed) are owed"
}
results() { for j in "${jobs[@]}"; do ran "$j" || echo none; done | sort | uniq -c | xargs; }
for signal in KILL TERM; do
  waiting
  is "SIG$signal: two wait" "$(results)" "4 failed 2 none"
  kill -$signal "$bertd_pid"
  { wait "$bertd_pid"; } 2>/dev/null
  is "SIG$signal: and are owed" "$(owed)" 2
  start_bertd
  rm "$work/hold"
  ok "SIG$signal: the next bertd starts them" wait_for 10 none_owed
  wait_for 10 eval '[[ $(results) == "6 failed" ]]'
  is "SIG$signal: each once" "$(results)" "6 failed"
done

# rm and resume of a job whose on_exit waits.
waiting
last=()
for j in "${jobs[@]}"; do has_run "$j" || last+=("$j"); done
"$BERTCTL" rm "${last[0]}" >"$work/rm.out" 2>&1 & rm_pid=$!
ok "resume waits, and then is refused" refuses 1 "job ${last[1]}: its on_exit has not been started yet" "$BERTCTL" resume "${last[1]}"
wait $rm_pid
ok "so is rm" grep -q "job ${last[0]}: its on_exit has not been started yet" "$work/rm.out"
"$BERTCTL" rm "${last[0]}" >"$work/rm.out" 2>&1 & rm_pid=$!
sleep 0.5
rm "$work/hold"
ok "rm that waits succeeds when it has been started" wait $rm_pid
ok "and it has been" wait_for 5 has_run "${last[0]}"
ok "the job is gone" exits 3 "$BERTCTL" status "${last[0]}"
for j in "${jobs[@]}"; do wait_for 10 has_run "$j"; done

# bertd is stopped while another program has state.db locked. What is then committed last is left to the next bertd: an on_exit whose turn
# has come, and one whose job's end could not be written.
lock_db() {
  rm -f "$work/locked"
  python3 -c 'import os, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("begin immediate"); open(sys.argv[2], "w").close()
while os.path.exists(sys.argv[2]): time.sleep(0.02)' "$BERTD_STATE_DIR/state.db" "$work/locked" & locker=$!
  wait_for 10 test -e "$work/locked"
}
stops_now() { [[ $(grep -c "bertd exits" "$work/bertd.log") -gt $stops ]]; }
stops_while_locked() { # the lock goes when bertd's loop has ended
  stops=$(grep -c "bertd exits" "$work/bertd.log")
  { wait_for 20 stops_now; sleep 1; rm "$work/locked"; } &
  kill -TERM "$bertd_pid"
  ok "$1: bertd stops" wait "$bertd_pid"
  wait $locker
  is "$1: what could not be watched is not tried" "$(grep "/bin/sh cannot be run" "$work/bertd.log")" ""
}
waiting
lock_db
rm "$work/hold"
wait_for 10 no_hook_runs
sleep 0.5 # their turn comes
stops_while_locked "a turn"
is "a turn: two are owed" "$(results): $(owed)" "4 failed 2 none: 2"
start_bertd
wait_for 10 none_owed
wait_for 10 eval '[[ $(results) == "6 failed" ]]'
is "a turn: the next bertd starts them for the first time" "$(results)" "6 failed"

sed 's/^command: .*/command: [sleep, "1000"]/; s/^restart: .*/restart: {max_without_progress: 0}/' "$work/hooked.yaml" >"$work/slow.yaml"
job=$("$BERTCTL" submit "$work/slow.yaml")
wait_for 20 state_is "$job" running
lock_db
kill -KILL "$(of_job "$job" sleep)"
wait_for 20 eval '! state_is "$job" running'
stops_while_locked "an end"
is "an end: it has not been started" "$(ran "$job")" ""
is "an end: it is owed" "$(owed)" 1
start_bertd
ok "an end: the next bertd starts it" wait_for 10 has_run "$job"
is "an end: for the first time" "$(ran "$job")" failed
finish
