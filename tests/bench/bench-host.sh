#!/bin/bash
# Figures of the daemon side, each beside a peer in the same run: acknowledged submits beside the raw fsync of the same disk and
# beside task-spooler, memory and wake-ups beside supervisor, recovery after kill -9 of a rank beside supervisor's restart.
# Prints Markdown. Needs BERTD, BERTCTL, BERT_TRAINER, BENCH_DAEMON; peers are left out where they are not installed.
. "$(dirname "$0")/lib.sh"
: "${BENCH_DAEMON:?}"
jobs=${JOBS:-1000} queued=${QUEUED:-10000} quiet=${QUIET_SEC:-20} rounds=${ROUNDS:-7}

rss() { awk '/^VmRSS/ {printf "%.1f MB", $2 * 1024 / 1e6}' "/proc/$1/status"; }
switches() { awk '/ctxt_switches/ {n += $2} END {print n}' "/proc/$1/status"; }
wakeups() { # PID: per second, over $quiet seconds
  local before after
  before=$(switches "$1"); sleep "$quiet"; after=$(switches "$1")
  awk -v n=$((after - before)) -v s="$quiet" 'BEGIN {printf "%.2f/s", n / s}'
}
now_ms() { date +%s%3N; }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
row() { printf '| %s | %s | %s |\n' "$@"; }
time_each() { # N COMMAND...: median ms of N runs of the whole command
  local n=$1 start
  shift
  for ((i = 0; i < n; i++)); do
    start=$(date +%s%N); "$@" >/dev/null 2>&1; echo $((($(date +%s%N) - start) / 10000)); done | median | awk '{printf "%.2f ms", $1 / 100}'
}

echo '| figure | bertd | beside it |'
echo '|---|---|---|'

start_bertd --slots 4
row 'resident memory, idle' "$(rss "$bertd_pid")" "$(
  if command -v supervisord >/dev/null; then
    printf '[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=%s/s.pid\n' "$work" >"$work/s.conf"
    supervisord -c "$work/s.conf" >/dev/null 2>&1 &
    sleep 3; echo "supervisor $(rss $!)"; kill $!; wait $! 2>/dev/null; fi)"
row "wake-ups, idle (over $quiet s)" "$(wakeups "$bertd_pid")" ''
blocker=$("$BERTCTL" submit --ranks 4 -- sleep 100000)
wait_for 20 state_is "$blocker" running
mkdir -p "$work/raw"
# With the one that runs, as many as a user may have.
"$BENCH_DAEMON" "$BERTD_SOCKET" "$work/raw" "$jobs" $((queued - 1)) >"$work/latency" || give_up "bench_daemon failed"
pick() { awk -v name="$1" 'index($0, name) == 1 {print "p50 " $(NF - 5) " ms, p99 " $(NF - 4) " ms"}' "$work/latency"; }
row "submit to acknowledged, $jobs jobs" "$(pick 'submit to')" "raw 4 KiB write + fsync, alternated: $(pick 'raw 4 KiB')"
row "status of one of $queued jobs" "$(pick 'status of')" ''
row "list: a page of 100 of $queued" "$(pick 'list, a')" ''
row "resident memory, $queued queued jobs" "$(rss "$bertd_pid")" ''
row 'bertctl submit, whole command (median of 50)' "$(time_each 50 "$BERTCTL" submit -- true)" "$(
  if command -v tsp >/dev/null; then
    export TS_SOCKET=$work/tsp.sock TMPDIR=$work
    tsp sleep 1000 >/dev/null; echo "task-spooler $(time_each 50 tsp true) (keeps its queue in memory)"; tsp -K; fi)"
row 'bertctl status, whole command (median of 50)' "$(time_each 50 "$BERTCTL" status "$blocker")" ''
kill_bertd
pkill -KILL -f -- "$work/" 2>/dev/null
rm -rf "$BERTD_STATE_DIR"

start_bertd --slots 100
for ((i = 0; i < 100; i++)); do "$BERTCTL" submit -- sleep 100000 >/dev/null; done
all_run() { [[ $("$BERTCTL" list --json | jq '[.[] | select(.state == "running")] | length') == 100 ]]; }
wait_for 60 all_run
row 'resident memory, 100 running jobs' "$(rss "$bertd_pid")" "a shim: $(rss "$(pgrep -f "bertd-shim .*$work" | head -n 1)")"
row "wake-ups, 100 running quiet jobs" "$(wakeups "$bertd_pid")" ''
kill_bertd
pkill -KILL -f -- "$work/" 2>/dev/null
rm -rf "$BERTD_STATE_DIR"

start_bertd --slots 4
make_corpus >/dev/null && make_spec bench 2 1000000
sed -i 's/backoff_sec: .*\]/backoff_sec: [1, 1]/' "$work/bench.yaml"
job=$("$BERTCTL" submit "$work/bench.yaml")
for ((i = 0; i < rounds; i++)); do
  wait_for 60 step_past "$job" $((i * 40 + 45)) || give_up "job $job does not get on"
  attempts=$(field "$job" attempts)
  start=$(now_ms)
  kill -KILL "$(of_job "$job" bert-trainer | tail -n 1)"
  new_step() { attempt_past "$job" $((attempts + 1)) && state_is "$job" running && "$BERTCTL" status --json "$job" | jq -e '.rate != null and .rate > 0' >/dev/null; }
  until new_step; do sleep 0.02; done
  echo $(($(now_ms) - start)) >>"$work/recovery"
done
row "kill -9 of a rank to the first new step (median of $rounds; 1 s back-off, 2 ranks)" "$(median <"$work/recovery") ms" "$(
  if command -v supervisord >/dev/null; then
    printf '[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=%s/s.pid\n[program:x]\ncommand=sleep 98765\nstartsecs=1\n' "$work" >"$work/s.conf"
    supervisord -c "$work/s.conf" >/dev/null 2>&1 &
    s=$!
    sleep 4
    for ((i = 0; i < rounds; i++)); do
      old=$(pgrep -P "$s" -x sleep); start=$(now_ms); kill -KILL "$old"
      until p=$(pgrep -P "$s" -x sleep) && [[ $p != "$old" ]]; do sleep 0.02; done
      echo $(($(now_ms) - start)); sleep 2
    done | median | sed 's/.*/supervisor restarts a bare sleep in & ms (from nothing: no checkpoint)/'
    kill "$s"; wait "$s" 2>/dev/null; fi)"
