#!/bin/bash
# A host that has too little of something, open files or processes: bertd always answers, a start that fails for it costs nothing, and
# what waits says for what. And one without a /proc of its own.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
reason_has() { [[ $(field "$1" reason) == *"$2"* ]]; }
count() { "$BERTCTL" list --json | jq "map(select(.state == \"$1\")) | length"; }
count_is() { [[ $(count "$1") == "$2" ]]; }
soft() { prlimit --pid "$bertd_pid" "--$1" -o SOFT --noheadings --raw; }
open_files() { find "/proc/$bertd_pid/fd" -mindepth 1 | wc -l; }

if unshare --pid --mount --fork true 2>/dev/null; then
  ok "as is the /proc of another pid namespace" refuses 66 "^bertd: /proc: of another pid namespace; .*: mount -t proc" \
    unshare --pid --fork "$BERTD"
  ok "and none" refuses 66 "^bertd: /proc: not mounted.*: mount -t proc" unshare --mount sh -c 'umount -l /proc; exec "$0"' "$BERTD"
else
  skip "a wrong /proc is refused" "no namespace can be made here"
  skip "and none" "no namespace can be made here"
fi

# Many jobs at once, and a hard limit of few open files.
limited() { (ulimit -n 256; ulimit -t 100000; exec setsid "$BERTD" --slots 500 --launcher fork "$@" >>"$work/bertd.log" 2>&1 </dev/null) & bertd_pid=$!; wait_for 20 answers; }
limited
is "bertd may have 256 open files" "$(soft nofile)" 256
ok "a limit that would end it is told" grep -q "^bertd: CPU time: limited to 100000 s (ulimit -Ht) for bertd: bertd and each job process are killed" "$work/bertd.log"
touch "$work/hold"
submit_all() { for _ in {1..40}; do "$BERTCTL" submit -- sh -c 'while [ -e "$0" ]; do sleep 0.2; done' "$work/hold" >"$work/id" || return; done; }
ok "many jobs are submitted" submit_all
job=$(cat "$work/id")
ok "as many run as it has files for" wait_for 20 count_is running 16
is "and no others start" "$(count starting)" 0
ok "the rest says for what it waits" reason_has "$job" "waits for open files: bertd may open 256; raise its hard limit"
# Clients that come and stay, beside those that are not let in.
python3 - "$BERTD_SOCKET" <<'EOF2' &
import socket, sys, time
clients = [socket.socket(socket.AF_UNIX) for _ in range(100)]
for c in clients:
    c.connect(sys.argv[1])
time.sleep(4)
EOF2
crowd=$!
ok "it has files left with all the clients that it lets in" wait_for 10 eval '((5 < 256 - $(open_files)))'
wait "$crowd"
ok "it answers" answers
ok "cancel works" "$BERTCTL" cancel "$job"
ok "a job is shown" "$BERTCTL" status "$job"
kill_bertd
limited
ok "another bertd adopts them all" wait_for 20 count_is running 16
rm "$work/hold"
ok "all have run in the end" wait_for 60 count_is done 39
is "in one attempt each" "$("$BERTCTL" list --json | jq 'map(.attempts) | max')" 1

# Nothing left at all, as a job starts: the host's fault.
job=$("$BERTCTL" submit --retries 0 -- sleep 300)
ok "a job runs" wait_for 20 state_is "$job" running
prlimit --pid "$bertd_pid" --nofile=3:256
timeout 2 "$BERTCTL" list >"$work/.deaf" 2>&1 && echo "# bertd answers without open files"
ticks() { awk '{ print $14 + $15 }' "/proc/$bertd_pid/stat"; }
before=$(ticks)
timeout 1 "$BERTCTL" list >"$work/.deaf" 2>&1
ok "who cannot be let in does not keep it busy" test $(($(ticks) - before)) -lt 20
prlimit --pid "$bertd_pid" --nofile=256:256
ok "it is there again when it has some" wait_for 20 answers
ok "the job has run on" state_is "$job" running
"$BERTCTL" cancel --now "$job"
kill_bertd

# As a user whose processes are limited.
if [[ $(id -u) != 0 ]] || ! setpriv --reuid 54321 --clear-groups true 2>/dev/null; then
  skip "a start without processes costs nothing" "needs root"
else
  export BERTD_STATE_DIR=$work/theirs/state BERTD_SOCKET=$work/theirs/bertd.sock
  mkdir "$work/theirs" && chown 54321 "$work/theirs"
  cp "$BERTD" "$(dirname "$BERTD")/bertd-shim" "$BERTCTL" "$work/theirs/" && chmod 755 "$work"/theirs/bert*
  theirs() { (cd "$work/theirs" && setpriv --reuid 54321 --regid 54321 --clear-groups env HOME=/ "$@"); }
  theirs setsid "$work/theirs/bertd" --slots 8 --launcher fork >>"$work/bertd.log" 2>&1 </dev/null &
  ok "a user's bertd" wait_for 20 answers
  bertd_pid=$("$BERTCTL" status --json | jq .daemon.pid)
  first=$(theirs "$work/theirs/bertctl" submit -- sleep 300)
  ok "starts jobs" wait_for 20 state_is "$first" running
  theirs prlimit --pid "$bertd_pid" --nproc=1:
  job=$(theirs "$work/theirs/bertctl" submit --retries 0 -- true)
  ok "one that finds no process is tried again" wait_for 20 state_is "$job" backoff
  ok "the reason is the true one" reason_has "$job" "cannot be started: fork: Resource temporarily unavailable"
  ok "bertd answers meanwhile" answers
  kill -KILL "$(shim_of "$first")"
  sleep 11 # longer than it looks for what that one has left
  theirs prlimit --pid "$bertd_pid" --nproc=1000:
  ok "it has run when there are some, without a retry" wait_for 40 state_is "$job" done
  ok "another whose shim died meanwhile comes back" wait_for 40 attempt_past "$first" 2
  ok "after what was left of it was looked for" not grep -q "cannot search for its remaining processes" "$work/bertd.log"
  wait_for 20 state_is "$first" running
  "$BERTCTL" cancel --now "$first"
fi
finish
