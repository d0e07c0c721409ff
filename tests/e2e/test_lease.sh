#!/bin/bash
# A host that lends itself to a job of another: bertd-leash over pipes instead of ssh, what a bertd without systemd says, and what a
# key may run. What root's bertd lends is in scripts/test-systemd.
. "$(dirname "$0")/lib.sh"
[[ ! -e /run/bertd/bertd.sock ]] || skip_all "a system's bertd runs here: it would lend"
here=$(dirname "$0")
as_head() { timeout $((120 * patience)) python3 "$here/head.py" "$@"; }
export -n BERTD_SOCKET # nobody is there

ok "commands: exit codes and signals come back" as_head codes
ok "every byte of their output does" as_head every_byte
ok "long lines do" as_head long_lines
ok "their environment is the lease's and the head's" as_head environment
ok "a bounded number of them runs" as_head too_many
ok "a signal for the ranks goes to no launcher" as_head ranks_alone
ok "stacks of the ranks" as_head stacks

ok "end of file ends everything" as_head end_of_file
ok "silence does" as_head silence
ok "beats alone keep it" as_head beats_are_enough
ok "one that was stopped for too long ends when it goes on" as_head stopped_for_a_while
ok "it says so when it is ended there" as_head terminated
ok "what is no line of a leash ends it" as_head not_a_line
ok "what a newer head says does not" as_head unknown_types
ok "its commands end with it when it is killed" as_head killed

ok "output that nobody reads is bounded, and counted" as_head flood
ok "a head that reads nothing and says nothing is silent" as_head never_read

ok "a head that changes its mind takes nothing" as_head not_taken
ok "--probe: what this host is" as_head host_line
ok "a host without bertd is refused" grep -q "^away .*no bertd runs there.*resources.unmanaged" <(as_head refused "$BERTCTL" lease)

export BERTD_SOCKET=$work/bertd.sock
start_bertd
ok "a bertd whose launcher is fork lends nothing" grep -q "^fork .*lends nothing: launcher fork; run bertd as root under systemd" <(as_head refused "$BERTCTL" lease)
ok "nor is it taken for none" grep -q "^fork " <(as_head refused "$BERTCTL" lease --unmanaged)
lease_itself() { busctl --address="unix:path=$BERTD_SOCKET" call org.bertd1 /org/bertd1 org.bertd1.Manager Lease 'a{sv}' 0; }
ok "its bus does not either" grep -q "launcher fork" <(lease_itself 2>&1)
ok "Submit takes no lease" refuses 1 'unknown key "lease_of"' busctl --address="unix:path=$BERTD_SOCKET" call org.bertd1 /org/bertd1 org.bertd1.Manager Submit 'a{sv}' 1 lease_of s h1:4

only() { SSH_ORIGINAL_COMMAND=$1 "$BERTCTL" lease --only; }
ok "a key with --only may list" only "bertctl list --json"
ok "and see the status" only "/usr/bin/bertctl status"
ok "with words in quotes" exits 3 only "bertctl status --json -- 'no such job'"
for line in "" "id" "bertctl submit -- id" "bertctl list; id" 'bertctl list $(id)' "bertctl list >/tmp/x" "bertctl lease --only" "bertctl" "sh -c 'bertctl list'" "bertctl list \`id\`" "bertctl list
id" "bertctl list 'a"; do
  ok "not: $(printf '%s' "$line" | tr '\n' '|')" refuses 2 "this key runs bertctl lease, list, status" env SSH_ORIGINAL_COMMAND="$line" "$BERTCTL" lease --only
done
finish
