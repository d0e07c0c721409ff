#!/bin/bash
# A bertd that does not answer, and other things that listen where it should: each command of bertctl ends within 10 s, with what is true and
# the cure.
. "$(dirname "$0")/lib.sh"
start_bertd
limit=$((10 * patience))

# begin NAME COMMAND...: begins it in the background; its code, seconds and text are in $work/NAME.*
begin() {
  local name=$1 code=0 began
  shift
  {
    began=$(date +%s%N)
    timeout $((60 * patience)) "$@" >"$work/$name.out" 2>"$work/$name.err" </dev/null || code=$?
    echo "$code" >"$work/$name.code"
    echo $((($(date +%s%N) - ${silent_since:-$began}) / 1000000000)) >"$work/$name.seconds"
  } &
}
ended() { # NAME CODE PATTERN
  [[ $(cat "$work/$1.code") == "$2" ]] && [[ $(cat "$work/$1.seconds") -lt $limit ]] && [[ $(wc -l <"$work/$1.err") == 1 ]] && grep -q -- "$3" "$work/$1.err" ||
    { echo "exit $(cat "$work/$1.code") after $(cat "$work/$1.seconds") s, expected $2 and /$3/:"; cat "$work/$1.err"; return 1; }
}

# Who listens and what it does: a program in Python that is told a way to be silent.
cat >"$work/other.py" <<'PY'
import socket, sys, time
way, path = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if way == "datagrams" else socket.SOCK_STREAM)
s.bind(path)
if way == "full":
    s.listen(0)
    for _ in range(2):
        c = socket.socket(socket.AF_UNIX)
        c.setblocking(False)
        try: c.connect(path)
        except BlockingIOError: break
        globals()[f"kept{_}"] = c
elif way != "datagrams":
    s.listen(16)
while way in ("full", "unaccepted", "datagrams"): time.sleep(1)
kept = []
while True:
    c, _ = s.accept()
    if way == "echo": c.send(c.recv(512))
    if way == "close": c.recv(512); c.close()
    kept.append(c)
PY
ways="full unaccepted datagrams mute echo close"
others=()
for way in $ways; do
  python3 "$work/other.py" "$way" "$work/$way.sock" &
  others+=($!)
done
cleanup_others() { kill -KILL "${others[@]}" 2>/dev/null; }
trap 'cleanup_others; kill -CONT "$bertd_pid" 2>/dev/null; tap_end' EXIT
for way in $ways; do wait_for 10 test -S "$work/$way.sock"; done
sleep 0.5
waiting=()
for way in $ways; do
  begin "$way" "$BERTCTL" --socket "$work/$way.sock" list
  waiting+=($!)
done

# A bertd that is stopped, for calls that come then and for those that wait already.
job=$("$BERTCTL" submit -- sleep 1000)
wait_for 20 state_is "$job" running
began=$(date +%s%N)
for command in "wait $job" "logs -f $job" "status -w $job"; do
  # shellcheck disable=SC2086 # its words
  silent_since=$(($(date +%s%N) + 5000000000)) begin "long-${command%% *}" "$BERTCTL" $command
  waiting+=($!)
done
sleep $((5 - ($(date +%s%N) - began) / 1000000000))
kill -STOP "$bertd_pid"
short="list;status;status $job;submit -- true;cancel $job $job;pause $job;resume $job;checkpoint $job;checkpoints $job;events $job;logs $job;metrics $job;results x;rm $job $job;version;shutdown;shutdown --jobs"
while IFS= read -r command; do
  # shellcheck disable=SC2086
  begin "short-${command// /_}" "$BERTCTL" $command
  waiting+=($!)
done < <(tr ';' '\n' <<<"$short")
begin doctor "$BERTCTL" doctor
waiting+=($!)
wait "${waiting[@]}"
stopped="bertd at $BERTD_SOCKET does not answer.*: its process $bertd_pid is stopped; to continue it: \`kill -CONT $bertd_pid\`"
while IFS= read -r command; do
  ok "a bertd that is stopped: bertctl $command" ended "short-${command// /_}" 4 "$stopped"
done < <(tr ';' '\n' <<<"$short")
ok "doctor says so, too" eval '[[ $(cat "$work/doctor.code") == 1 && $(cat "$work/doctor.seconds") -lt $limit ]] && grep -q "$stopped" "$work/doctor.out"'
for command in wait logs status; do
  ok "stopped while $command waits for the job" ended "long-$command" 4 "$stopped"
done
ok "a full backlog" ended full 4 "full.sock accepts no connection: .*fuser"
ok "connections that nobody accepts" ended unaccepted 4 "unaccepted.sock: python3 (pid [0-9]*) listens there, not bertd, and does not answer: stop it and start bertd"
ok "a listener that says nothing" ended mute 4 "mute.sock: python3 (pid [0-9]*) listens there, not bertd"
ok "one that says what it hears" ended echo 4 "echo.sock: the process listening there is not bertd but python3 (pid [0-9]*) "
ok "one that closes" ended close 4 "close.sock.* closed the connection before it answered"
ok "a socket of datagrams" ended datagrams 4 "datagrams.sock: the process listening there is not bertd"

# It goes on as if nothing had been.
kill -CONT "$bertd_pid"
ok "continued, it answers" wait_for 10 answers
is "the job runs" "$(field "$job" state)" running
is "nothing was submitted meanwhile" "$("$BERTCTL" list --json | jq length)" 1
ok "bertctl wait waits longer than it takes to see that bertd lives" exits 124 timeout 4 "$BERTCTL" wait "$job"

# An answer that is lost after the request was sent.
python3 - "$work" "$BERTD_SOCKET" <<'PY' &
import os, select, socket, sys
work, real = sys.argv[1:]
s = socket.socket(socket.AF_UNIX); s.bind(work + "/lossy.sock"); s.listen(4)
c, _ = s.accept()
d = socket.socket(socket.AF_UNIX); d.connect(real)
while True:
    for f in select.select([c, d], [], [])[0]:
        data = f.recv(65536)
        if not data: sys.exit()
        (d if f is c else c).sendall(data)
        if f is c and b"Submit" in data:
            d.recv(65536); c.recv(1); sys.exit()
PY
others+=($!)
wait_for 10 test -S "$work/lossy.sock"
begin lossy "$BERTCTL" --socket "$work/lossy.sock" submit --name lost -- true
wait $!
ok "an answer that does not come: what may have been accepted is said" ended lossy 4 "the job may have been accepted, see \`bertctl list\`"
ok "and shown" wait_for 10 state_is lost done
finish
