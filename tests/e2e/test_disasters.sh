#!/bin/bash
# What happens to bertd itself and to its disk while jobs run: absence, a long freeze, a locked, corrupt or read-only state database, no
# inodes, no descriptors, a pid that is somebody else's by now, a job that cannot stop talking.
. "$(dirname "$0")/lib.sh"
exit_of() { field "$1" exit; }
has_ended() { [[ -s $BERTD_STATE_DIR/jobs/$1/attempt-1/exit.json ]]; } # says its shim
terminate_bertd() { kill -TERM "$bertd_pid"; wait "$bertd_pid"; } 2>/dev/null
is_id() { [[ $1 =~ ^[0-9]+$ ]]; }
count_jobs() { "$BERTCTL" list --all --json | jq length; }
sigstop_sec=${BERTD_FREEZE_SEC:-8}

# One that takes connections and says nothing, for later.
python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(1000)' "$work/mute" &
mute_bertd=$!
wait_for 10 test -S "$work/mute"
for word in list version; do timeout $((60 * patience)) "$BERTCTL" --socket "$work/mute" $word >"$work/$word.mute" 2>&1 & done

# Nobody is there when a job ends.
start_bertd
wait_for_end="until [ -e $work/end ]; do sleep 0.1; done"
seven=$("$BERTCTL" submit --retries 0 -- sh -c "$wait_for_end; exit 7")
segv=$("$BERTCTL" submit --retries 0 -- sh -c "$wait_for_end; kill -SEGV \$\$")
runs=$("$BERTCTL" submit -- sleep 1000)
job=$runs
for j in "$seven" "$segv" "$runs"; do wait_for 20 state_is "$j" running; done
shim=$(shim_of "$runs")
kill_bertd
touch "$work/end"
ok "two jobs end without a bertd" wait_for 20 eval 'has_ended "$seven" && has_ended "$segv"'
start_bertd
ok "a job that ended without a bertd has failed" wait_for 10 state_is "$seven" failed
is "with its exit code" "$(exit_of "$seven")" 7
wait_for 10 state_is "$segv" failed
is "another with its signal" "$(field "$segv" exit_signal)" SIGSEGV
is "one that runs has its shim still" "$(field "$runs" state) $(shim_of "$runs")" "running $shim"

# bertd is frozen.
slow=$("$BERTCTL" submit -- sh -c 'sleep 3; exit 0')
wait_for 10 state_is "$slow" running
kill -STOP "$bertd_pid"
begin=$SECONDS
timeout 3 "$BERTCTL" list >/dev/null 2>&1
sleep "$sigstop_sec"
kill -CONT "$bertd_pid"
ok "frozen for $((SECONDS - begin)) s, bertd accounts what ended" wait_for 10 state_is "$slow" done
is "and has hurt no job" "$(field "$runs" state) $(field "$runs" attempts)" "running 1"

# Somebody holds the database, until $work/release is written to.
mkfifo "$work/release"
busy=$("$BERTCTL" submit -- sh -c 'sleep 1; exit 0')
wait_for 10 state_is "$busy" running
sqlite3 "$BERTD_STATE_DIR/state.db" "BEGIN IMMEDIATE" ".shell touch $work/held; cat $work/release" "ROLLBACK" &
holder=$!
wait_for 10 test -e "$work/held"
jobs=$(count_jobs)
ok "state.db is locked by another: a submit, which cannot be kept, is refused" refuses 1 "state.db.*locked" timeout $((10 * patience)) "$BERTCTL" submit -- true
is "and not kept" "$(count_jobs)" "$jobs"
ok "a job ends meanwhile" wait_for 20 has_ended "$busy"
ok "bertd answers" quietly timeout $((2 * patience)) "$BERTCTL" status "$runs"
ok "status says why nothing starts" wait_for 6 eval '"$BERTCTL" status | grep "locked.*no job starts until" >/dev/null'
ok "the lock was held all the time" kill -0 "$holder"
echo >"$work/release"
wait "$holder"
ok "free again: what ended meanwhile is accounted" wait_for 20 state_is "$busy" done
ok "a submit is taken" quietly "$BERTCTL" submit -- true

# The database is corrupt.
kill_bertd
sqlite3 "$BERTD_STATE_DIR/state.db" 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
cp "$BERTD_STATE_DIR/state.db" "$work/state.good"
dd if=/dev/urandom of="$BERTD_STATE_DIR/state.db" bs=4096 seek=1 count=12 conv=notrunc status=none
cp "$BERTD_STATE_DIR/state.db" "$work/state.bad"
timeout 20 "$BERTD" --launcher fork >"$work/out" 2>"$work/err" </dev/null
ok "a corrupt state.db is refused" test $? -ne 0 -a $? -ne 124
ok "in one line that names it" eval '[[ $(wc -l <"$work/err") == 1 ]] && grep -q state.db "$work/err"'
ok "and says what to do" grep -qE "recover|restore|move|rescue|bertd\(8\)" "$work/err"
ok "it is left as it was" cmp -s "$work/state.bad" "$BERTD_STATE_DIR/state.db"
is "the shim of the job lives" "$(shim_of "$runs")" "$shim"
cp "$work/state.good" "$BERTD_STATE_DIR/state.db"
start_bertd
is "with the good one bertd knows it again" "$(wait_for 10 state_is "$runs" running; field "$runs" attempts)" 1

# The shim's pid belongs to another process by now.
kill_bertd
kill -KILL "$shim" $(of_job "$runs" sleep)
setsid sleep 997 &
stranger=$!
sqlite3 "$BERTD_STATE_DIR/state.db" "UPDATE attempt SET pid=$stranger WHERE job=$runs"
start_bertd
ok "a pid used again is not taken for the shim" wait_for 20 attempt_past "$runs" 2
ok "and who has it is left alone" kill -0 "$stranger"
kill -KILL "$stranger"
"$BERTCTL" cancel --now "$runs"

said_nothing() { grep -q "^bertctl: $work/mute: .* listens there, not bertd, and does not answer" "$work/$1.mute"; }
for word in list version; do ok "a bertd that says nothing: $word has given up" wait_for 30 said_nothing $word; done
kill "$mute_bertd"

# A job that cannot stop talking, on a daemon that has few descriptors.
kill_bertd
(ulimit -n 192; exec setsid "$BERTD" --slots 8 --launcher fork) >>"$work/bertd.log" 2>&1 </dev/null &
bertd_pid=$!
wait_for 20 answers
talker=$("$BERTCTL" submit -- sh -c 'yes "a line of a job that has much to say" | head -c 150000000; echo; echo the-end')
cpu() { awk '{print $14 + $15}' "/proc/$bertd_pid/stat"; }
before=$(cpu)
python3 -c "
import socket, time
held = []
for _ in range(200):
    s = socket.socket(socket.AF_UNIX)
    try: s.connect('$BERTD_SOCKET'); held.append(s)
    except OSError: break
time.sleep(1)"
ok "200 connections at 192 descriptors: bertd lives" kill -0 "$bertd_pid"
ok "and answers when they have gone" wait_for 10 answers
ok "the talker is done" wait_job "$talker"
ok "bertd did nothing for 150 MB of output" test "$(cpu)" -lt $((before + 150))
folder=$(dirname "$(field "$talker" log)")
size=$(cat "$folder"/log* | wc -c)
ok "the log is bounded" test "$size" -gt 30000000 -a "$size" -le 70000000
is "and has the end" "$("$BERTCTL" logs -n 1 "$talker")" the-end
kill_bertd

# A state folder without inodes, and one that may not be written.
if ((EUID == 0)) && mkdir "$work/small" && mount -t tmpfs -o size=8m,nr_inodes=120 tmpfs "$work/small" 2>/dev/null; then
  export BERTD_STATE_DIR=$work/small/state
  start_bertd
  job=$("$BERTCTL" submit -- sh -c 'sleep 4; exit 0')
  wait_for 20 state_is "$job" running
  n=0
  while touch "$work/small/f$n" 2>/dev/null; do n=$((n + 1)); done
  ok "the state folder has no inode left" refuses 1 "No space left" touch "$work/small/g"
  kept=$("$BERTCTL" submit -- true)
  ok "a submit is taken: its commit needs none" is_id "$kept"
  ok "bertd answers" answers
  says_inodes() { "$BERTCTL" status --json "$1" | jq -r '.reason, .first_cause' | grep -q "No inodes left on device (df -i shows it)"; }
  ok "its start says what is full" wait_for 20 says_inodes "$kept"
  is "and waits" "$(field "$kept" state)" backoff
  ok "so does bertctl" refuses 74 "No inodes left on device" "$BERT_TRAINER" vocab --size 200 --output "$work/small/v" "$source_dir/README.md"
  rm -f "$work"/small/f*
  ok "with inodes again the running job ends" wait_job "$job" 60
  ok "and the one that was taken" wait_job "$kept" 60
  full=$("$BERTCTL" submit -- sh -c "cd $work/small; while touch f\$((n += 1)) 2>/dev/null; do :; done; touch one-more")
  wait_for 20 state_is "$full" backoff
  ok "a program's words for it are explained" says_inodes "$full"
  rm -f "$work"/small/f*
  "$BERTCTL" cancel "$full"
  terminate_bertd
  while touch "$work/small/f$((n += 1))" 2>/dev/null; do :; done
  ok "nor does bertd start, and says why" refuses 74 "No inodes left on device" "$BERTD" --launcher fork
  rm -f "$work"/small/f*
  wait_for 10 mount -o remount,ro "$work/small"
  timeout 10 "$BERTD" --launcher fork >"$work/out" 2>"$work/err" </dev/null
  ok "a read-only state folder is refused" test $? -ne 0 -a $? -ne 124
  is "in one line" "$(wc -l <"$work/err")" 1
  ok "that says so ($(cat "$work/err"))" grep -qi 'read-only' "$work/err"
  mount -o remount,rw "$work/small"
  start_bertd
  is "writable again, it knows its jobs" "$(field "$job" state)" done
  kill_bertd
  umount -l "$work/small"
else
  for ((i = 0; i < 14; i++)); do skip "small file system" "cannot mount a tmpfs"; done
fi
finish
