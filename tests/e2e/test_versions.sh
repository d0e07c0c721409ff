#!/bin/bash
# Versions that differ: bertctl beside a bertd of another protocol, older and newer shims. (Programs as they were: scripts/test-upgrade.)
. "$(dirname "$0")/lib.sh"
version=$("$BERTCTL" --version | cut -d' ' -f2)
start_bertd
proxy_pids=
trap 'kill $proxy_pids 2>/dev/null; tap_end' EXIT

# bertctl.
seems() { # NAME ID: a bertd of another protocol at $work/NAME
  python3 "$source_dir/tests/e2e/proxy.py" "$work/$1" "$BERTD_SOCKET" "$2" &
  proxy_pids+=" $!"
  wait_for 10 test -S "$work/$1"
}
mark=$(printf bertd | od -An -tx1 | tr -d " ")
seems same "${mark}02"
seems newer "${mark}ff"
seems older 0123456789ab
ok "a bertd of the same protocol is asked" quietly "$BERTCTL" --socket "$work/same" list
ok "a newer bertd: refused with the cure" refuses 1 "^bertctl: bertd at $work/newer is $version (protocol 255), this bertctl is $version (protocol 2): use the bertctl of the same version as bertd$" \
  "$BERTCTL" --socket "$work/newer" list
ok "an older one: refused with another" refuses 1 "^bertctl: bertd at $work/older is $version (protocol 1), .*: use the bertctl of the same version as bertd, or restart bertd (jobs keep running): bertctl shutdown, then bertd --detach$" \
  "$BERTCTL" --socket "$work/older" list
for words in "submit -- true" "status" "status 1" "logs 1" "wait 1" "cancel 1" "pause 1" "resume 1" "checkpoint 1" "checkpoints 1" "events 1" "metrics 1" "results x" "rm 1"; do
  # shellcheck disable=SC2086
  ok "$words: refused" refuses 1 "protocol 255" "$BERTCTL" --socket "$work/newer" $words
done
is "nothing was submitted" "$("$BERTCTL" list --all --json | jq length)" 0
"$BERTCTL" --socket "$work/newer" doctor --json >"$work/doctor"
ok "doctor says so" jq -e 'any(.. | objects; .check? == "protocol" and .level == "fail" and (.found | test("protocol 255")))' "$work/doctor"
ok "version is answered" quietly "$BERTCTL" --socket "$work/newer" version
ok "a client that looks at no protocol is served" quietly busctl "--address=unix:path=$work/newer" call org.bertd1 /org/bertd1 org.bertd1.Manager ListJobs tub 0 10 false
is "and finds it in GetDaemon" "$(busctl --json=short "--address=unix:path=$BERTD_SOCKET" call org.bertd1 /org/bertd1 org.bertd1.Manager GetDaemon | jq '.data[0].protocol.data')" 2
ok "shutdown is for every bertd" quietly "$BERTCTL" --socket "$work/older" shutdown
wait "$bertd_pid"

# Shims. Their hello names version and protocol.
says=$version\ 2
is "the shim says its version and protocol, once" "$(grep -c -a -F "$says" "$BERTD-shim")" 1
mkdir -p "$work/bin/daemon" "$work/bin/trainer"
cp "$BERTD" "$work/bin/daemon/bertd"
ln -s "$BERT_TRAINER" "$work/bin/trainer/bert-trainer"
install_shim() { # BYTES: one whose hello is this, of as many bytes as $says
  rm -f "$work/bin/daemon/bertd-shim"
  python3 - "$real_shim" "$work/bin/daemon/bertd-shim" "$says" "$1" <<'END'
import os, sys
data = open(sys.argv[1], "rb").read()
new = os.fsencode(sys.argv[4].replace("%", "\0"))
assert len(new) == len(sys.argv[3])
open(sys.argv[2], "wb").write(data.replace(os.fsencode(sys.argv[3]), new))
END
  chmod 755 "$work/bin/daemon/bertd-shim"
}
real_shim=$BERTD-shim
BERTD=$work/bin/daemon/bertd
newer=9${says:1:-1}9
start_with() { install_shim "$1" && start_bertd; }

# One of protocol 1 names its version alone.
start_with "$version%2"
job=$("$BERTCTL" submit --retries 0 -- sh -c "until [ -e $work/go ]; do sleep 0.1; done; exit 7")
ok "an older shim is served" wait_for 20 state_is "$job" running
kill_bertd
start_bertd
ok "and adopted" wait_for 20 state_is "$job" running
touch "$work/go"
ok "its end is recorded" wait_for 20 state_is "$job" failed
is "with its exit code, once" "$(field "$job" exit) $(field "$job" attempts)" "7 1"

# A package was installed while bertd runs.
install_shim "$newer"
job=$("$BERTCTL" submit --retries 0 -- touch "$work/ran")
ok "a newer shim than bertd is not given a job" wait_for 20 state_is "$job" backoff
ok "and the reason has the cure" eval 'field "$job" reason | grep -q "bertd-shim is from bertd ${newer% *}, newer than this bertd $version; restart bertd"'
ok "nothing ran" test ! -e "$work/ran"
"$BERTCTL" cancel "$job"

# bertd was replaced by an older one: the shims that run are newer. Their memory is changed while no bertd is there.
install_shim "$says"
become() { # SHIM FROM TO
  python3 - "$@" <<'END'
import os, sys
pid, old, new = sys.argv[1], os.fsencode(sys.argv[2]), os.fsencode(sys.argv[3])
with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
    for line in maps:
        fields = line.split()
        if not line.rstrip().endswith("/bertd-shim") or "r" not in fields[1]:
            continue
        begin, end = (int(x, 16) for x in fields[0].split("-"))
        memory.seek(begin)
        at = memory.read(end - begin).find(old + b"\0")
        if at >= 0:
            memory.seek(begin + at)
            sys.exit(memory.write(new) != len(new))
sys.exit("not found")
END
}
sockets_of() { find $(printf '/proc/%s/fd ' "$@") -lname 'socket:*' -printf '%l\n' | sort; } # SHIM...
wait_for_go="until [ -e $work/go ]; do sleep 0.1; done"
rm "$work/go"
seven=$("$BERTCTL" submit --retries 0 -- sh -c "echo x >>$work/runs; $wait_for_go; exit 7")
paused=$("$BERTCTL" submit -- sh -c "trap 'echo term >$work/term; exit 0' TERM; echo up; while :; do sleep 0.1; done")
killed=$("$BERTCTL" submit -- sh -c "trap '' TERM; $wait_for_go")
for job in "$seven" "$paused" "$killed"; do wait_for 20 state_is "$job" running; done
wait_for 20 grep -q up "$(field "$paused" log)"
job=$seven
shims="$(shim_of "$seven") $(shim_of "$paused") $(shim_of "$killed")"
kill_bertd
if can=yes; for s in $shims; do become "$s" "$says" "$newer" || can=no; done; [[ $can == yes ]]; then
  start_bertd
  reason="its shim is from bertd ${newer% *}, newer than this bertd $version"
  for j in "$seven" "$paused" "$killed"; do
    ok "job $j: status says which bertd it needs" wait_for 10 eval '[[ $(field "$j" reason) == "$reason"* ]]'
  done
  sockets=$(sockets_of $shims)
  sleep 3 # time for mistakes: hellos that are repeated, another attempt
  is "they run on" "$(for j in "$seven" "$paused" "$killed"; do field "$j" state; field "$j" attempts; done | xargs)" "running 1 running 1 running 1"
  is "in their shims" "$(shim_of "$seven") $(shim_of "$paused") $(shim_of "$killed")" "$shims"
  is "each has said hello once" "$(sockets_of $shims)" "$sockets"
  is "which is logged" "$(grep -c "newer than this bertd: it keeps running" "$work/bertd.log")" 3
  ok "pause reaches one, by a signal" quietly "$BERTCTL" pause "$paused"
  ok "which ends as it does for any" wait_for 20 state_is "$paused" paused
  ok "with SIGTERM to the job" test -e "$work/term"
  ok "cancel --now ends another" quietly "$BERTCTL" cancel --now "$killed"
  ok "at once" wait_for 20 state_is "$killed" cancelled
  kill_bertd
  start_bertd
  ok "another such bertd leaves it alone, too" wait_for 10 eval '[[ $(field "$seven" reason) == "$reason"* ]]'
  kill_bertd
  become "$(shim_of "$seven")" "$newer" "$says"
  start_bertd
  is "one that knows it follows it again" "$(field "$seven" state) $(field "$seven" reason)" "running "
  touch "$work/go"
  ok "its end is recorded" wait_for 20 state_is "$seven" failed
  is "as its shim saw it; it was run once" "$(field "$seven" exit) $(field "$seven" attempts) $(wc -l <"$work/runs")" "7 1 1"
else
  for ((i = 0; i < 16; i++)); do skip "newer shims" "their memory cannot be changed here"; done
  start_bertd
fi
finish
