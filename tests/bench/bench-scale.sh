#!/bin/bash
# bertd with 100,000 finished and 10,000 queued jobs and 200 connected clients: memory, start-up, latencies, each bound beside it.
# Prints Markdown. Needs root (four users' clients), sqlite3, BERTD, BERTCTL and BENCH_DAEMON of a release build.
. "$(dirname "$0")/lib.sh"
: "${BENCH_DAEMON:?}"
clients=200 submits=${JOBS:-1000} total=110001
row() { printf '| %s | %s | %s |\n' "$@"; }
rss() { awk '/^VmRSS/ {printf "%.1f MB", $2 * 1024 / 1e6}' "/proc/$1/status"; }
pick() { awk -v name="$1" 'index($0, name) == 1 {print "p50 " $(NF - 5) " ms, p99 " $(NF - 4) " ms"}' "$work/latency"; }

start_bertd --slots 1 --keep-ended 1000000
blocker=$("$BERTCTL" submit -- sleep 100000)
wait_for 20 state_is "$blocker" running
kill_bertd
sqlite3 "$BERTD_STATE_DIR/state.db" <"$(dirname "$0")/seed.sql" >/dev/null || give_up "seed.sql failed"

echo '| figure | bertd | bound, or raw cost in the same run |'
echo '|---|---|---|'
answers() { "$BERTCTL" status "$blocker" >/dev/null 2>&1; }
start=$(date +%s%N)
start_bertd --slots 1 --keep-ended 1000000
row 'start to the first answered call' "$((($(date +%s%N) - start) / 1000000)) ms" '1000 ms'
row 'resident memory' "$(rss "$bertd_pid")" '16 MB'
chmod 666 "$BERTD_SOCKET"
mkdir -p "$work/raw"
"$BENCH_DAEMON" "$BERTD_SOCKET" "$work/raw" "$submits" 0 "$clients" "$total" >"$work/latency" &
bench=$!
wait_for 120 grep -qs connected "$work/latency"
row "resident memory, $clients clients connected" "$(rss "$bertd_pid")" '16 MB'
wait "$bench" || give_up "bench_daemon failed"
row "status of any job, $clients clients calling" "$(pick 'status of')" 'p99 20 ms'
row "list: a page of 100, $clients clients calling" "$(pick 'list, a')" 'p99 20 ms'
row "submit to acknowledged, $submits jobs" "$(pick 'submit to')" "raw 4 KiB write + fsync, alternated: $(pick 'raw 4 KiB'); bound: 2 × its p99"
