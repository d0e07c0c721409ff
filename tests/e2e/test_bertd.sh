#!/bin/bash
# bertd's own options and state: slots and GPUs by default and as given, --detach, a network file system, the rescue of a damaged state.db
# as bertd(8) tells it.
. "$(dirname "$0")/lib.sh"
daemon() { "$BERTCTL" status --json | jq -r ".daemon.$1"; }
with() { # OPTION...: a bertd with these alone
  kill_bertd
  ASAN_OPTIONS=$leak_check setsid "$BERTD" --launcher fork "$@" >>"$work/bertd.log" 2>&1 </dev/null &
  bertd_pid=$!
  wait_for 20 answers
}

with
is "without --slots it has the cores that it may use" "$(daemon slots)" "$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)"
kill_bertd
first=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
taskset -c "$first" setsid "$BERTD" --launcher fork >>"$work/bertd.log" 2>&1 </dev/null &
bertd_pid=$!
wait_for 20 answers
is "bound to one core, one slot" "$(daemon slots)" 1

soft=$(ulimit -Sn) hard=$(ulimit -Hn)
ulimit -Sn 256
with --slots 1
ulimit -Sn "$soft"
[[ $hard != unlimited ]] && ((hard < 16384)) || hard=16384
is "it takes what open files it may, whatever the login has" "$(awk '/^Max open files/ { print $4 }' "/proc/$bertd_pid/limits")" "$hard"
job=$(busctl --address="unix:path=$BERTD_SOCKET" call -- org.bertd1 /org/bertd1 org.bertd1.Manager Submit 'a{sv}' 4 \
  name s files kind s command command as 3 sh -c 'ulimit -Sn' cwd s / | awk '{ print $2 }')
wait_job "$job"
is "and gives jobs that say nothing of it the usual number" "$("$BERTCTL" logs "$job")" 1024

export BERTD_NVML=/nonexistent
with --slots 8 --gpus 3,GPU-5,0
is "--gpus LIST: so many" "$(daemon gpus)" 3
visible=()
for n in 2 1; do
  job=$("$BERTCTL" submit --gpus $n -- sh -c 'echo "$CUDA_VISIBLE_DEVICES"; exec sleep 1000')
  wait_for 20 eval '[[ -n $("$BERTCTL" logs $job 2>/dev/null) ]]'
  visible+=("$("$BERTCTL" logs "$job")")
done
is "jobs see them by these names, in this order" "${visible[*]}" "3,GPU-5 0"
ok "more than there are is refused" refuses 1 "4 GPUs\|gpus" "$BERTCTL" submit --gpus 4 -- true
for j in $("$BERTCTL" list --json --active | jq '.[].id'); do "$BERTCTL" cancel --now "$j"; done

# A damaged database, and the commands of bertd(8).
job=$("$BERTCTL" submit --name survivor -- sleep 1000)
wait_for 20 state_is "$job" running
ended=$("$BERTCTL" submit --name ended -- true)
wait_job "$ended"
shim=$(shim_of "$job")
kill_bertd
# The page of a small table: what can be read is in the log that bertd has left beside its database as well.
page=$(sqlite3 "$BERTD_STATE_DIR/state.db" "PRAGMA wal_checkpoint; SELECT rootpage FROM sqlite_schema WHERE name = 'meta'" | tail -n 1)
printf 'XXXXXXXX' | dd of="$BERTD_STATE_DIR/state.db" bs=1 seek=$(((page - 1) * 4096)) conv=notrunc status=none
refused() { refuses 1 "state.db.*bertd(8)" timeout 20 "$BERTD" --launcher fork; }
ok "over a damaged state.db bertd does not start, and names bertd(8)" refused
rescue=$(sed -n '/^umask/,/^\.fi/p' "$source_dir/docs/bertd.8" | grep -v '^\.')
ok "which has commands for that" grep -q 'sqlite3 .*\.dump' <<<"$rescue"
ok "they work" eval 'cd "$BERTD_STATE_DIR" && sh -ec "$rescue"'
is "for nobody else to read" "$(stat -c %a "$BERTD_STATE_DIR/state.db")" 600
cd "$work" || exit 99
start_bertd
is "bertd then starts, and knows its jobs" "$(field "$job" name) $(field "$ended" name):$(field "$ended" state)" "survivor ended:done"
ok "the one that ran runs on" wait_for 20 state_is "$job" running
is "with its shim, in its attempt" "$(shim_of "$job") $(field "$job" attempts)" "$shim 1"
"$BERTCTL" cancel --now "$job"
ok "and is ended as any other" wait_for 20 state_is "$job" cancelled
next=$("$BERTCTL" submit -- true)
ok "a new one gets an id of its own, and is done" eval '(( next > ended )) && wait_job "$next" 20'
kill_bertd

# A state folder of an older bertd, and the way back as bertd(8) has it.
export BERTD_STATE_DIR=$work/older
mkdir "$BERTD_STATE_DIR"
sqlite3 "$BERTD_STATE_DIR/state.db" <"$source_dir/tests/unit/schemas/f2f00a0.sql"
sqlite3 "$BERTD_STATE_DIR/state.db" "UPDATE job SET state = 'paused' WHERE id > 4; UPDATE attempt SET open = 0"
older() { "$BERTCTL" list --all --json | jq -r 'map(.name) | sort | join(" ")'; }
names=$(sqlite3 "$BERTD_STATE_DIR/state.db" "SELECT group_concat(name, ' ') FROM (SELECT name FROM job ORDER BY name)")
start_bertd
is "an older bertd's jobs are taken up" "$(older)" "$names"
is "after a copy of its database, for nobody else to read" "$(stat -c %a "$BERTD_STATE_DIR"/state.db.*)" 600
next=$("$BERTCTL" submit --name since -- true)
is "a new job gets an id of its own" "$next" 12
wait_job "$next"
kill_bertd
sqlite3 "$BERTD_STATE_DIR/state.db" 'PRAGMA user_version = 99'
ok "what is too new for a bertd is refused with the copy that it can read" refuses 1 \
  "state.db: has schema 99 of a newer bertd, bertd [0-9.]* knows up to [0-9]*; .*copy of schema 4, $BERTD_STATE_DIR/state.db.schema-4 (see .*bertd(8)" \
  timeout 20 "$BERTD" --launcher fork
back=$(sed -n '/^mkdir newer/,/^\.fi/p' "$source_dir/docs/bertd.8" | grep -v '^\.' | sed 's/\\-/-/g')
mkdir -p "$BERTD_STATE_DIR/jobs/1/attempt-1"
ok "the commands of bertd(8) go back to it" eval 'cd "$BERTD_STATE_DIR" && sh -ec "$back"'
cd "$work" || exit 99
start_bertd
is "with the jobs as they were then" "$(older)" "$names"
ok "and their folders moved away" test -d "$BERTD_STATE_DIR/jobs/1/attempt-1.newer"
kill_bertd
export BERTD_STATE_DIR=$work/state

# A network file system.
export ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0
for type in 6969:NFS ff534d42:CIFS fe534d42:SMB 01021997:9p 0bd00bd0:Lustre; do
  ok "a state folder on ${type#*:} is refused" refuses 1 "state.db: on a network file system; give a local --state-dir" \
    env STATFS_TYPE="${type%:*}" LD_PRELOAD="$(preloaded netfs)" "$BERTD" --launcher fork --state-dir "$work/remote"
  ok "and no database is made there" test ! -e "$work/remote/state.db"
done

# --detach: in a session of its own, without the caller's descriptors; ready when it returns.
export BERTD_STATE_DIR=$work/detached BERTD_SOCKET=$work/detached.sock
said=$(timeout 30 "$BERTD" --launcher fork --detach 2>"$work/err") # a pipe that bertd kept would be waited for
is "--detach: 0, and says socket and pid" "$? $(sed 's/pid [0-9]*/pid N/' <<<"$said")" "0 bertd: pid N, socket $BERTD_SOCKET"
bertd_pid=$(sed 's/.*pid \([0-9]*\),.*/\1/' <<<"$said")
ok "it answers at once" answers
is "that is its pid" "$("$BERTCTL" version --json | jq .pid)" "$bertd_pid"
is "it leads a session of its own, without a terminal" "$(ps -o sid=,tty= -p "$bertd_pid" | xargs)" "$bertd_pid ?"
is "in no folder of the caller's" "$(readlink "/proc/$bertd_pid/cwd")" /
kill -HUP "$bertd_pid"
ok "SIGHUP does not end it" answers
is "its messages are in the state folder" "$(grep -c "bertd .*, pid $bertd_pid: $BERTD_STATE_DIR" "$BERTD_STATE_DIR/bertd.log")" 1
# Its log is bounded: a full one becomes bertd.log.1, whose place one that was there before loses; one that is removed is made again.
stop_detached() { kill "$bertd_pid" && wait_for 20 not lives "$bertd_pid"; }
restart_detached() { stop_detached && bertd_pid=$(timeout 30 "$BERTD" --launcher fork --detach | sed 's/.*pid \([0-9]*\),.*/\1/'); }
echo older >"$BERTD_STATE_DIR/bertd.log.1"
head -c 4M /dev/zero >"$BERTD_STATE_DIR/bertd.log"
ok "--detach with a full log" restart_detached
is "keeps it beside the new one" "$(stat -c %s "$BERTD_STATE_DIR/bertd.log.1")" $((4 << 20))
ok "which has the first line" wait_for 10 grep -q "bertd .*, pid $bertd_pid: " "$BERTD_STATE_DIR/bertd.log"
rm "$BERTD_STATE_DIR/bertd.log"
job=$("$BERTCTL" submit -- true) && wait_job "$job"
is "a log that was removed is made again" "$(grep -c "job $job attempt 1: finished" "$BERTD_STATE_DIR/bertd.log")" 1
mv "$BERTD_STATE_DIR/bertd.log" "$BERTD_STATE_DIR/bertd.log.old"
job=$("$BERTCTL" submit -- true) && wait_job "$job"
is "as is one that was moved away" "$(grep -c "job $job attempt 1: finished" "$BERTD_STATE_DIR/bertd.log")" 1
mkfifo "$work/fifo" && mv "$work/fifo" "$BERTD_STATE_DIR/bertd.log"
job=$("$BERTCTL" submit -- true)
ok "a FIFO in its place holds nobody up" wait_job "$job"
rm "$BERTD_STATE_DIR/bertd.log"
job=$("$BERTCTL" submit -- true) && wait_job "$job"
is "readable by bertd's user alone" "$(stat -c %a "$BERTD_STATE_DIR/bertd.log")" 600
ok "a second one on that folder is refused in one line, through the pipe, too" refuses 1 "$BERTD_STATE_DIR.*$bertd_pid" timeout 30 "$BERTD" --launcher fork --detach --socket "$work/other.sock"

# A stop waits for no client that has connected and says too little.
python3 - "$BERTD_SOCKET" >"$work/clients" <<'EOF' &
import socket, sys, time
clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
for client, words in zip(clients, (b"\0", b"\0AUTH EXTERNAL\r\nDATA\r\n")):
    client.connect(sys.argv[1])
    client.send(words)
print("connected", flush=True)
time.sleep(600)
EOF
clients=$!
wait_for 10 test -s "$work/clients"
ok "bertd has taken both" answers
ok "SIGTERM ends it all the same" stop_detached
kill "$clients"
bertd_pid=$(timeout 30 "$BERTD" --launcher fork --detach | sed 's/.*pid \([0-9]*\),.*/\1/')
# The end takes a moment after the connections are closed: here one that is long enough to meet.
if [[ $sanitized != yes ]]; then # a sanitizer's search for leaks cannot be traced
  strace -f -o /dev/null -e trace=unlink -e inject=unlink:delay_exit=1000000 -p "$bertd_pid" 2>"$work/strace" &
  wait_for 10 grep -q attached "$work/strace"
fi
"$BERTCTL" shutdown
ok "shutdown returns when bertd has ended" not lives "$bertd_pid"
ok "and the next one starts at once" eval \
  'bertd_pid=$(timeout 30 "$BERTD" --launcher fork --detach | sed "s/.*pid \([0-9]*\),.*/\1/"); [[ -n $bertd_pid ]]'
"$BERTCTL" shutdown
bertd_pid=
finish
