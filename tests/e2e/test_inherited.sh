#!/bin/bash
# What bertd inherits from whoever starts it is not what it is, nor what its jobs get: dispositions, blocked signals, limits, timers,
# descriptors. And stray signals end neither it nor a shim.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

# A parent from which little can be expected: python as it is, then bertd in its place.
cat >"$work/parent.py" <<'PY'
import os, resource, signal, sys
for s in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(s, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
signal.setitimer(signal.ITIMER_REAL, 8)
for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):
    resource.setrlimit(limit, (1, resource.getrlimit(limit)[1]))
os.umask(0o777)
os.chdir(os.environ["GONE"])
os.rmdir(os.environ["GONE"])
for fd in (0, 1):
    os.close(fd)
os.execv(sys.argv[1], sys.argv[1:])
PY
mkdir "$work/gone"
real_bertd=$BERTD
printf '#!/bin/sh\nexec env GONE="%s/gone" NOTIFY_SOCKET=@nobody LISTEN_FDS=1 WATCHDOG_USEC=1 python3 "%s/parent.py" "%s" "$@"\n' \
  "$work" "$work" "$real_bertd" >"$work/bertd.sh"
chmod 755 "$work/bertd.sh"
BERTD=$work/bertd.sh
ok "a bertd starts whatever its parent ignores, blocks and limits" start_bertd
bertd_pid=$("$BERTCTL" status --json | jq .daemon.pid)

# shellcheck disable=SC2016 # the job's shell is to expand it
job=$("$BERTCTL" submit -- sh -c 'grep -E "^Sig(Blk|Ign)" /proc/self/status; ulimit -f; ulimit -t; umask; env; sleep 0.5')
ok "a job runs to its end" wait_job "$job"
logs() { "$BERTCTL" logs "$job"; }
ok "no signal of it is blocked" eval 'logs | grep -q "^SigBlk:	0*$"'
ok "none is ignored" eval 'logs | grep -q "^SigIgn:	0*$"'
is "its limits are the submitter's" "$(logs | grep -c unlimited)" 2
ok "its umask, too" eval 'logs | grep -q "^$(umask)$"'
ok "what is for bertd alone is not in its environment" eval '! logs | grep -E "^(LISTEN_FDS|WATCHDOG_USEC)=|@nobody"'
ok "a job is removed" "$BERTCTL" rm "$job"
ok "bertd lives on" lives "$bertd_pid"

job=$("$BERTCTL" submit -- sleep 300)
ok "another job runs" wait_for 20 state_is "$job" running
shim=$(shim_of "$job")
keeper=$(pgrep -f -- "bertd-shim --keep --job $job .*$work/" | head -n 1)
for signal in HUP PIPE USR1 USR2 ALRM VTALRM PROF IO PWR XCPU XFSZ TTOU TTIN STKFLT RTMIN RTMAX 50; do
  kill -"$signal" "$bertd_pid" "$shim" "$keeper" || echo "# $signal cannot be sent"
done
kill -QUIT "$shim" "$keeper"
kill -TERM "$keeper"
sleep 0.3
ok "stray signals do not end bertd" lives "$bertd_pid"
ok "nor a shim" lives "$shim"
ok "nor its keeper" lives "$keeper"
ok "bertd answers" answers
ok "the job runs on" state_is "$job" running
is "in its first attempt" "$(field "$job" attempts)" 1
is "bertd keeps no folder busy in which it was started" "$(readlink "/proc/$bertd_pid/cwd")" /

kill -TERM "$bertd_pid"
ok "SIGTERM ends it though it was ignored and blocked" wait_for 20 not lives "$bertd_pid"
BERTD=$real_bertd
start_bertd
ok "SIGQUIT ends one as SIGTERM does" eval 'kill -QUIT "$bertd_pid"; wait "$bertd_pid"'
start_bertd
ok "the job has run on" state_is "$job" running

# A pipe that nobody reads takes 64 KiB of log; no line of the log may stop bertd.
kill_bertd
mkfifo "$work/unread"
sleep 600 <>"$work/unread" &
reader=$!
setsid "$BERTD" --slots 8 --launcher fork >/dev/null 2>"$work/unread" </dev/null &
bertd_pid=$!
ok "a bertd begins whose log is a pipe that nobody reads" wait_for 20 answers
dd if=/dev/zero of="$work/unread" bs=4096 count=64 oflag=nonblock 2>/dev/null
"$BERTCTL" cancel --now "$job"
ok "and works on when that is full" wait_for 20 state_is "$job" cancelled
kill "$reader"
kill_bertd

if unshare --pid --fork --mount-proc true 2>/dev/null; then
  setsid unshare --pid --fork --mount-proc "$BERTD" --slots 8 --launcher fork >>"$work/bertd.log" 2>&1 </dev/null &
  container=$!
  ok "a bertd is process 1 of a container" wait_for 20 answers
  first=$(pgrep -P "$container")
  ok "which a terminal's ^C reaches once, by process 1" test "$(ps -o pgid= -p "$first")" != "$(ps -o pgid= -p "$(pgrep -P "$first" -x bertd)")"
  a=$("$BERTCTL" submit -- true) b=$("$BERTCTL" submit -- sleep 0.1)
  job=$("$BERTCTL" submit --grace 20 -- sh -c 'trap "sleep 0.5; echo saved; exit 0" TERM; while :; do sleep 0.1; done')
  ok "jobs run in it" eval 'wait_job "$a" && wait_job "$b" && wait_for 20 state_is "$job" running'
  ok "it reaps what they leave" wait_for 5 eval '! ps --no-headers -o stat --ppid "$first" | grep Z'
  "$BERTCTL" events "$job" >/dev/null
  kill -TERM "$first"
  ok "SIGTERM stops its jobs" wait_for 20 not lives "$first"
  wait "$container"
  start_bertd
  ok "which save before" eval '"$BERTCTL" logs --attempt 1 "$job" | grep saved'
  ok "and are started by the next bertd" wait_for 20 attempt_past "$job" 2
  "$BERTCTL" cancel --now "$job"
else
  skip "bertd is process 1 of a container" "no pid namespace can be made here"
fi
finish
