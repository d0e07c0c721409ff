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

# The end cannot be written while another program has state.db locked; the stop waits, and leaves on_exit to the next bertd.
sed 's/^command: .*/command: [sleep, "1000"]/; s/^restart: .*/restart: {max_without_progress: 0}/' "$work/hooked.yaml" >"$work/slow.yaml"
job=$("$BERTCTL" submit "$work/slow.yaml")
wait_for 20 state_is "$job" running
ok "none is owed" wait_for 10 none_owed
python3 -c 'import os, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("begin immediate"); open(sys.argv[2], "w").close()
while os.path.exists(sys.argv[2]): time.sleep(0.02)' "$BERTD_STATE_DIR/state.db" "$work/locked" & locker=$!
wait_for 10 test -e "$work/locked"
kill -KILL "$(of_job "$job" sleep)"
wait_for 20 eval '! state_is "$job" running'
stops=$(grep -c "bertd ends" "$work/bertd.log")
stops_now() { [[ $(grep -c "bertd ends" "$work/bertd.log") -gt $stops ]]; }
{ wait_for 20 stops_now; sleep 1; rm "$work/locked"; } &
kill -TERM "$bertd_pid"
ok "bertd stops" wait "$bertd_pid"
wait $locker
is "it has not started what it could not watch" "$(ran "$job")" ""
is "nor tried to" "$(grep "job $job: /bin/sh cannot be run" "$work/bertd.log")" ""
is "it is owed" "$(owed)" 1
start_bertd
ok "the next bertd starts it" wait_for 10 has_run "$job"
is "for the first time" "$(ran "$job")" failed
finish
