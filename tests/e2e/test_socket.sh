#!/bin/bash
# The socket's file, whatever becomes of it while bertd lives: removed, moved, with its folder, taken by somebody else.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
export BERTD_SOCKET=$work/above/run/bertd.sock
start_bertd
job=$("$BERTCTL" submit -- sleep 600)
ok "a job runs" wait_for 20 state_is "$job" running
"$BERTCTL" wait "$job" >"$work/waited" 2>&1 &
waiter=$!
wakeups() { awk '/^voluntary/ { print $2 }' "/proc/$bertd_pid/status"; }

sleep 0.5
chmod 666 "$BERTD_SOCKET"
sleep 0.2
before=$(wakeups)
for i in 1 2 3 4 5 6 7 8; do touch "$work/above/run/$i"; rm "$work/above/run/$i"; done
sleep 1
ok "what happens beside it does not wake bertd" test $(($(wakeups) - before)) -lt 4

rm "$BERTD_SOCKET"
ok "a socket's file that is removed is made again" wait_for 5 answers
is "as it was" "$(stat -c %a "$BERTD_SOCKET")" 666
rm -r "$work/above/run"
ok "with its folder" wait_for 5 answers
mv "$BERTD_SOCKET" "$work/moved"
ok "one that is moved, too" wait_for 5 answers
mv "$work/above/run" "$work/elsewhere"
ok "and one whose folder is" wait_for 5 answers
mv "$work/above" "$work/below"
ok "and one whose folder's folder is" wait_for 5 answers
is "the log says each" "$(grep -c "$BERTD_SOCKET was removed while bertd runs; created again" "$work/bertd.log")" 5

# A file system over its folder, as a user's /run/user is made anew at each login. It cannot be unmounted while the socket is in it.
if mount -t tmpfs none "$work/above/run" 2>/dev/null; then
  ok "one that is covered" wait_for 5 answers
  umount --lazy "$work/above/run"
  ok "and uncovered" wait_for 5 answers
else
  skip 2 "needs root"
fi

# Somebody else is there before bertd looks.
kill -STOP "$bertd_pid"
rm "$BERTD_SOCKET"
python3 -c 'import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(600)' "$BERTD_SOCKET" &
other=$!
wait_for 5 test -S "$BERTD_SOCKET"
theirs=$(stat -c %i "$BERTD_SOCKET")
kill -CONT "$bertd_pid"
ok "another's socket is named" wait_for 5 grep -q "cannot be created yet: .*another daemon answers there" "$work/bertd.log"
is "and left" "$(stat -c %i "$BERTD_SOCKET")" "$theirs"
kill "$other"
ok "when that one has ended the path is bertd's again" wait_for 25 answers

ok "the job has run on" state_is "$job" running
ok "a client that was connected all the time still waits" lives "$waiter"
"$BERTCTL" cancel --now "$job"
ok "and is answered" wait_for 10 not lives "$waiter"
is "as if nothing had been" "$(wait "$waiter"; echo $?)" 1
kill -TERM "$bertd_pid"
ok "bertd ends" wait_for 10 not lives "$bertd_pid"
ok "and takes its file with it" test ! -e "$BERTD_SOCKET"

# Of a .socket unit: passed as systemd does.
cat >"$work/pass.py" <<'EOF'
"""KIND[:PATH]... -- PROGRAM...: runs it with these descriptors passed; "pid:N" passes them to another process."""
import os, socket, sys
end = sys.argv.index("--")
fds, pid = [], os.getpid()
for kind, _, path in (a.partition(":") for a in sys.argv[1:end]):
    if kind == "pid":
        pid = int(path)
        continue
    if kind == "pipe":
        fds.append(os.pipe()[0])
        continue
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM)
    s.bind("\0" + path if kind == "abstract" else path)
    if kind not in ("datagrams", "bound"):
        s.listen()
    if kind in ("removed", "replaced"):
        os.unlink(path)
    if kind == "replaced":
        open(path + ".mark", "w").close()
        t = socket.socket(socket.AF_UNIX)
        t.bind(path)
    fds.append(s.detach())
high = [os.dup(os.dup2(fd, 100 + i)) for i, fd in enumerate(fds)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.environ.update(LISTEN_PID=str(pid), LISTEN_FDS=str(len(fds)))
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
EOF
cat >"$work/passed" <<EOF
#!/bin/bash
exec python3 "$work/pass.py" "\$@" -- "$BERTD" --slots 8 --launcher fork --state-dir "$BERTD_STATE_DIR" --socket "$work/unused"
EOF
chmod 755 "$work/passed"
rm -f "$BERTD_SOCKET"
ok "datagrams are refused" refuses 2 "not a listening Unix stream socket.*ListenStream=" "$work/passed" datagrams:"$work/d.sock"
ok "a socket at which nobody listens is" refuses 2 "not a listening Unix stream socket" "$work/passed" bound:"$work/b.sock"
ok "what is not a socket is" refuses 2 "not a listening Unix stream socket" "$work/passed" pipe
ok "two are" refuses 2 "2 descriptors were passed .LISTEN_FDS., expected 1" "$work/passed" stream:"$work/1.sock" stream:"$work/2.sock"
ok "an abstract one is" refuses 2 "no absolute path" "$work/passed" abstract:bertd-test-$$
start_passed() {
  "$work/passed" "$@" >>"$work/bertd.log" 2>&1 </dev/null &
  bertd_pid=$!
}
stop_passed() { kill -TERM "$bertd_pid"; wait_for 10 eval '! lives "$bertd_pid"'; }
start_passed removed:"$BERTD_SOCKET"
ok "one whose file is gone is replaced at the start" wait_for 20 answers
ok "which the log says" grep -q "is not the socket that was passed; created again" "$work/bertd.log"
ok "and the replacement is bertd's" stop_passed
ok "who takes it along" test ! -e "$BERTD_SOCKET"
start_passed replaced:"$BERTD_SOCKET"
ok "one in whose place is another's file is replaced" wait_for 20 answers
stop_passed
start_passed pid:1 stream:"$BERTD_SOCKET"
ok "what is passed to another process is not bertd's" wait_for 20 test -S "$work/unused"
stop_passed
rm -f "$BERTD_SOCKET"
if command -v systemd-socket-activate >/dev/null; then
  systemd-socket-activate -l "$BERTD_SOCKET" "$BERTD" --slots 8 --launcher fork --state-dir "$BERTD_STATE_DIR" --socket "$work/unused" \
    >>"$work/bertd.log" 2>&1 </dev/null &
  bertd_pid=$!
  wait_for 10 test -S "$BERTD_SOCKET"
  ok "a bertd is started by its first client" wait_for 20 answers
  job=$("$BERTCTL" submit -- bash -c 'readlink /proc/$$/fd/* >fds; env >>fds')
  ok "its shims find it" wait_job "$job"
  is "and the job has neither its socket nor its variables" "$(grep -E '^socket|^LISTEN' fds)" ""
  ok "a socket that was passed is its only one" test ! -e "$work/unused"
  rm "$BERTD_SOCKET"
  ok "it is made again, too" wait_for 5 answers
  stop_passed
  ok "and then taken along" test ! -e "$BERTD_SOCKET"
else
  skip "a bertd is started by its first client" "no systemd-socket-activate"
fi

# A socket that outlives bertd, as bertd.socket does: a client waits while bertd is restarted, and while it is started again after a crash.
cat >"$work/keep.py" <<'EOF'
"""PATH PROGRAM...: listens, and starts the program with the socket each time that it has ended, but for exit 0 once PATH.end is there."""
import os, socket, subprocess, sys, time
path = sys.argv[1]
s = socket.socket(socket.AF_UNIX)
s.bind(path)
s.listen()
while not os.path.exists(path + ".end"):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.dup(s.fileno()), 3, inheritable=True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
        os.execv(sys.argv[2], sys.argv[2:])
    os.waitpid(pid, 0)
EOF
rm -f "$BERTD_SOCKET"
python3 "$work/keep.py" "$BERTD_SOCKET" "$BERTD" --slots 8 --launcher fork --state-dir "$BERTD_STATE_DIR" >>"$work/bertd.log" 2>&1 </dev/null &
keeper=$!
wait_for 10 test -S "$BERTD_SOCKET"
pid_of_bertd() { bertd_pid=$("$BERTCTL" status --json | jq .daemon.pid); [[ $bertd_pid -gt 0 ]]; }
calls() { # NAME COMMAND...: again and again until $work/enough is there; what failed is in $work/NAME.failed
  local name=$1
  shift
  until [[ -e $work/enough ]]; do
    "$@" >/dev/null 2>"$work/$name.err" || cat "$work/$name.err" >>"$work/$name.failed"
    echo >>"$work/$name.calls"
  done
}
ends_bertd() { # SIGNAL: and waits for the next
  local old
  pid_of_bertd && old=$bertd_pid && kill "-$1" "$bertd_pid" && wait_for 10 eval '! lives "$old"' && pid_of_bertd && [[ $bertd_pid != "$old" ]]
}
restarts() { local i; for ((i = 0; i < $2; i++)); do ends_bertd "$1" || return; done; }
calls list "$BERTCTL" list &
lister=$!
calls submit "$BERTCTL" submit --name again -- true &
submitter=$!
ok "bertd is restarted 8 times" restarts TERM 8
touch "$work/enough"
wait "$lister" "$submitter"
is "and no list has failed" "$(cat "$work/list.failed" 2>&1)" "cat: $work/list.failed: No such file or directory"
is "nor a submit" "$(cat "$work/submit.failed" 2>&1)" "cat: $work/submit.failed: No such file or directory"
is "each of which was made once" "$("$BERTCTL" list --json | jq '[.[] | select(.name == "again")] | length')" "$(wc -l <"$work/submit.calls")"
rm "$work/enough" "$work/list.calls"
calls list "$BERTCTL" list &
lister=$!
ok "bertd is killed with -9 3 times" restarts KILL 3
touch "$work/enough"
wait "$lister"
is "and no list has failed then" "$(cat "$work/list.failed" 2>&1)" "cat: $work/list.failed: No such file or directory"
# Connections that end in the middle: the first of each, when it has said WORD ("": nothing yet).
cat >"$work/drop.py" <<'EOF'
"""SOCKET BERTD_SOCKET WORD"""
import socket, sys, threading
path, bertd, word = sys.argv[1:]
s = socket.socket(socket.AF_UNIX)
s.bind(path)
s.listen()
def pump(source, to, drop):
    while data := source.recv(65536):
        if drop and word.encode() in data:
            break
        to.sendall(data)
    for end in (source, to):
        end.close() if drop else end.shutdown(socket.SHUT_WR)
first = True
while True:
    client, daemon = s.accept()[0], socket.socket(socket.AF_UNIX)
    if first and not word:
        client.close()
    else:
        daemon.connect(bertd)
        threading.Thread(target=pump, args=(client, daemon, first), daemon=True).start()
        threading.Thread(target=pump, args=(daemon, client, False), daemon=True).start()
    first = False
EOF
lossy() { # WORD COMMAND...: through such a connection
  local pid status=0
  rm -f "$work/drop.sock"
  python3 "$work/drop.py" "$work/drop.sock" "$BERTD_SOCKET" "$1" 2>/dev/null &
  pid=$!
  wait_for 10 test -S "$work/drop.sock"
  shift
  "$@" || status=$?
  kill "$pid"
  return "$status"
}
bertctl=("$BERTCTL" --socket "$work/drop.sock")
n_jobs() { "$BERTCTL" list --json | jq length; }
before=$(n_jobs)
ok "a read whose connection is lost is made again" lossy ListJobs quietly "${bertctl[@]}" list
ok "with its arguments" lossy GetJob quietly "${bertctl[@]}" status "$job"
ok "a change is not, as it may have been made" lossy Submit refuses 4 "closed the connection before it answered; the job may have been accepted" "${bertctl[@]}" submit -- true
is "nor was it" "$(n_jobs)" "$before"
ok "one that was not asked for yet is" lossy "" quietly "${bertctl[@]}" submit -- true
is "made once" "$(n_jobs)" $((before + 1))
touch "$BERTD_SOCKET.end"
ok "shutdown waits until bertd has ended" "$BERTCTL" shutdown
ok "which it has" not lives "$bertd_pid"
wait_for 10 eval '! lives "$keeper"'
ok "then nobody is waited for" refuses 4 "nobody listens" "$BERTCTL" list
finish
