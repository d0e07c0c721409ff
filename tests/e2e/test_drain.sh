#!/bin/bash
# bertctl drain: nothing new starts, what runs goes on, and it lasts over the death of bertd until undrain.
. "$(dirname "$0")/lib.sh"

start_bertd
runs=$("$BERTCTL" submit -- sleep 1000)
ok "a job runs" wait_for 20 state_is "$runs" running
ok "drain" "$BERTCTL" drain --reason 'new fan: 14:00'
job=$("$BERTCTL" submit -- true)
says() { grep -q "$1" <<<"$("$BERTCTL" status)"; }
ok "status shows it, since when and why" says "^drained for [0-9]*s: new fan: 14:00; nothing new starts"
is "JSON, too" "$("$BERTCTL" status --json | jq -r .daemon.draining)" 'new fan: 14:00'
ok "and doctor" grep -q "drained.*new fan: 14:00" <("$BERTCTL" doctor)
sleep 1
is "a new job waits" "$(field "$job" state)" queued
ok "its reason says for what" grep -q "this host is drained: new fan: 14:00" <<<"$(field "$job" reason)"
ok "what ran still does" state_is "$runs" running
kill_bertd
start_bertd
ok "it lasts over the death of bertd" says "^drained for"
is "the job still waits" "$(field "$job" state)" queued
ok "what ran still does" state_is "$runs" running
ok "another drain replaces its reason" "$BERTCTL" drain --move --reason 'disk'
ok "so it does" says "^drained for [0-9]*s: disk"
ok "a drain without a reason" "$BERTCTL" drain --move
ok "keeps the one of before" says "^drained for [0-9]*s: disk"
ok "a reason is one line" refuses 2 "reason: expected one line" "$BERTCTL" drain --reason $'a\nb'
ok "of a bounded length" refuses 2 "at most 256 bytes" "$BERTCTL" drain --reason "$(printf '%300s' x)"
ok "undrain" "$BERTCTL" undrain
ok "the job runs" wait_for 20 state_is "$job" done
ok "nothing is said any more" not says drained
"$BERTCTL" drain
ok "the first has one, too" says "^drained for [0-9]*s: drained by the administrator"
"$BERTCTL" undrain
ok "undrain again changes nothing" "$BERTCTL" undrain
kill_bertd
start_bertd
ok "nor after the death of bertd" not says drained
"$BERTCTL" cancel --now "$runs"
finish
