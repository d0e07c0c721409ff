#!/bin/bash
# The user database is a server that hangs or fails (tests/fault/libnss.c): only those wait whom it is to tell of, and a failure is not
# "no account".
. "$(dirname "$0")/lib.sh"
((EUID == 0)) || skip_all "needs root"
# The build folder may be closed to other users: their jobs start the shim from here.
mkdir "$work/daemon" "$work/trainer"
cp "$BERTD" "$BERTD-shim" "$work/daemon/"
cp "$BERT_TRAINER" "$work/trainer/"
cp "$BERTCTL" "$work/"
chmod -R a+rX "$work"
export ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0 NSS_FAULT=$work/nss
leak_check=${leak_check:+$leak_check:}verify_asan_link_order=0
printf '#!/bin/sh\nexec env LD_PRELOAD=%q %q "$@"\n' "$(preloaded nss)" "$work/daemon/bertd" >"$work/bertd"
chmod 755 "$work/bertd"
BERTD=$work/bertd
database() { printf '%s\n' "$1" >"$NSS_FAULT"; }
client() { # UID: the words of a bertctl of that user
  words=(setpriv --reuid "$1" --regid 65534 --clear-groups env -C / -i PATH=/usr/bin:/bin "BERTD_SOCKET=$BERTD_SOCKET" "ASAN_OPTIONS=$ASAN_OPTIONS" "$work/bertctl")
}
submit() { local words; client "$1"; "${words[@]}" submit --run-dir /tmp -- "${@:2}"; } # UID COMMAND...
refused() { local words; client "$1"; refuses 1 "$2" "${words[@]}" submit --run-dir /tmp -- true; } # UID REASON
answers() { timeout $((5 * patience)) "$BERTCTL" status >/dev/null 2>&1; } # also where a dead bertd's socket listens
soon() { timeout $((2 * patience)) "$@" >/dev/null; }
socket_open() { chmod 666 "$BERTD_SOCKET"; }

database works
start_bertd
socket_open
ok "who has no account is told so" refused 54321 'uid 54321 has no account here'

database hang
submit 65534 sh -c 'echo "$HOME $USER $(id -g)"' >"$work/id" &
waiting=$!
client 65534
ok "others list meanwhile" soon "$BERTCTL" list
ok "and submit" soon "$BERTCTL" submit -- true
ok "who waits is served, too, but for what needs a name" soon "${words[@]}" list
ok "the submission waits" lives "$waiting"
database works
ok "and is taken when the database answers" wait "$waiting"
job=$(cat "$work/id")
ok "its job runs" wait_for 20 state_is "$job" done
is "with the home, name and group of the account" "$("$BERTCTL" logs "$job")" "$(getent passwd 65534 | awk -F: '{print $6, $1, $4}')"

database hang
ok "who is known need not wait" soon "${words[@]}" submit --run-dir /tmp -- sleep 600
job=$("$BERTCTL" list --json | jq -r '.[0].id')
ok "others list while its groups are looked up" soon "$BERTCTL" list
ok "its job does not start before" state_is "$job" starting
kill_bertd
BERTD=$work/daemon/bertd start_bertd
socket_open
ok "what waits for the database keeps no socket of a bertd that was killed" lives "$bertd_pid"
kill_bertd

database fail
start_bertd
socket_open
ok "a database that fails does not say that there is no account" refused 65534 'cannot look up uid 65534 in the user database'
ok "bertd's log says why" grep -q 'cannot look up uid 65534: Input/output error' "$work/bertd.log"
database hang
ok "nor does one that hangs" refused 1 'cannot look up uid 1 in the user database (Connection timed out)'
kill_bertd
start_bertd
ok "bertd starts without it" soon "$BERTCTL" list
ok "and says that the group is not known" grep -q 'cannot look up group bertd' "$work/bertd.log"
database works
finish
