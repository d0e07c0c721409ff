#!/bin/bash
# What bertd refuses and what it survives: a second daemon, a newer or broken state database, garbage on its socket, another
# user's jobs, a full disk under its state and under a job's log.
. "$(dirname "$0")/lib.sh"

start_bertd
job=$("$BERTCTL" submit --name kept -- sleep 1000)
ok "a job runs" wait_for 20 state_is "$job" running
ok "a second daemon on the folder is refused by the first's pid" refuses 1 "$bertd_pid" "$BERTD" --launcher fork --socket "$work/b.sock"
ok "so is one on the socket" refuses 1 "$BERTD_SOCKET" env BERTD_STATE_DIR="$work/state2" "$BERTD" --launcher fork
cat >"$work/full.py" <<'EOF'
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(0)
datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
datagrams.bind(sys.argv[2])
waiting = []
try:
    while True:
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].setblocking(False)
        waiting[-1].connect(sys.argv[1])
except BlockingIOError:
    print("full", flush=True)
time.sleep(1000)
EOF
python3 "$work/full.py" "$work/full.sock" "$work/other.sock" >"$work/full.out" &
full_pid=$!
ok "a socket whose queue is full" wait_for 10 grep -q full "$work/full.out"
ok "is a living daemon's, too" refuses 1 "full.sock: another daemon answers there" timeout 20 "$BERTD" --launcher fork --state-dir "$work/state3" --socket "$work/full.sock"
ok "and stays" test -S "$work/full.sock"
ok "a socket of another kind is nobody's to take" refuses 1 "other.sock: not clear whether a daemon listens there" timeout 20 "$BERTD" --launcher fork --state-dir "$work/state3" --socket "$work/other.sock"
ok "and stays, too" test -S "$work/other.sock"
kill "$full_pid"
wait "$full_pid" 2>/dev/null
ok "an unknown option is refused" refuses 2 "frobnicate" "$BERTD" --frobnicate
ok "slots 0 is refused" refuses 2 "slots" "$BERTD" --slots 0
mkdir "$work/mine"
touch "$work/mine/thesis.tex"
chmod 755 "$work/mine"
ok "a folder of something else is no state folder" refuses 1 "mine: not empty and not a bertd state folder" "$BERTD" --launcher fork --state-dir "$work/mine" --socket "$work/b.sock"
is "and its mode is left" "$(stat -c %a "$work/mine")" 755
ok "an empty --state-dir is refused" refuses 2 "empty" "$BERTD" --state-dir ""
ok "slots that are no number are refused" refuses 2 "slots" "$BERTD" --slots many

head -c 100000 /dev/urandom | timeout 5 python3 -c "
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect('$BERTD_SOCKET'); s.settimeout(2)
try: s.sendall(sys.stdin.buffer.read())
except OSError: pass"
ok "garbage on the socket changes nothing" state_is "$job" running
# What is too large is refused with the bound and the cure, by bertctl, and by bertd whatever sends it.
long() { head -c "$1" /dev/zero | tr '\0' x; }
ok "a command that is too large" refuses 2 "^bertctl: command: 70010 bytes, at most 65536 are allowed; write it into a script" "$BERTCTL" submit -- "true" "$(long 70001)"
ok "an environment" refuses 2 "^bertctl: environment and spec: .* at most 1048576 are allowed; unset large variables" \
  env $(for i in 1 2 3 4 5 6 7 8 9 10; do echo "L$i=$(long 110000)"; done) "$BERTCTL" submit -- true
ok "a name" refuses 2 "^bertctl: --name: 129 bytes, at most 128 are allowed; give a shorter one" "$BERTCTL" submit --name "$(long 129)" -- true
ok "a folder" refuses 2 "^bertctl: --run-dir: 4097 bytes, at most 4095 are allowed; use a shorter path" "$BERTCTL" submit --run-dir "/$(long 4096)" -- true
ok "more GPUs than one host can have" refuses 2 "gpus" "$BERTCTL" submit --gpus 65 -- true
ok "the same name, sent by another client" refuses 1 "name: 129 bytes, at most 128 are allowed; give a shorter one" busctl --address="unix:path=$BERTD_SOCKET" \
  call org.bertd1 /org/bertd1 org.bertd1.Manager Submit 'a{sv}' 4 name s "$(long 129)" kind s command command as 1 true cwd s /
ok "an unknown field of Submit is refused by name" refuses 1 "colour" busctl --address="unix:path=$BERTD_SOCKET" call org.bertd1 /org/bertd1 \
  org.bertd1.Manager Submit 'a{sv}' 2 name s x colour s red
ok "so is a wrong type" refuses 1 "ranks" busctl --address="unix:path=$BERTD_SOCKET" call org.bertd1 /org/bertd1 \
  org.bertd1.Manager Submit 'a{sv}' 3 name s x kind s command ranks s two

for odd in $'caf\xe9' $'caf\xef\xbf\xbe' $'caf\xed\xa0\x80'; do # Latin-1, U+FFFE, a surrogate: sd-bus takes none of them
  ok "a variable that is not UTF-8 is refused by name" refuses 2 'environment variable LC_X: not UTF-8; unset it, or submit with `env -u LC_X' \
    env LC_X="$odd" "$BERTCTL" submit -- true
  ok "so is a word of the command" refuses 2 'word 2 of the command, "caf?*": not UTF-8' "$BERTCTL" submit -- true "$odd"
  ok "a job's name" refuses 2 '^bertctl: --name: ' "$BERTCTL" submit --name "$odd" -- true
  ok "its folder" refuses 2 '--run-dir: not UTF-8' "$BERTCTL" submit --run-dir "$work/$odd" -- true
  ok "and bertd's" refuses 2 'not UTF-8' "$BERTD" --launcher fork --state-dir "$work/$odd" --socket "$work/b.sock"
done
(mkdir "$work/$odd" && cd "$work/$odd" && refuses 2 "^bertctl: cwd: $work/caf.*: its name is not UTF-8" "$BERTCTL" submit -- true) >"$work/.cwd" 2>&1
ok "submitting from such a folder is refused" equal "$?" 0
ok "what a job writes refuses nothing" wait_job "$("$BERTCTL" submit -- printf 'caf\xe9\xef\xbf\xbe')"

if ((EUID == 0)); then
  cp "$BERTCTL" "$work/bertctl" # the build folder may be closed to others
  theirs=(setpriv --reuid 65534 --regid 65534 --clear-groups "$work/bertctl")
  chmod 666 "$BERTD_SOCKET"
  ok "another user may see states" grep -q running <<<"$("${theirs[@]}" status "$job")"
  ok "but not cancel" refuses 1 "belongs to root" "${theirs[@]}" cancel "$job"
  is "nor see the command" "$("${theirs[@]}" status --json "$job" | jq -c '[.id, (.command | tostring)]')" "[$job,\"null\"]"
  ok "nor read the log" refuses 1 "Permission denied\|permission denied" "${theirs[@]}" logs "$job"
  ok "the job is untouched" state_is "$job" running
  chmod 600 "$BERTD_SOCKET"
  ok "a socket that one may not use is not 'no daemon'" refuses 1 "permission denied" "${theirs[@]}" list
else
  for what in see cancel command log untouched socket; do skip "another user: $what" "needs root"; done
fi

kill_bertd
version=$(sqlite3 "$BERTD_STATE_DIR/state.db" 'pragma user_version')
sqlite3 "$BERTD_STATE_DIR/state.db" 'pragma user_version = 999'
ok "a newer state database is refused" refuses 1 "999" "$BERTD" --launcher fork
sqlite3 "$BERTD_STATE_DIR/state.db" "pragma user_version = $version"
mkdir "$work/broken"
head -c 65536 /dev/urandom >"$work/broken/state.db"
ok "a broken one too" refuses 1 "state.db" env BERTD_STATE_DIR="$work/broken" BERTD_SOCKET="$work/c.sock" "$BERTD" --launcher fork
is "and it is left as it was" "$(stat -c %s "$work/broken/state.db")" 65536
start_bertd
ok "with its own database bertd still knows the job" state_is "$job" running
"$BERTCTL" cancel --now "$job"
wait_for 20 state_is "$job" cancelled
kill_bertd

# A kernel, or a container's filter, without openat2: bertd could not keep out of a user's mounts.
if command -v strace >/dev/null && [[ $sanitized == no ]]; then
  mkdir "$work/old"
  ok "a kernel without openat2 is refused" refuses 1 "bertd needs Linux" \
    env BERTD_STATE_DIR="$work/old" BERTD_SOCKET="$work/o.sock" strace -f -o /dev/null -e trace=openat2 -e inject=openat2:error=ENOSYS "$BERTD" --launcher fork
else
  skip "a kernel without openat2 is refused" "needs strace, and no sanitizer"
fi

# A full disk: the state folder on a tmpfs of 2 MB that is filled to the brim.
mkdir "$work/small"
if ((EUID == 0)) && mount -t tmpfs -o size=3m tmpfs "$work/small" 2>/dev/null; then
  export BERTD_STATE_DIR=$work/small/state
  start_bertd
  job=$("$BERTCTL" submit --name lives -- bash -c 'sleep 4; echo end')
  wait_for 20 state_is "$job" running
  head -c 3000000 /dev/zero >"$work/small/fill" 2>/dev/null
  code=0
  for ((i = 0; i < 40 && code == 0; i++)); do "$BERTCTL" submit -- true >/dev/null 2>"$work/refused"; code=$?; done
  is "a submit that cannot be kept is refused" "$code" 1
  is "in one line" "$(wc -l <"$work/refused")" 1
  ok "bertd answers" answers
  rm "$work/small/fill"
  ok "with room again the running job ends well" wait_job "$job"
  last=$("$BERTCTL" submit -- true)
  ok "and submits are taken" wait_job "$last"
  is "the acknowledged are all there" "$("$BERTCTL" list --all --json | jq length)" $((i + 1)) # the first, i - 1 before the refusal, and the last
  kill_bertd
  pkill -KILL -f -- "$work/small" 2>/dev/null
  umount -l "$work/small"
else
  for ((i = 0; i < 6; i++)); do skip "full disk" "cannot mount a tmpfs"; done
fi

# One fsync fails, whichever it is between two submits: of the first job's start, too, whose commit then comes with the second's.
fault=$(preloaded fault)
if [[ $sanitized != no ]]; then
  skip "a start that could not be kept at first" "the fault library and the sanitizers exclude each other"
else
  stuck=""
  for ((n = 0; n < 8; n++)); do
    export BERTD_STATE_DIR=$work/fault$n
    head -c 8 /dev/zero >"$work/count"
    LD_PRELOAD=$fault FAULT_PROGRAM=bertd FAULT_CALL=fsync FAULT_N=$((n == 0 ? 1000 : first + n)) FAULT_COUNT=$work/count start_bertd
    ((n > 0)) || first=$(od -An -td8 "$work/count")
    first_job=$("$BERTCTL" submit -- true 2>/dev/null || "$BERTCTL" submit -- true)
    second_job=$("$BERTCTL" submit -- true 2>/dev/null || "$BERTCTL" submit -- true)
    wait_job "$first_job" 20 && wait_job "$second_job" 20 || stuck+=" $n"
    kill_bertd
  done
  is "a start that could not be kept at first" "$stuck" ""
fi
finish
