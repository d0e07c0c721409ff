#!/bin/sh
# When a run writes a checkpoint by itself: checkpoint.every_sec (600), by the time since boot, which tests/fault/libclock.c moves.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
export ASAN_OPTIONS="$ASAN_OPTIONS:verify_asan_link_order=0"
pids=
cleanup() { [ -z "$pids" ] || kill -KILL $pids 2>/dev/null; }
clock=$(preloaded clock)
# begin NAME [CHECKPOINT]: a run that does not end by itself, its spec with that line, its clock in NAME.clock
begin() {
        write_spec "$1.yaml" 100000000 0
        sed -i "s/evaluate_every: 4/evaluate_every: 0/; s/^checkpoint: .*/${2:-}/" "$1.yaml"
        head -c 16 /dev/zero >"$1.clock"
        LD_PRELOAD=$clock CLOCK_OFFSET=$1.clock "$TRAINER" pretrain "$1.yaml" --run-dir "$1" >"$1.log" 2>&1 &
        pids="$pids $!"
}
# forward NAME SECONDS: since the start of the run, which has taken few of its own
forward() { python3 -c 'import struct, sys; sys.stdout.buffer.write(struct.pack("qq", 0, int(sys.argv[1])))' "$2" 1<>"$1.clock"; }
step() { tail -n 1 "$1/metrics.jsonl" 2>/dev/null | sed -n 's/^{"step": \([0-9]*\),.*}$/\1/p'; }
steps_on() { # NAME: it has made 20 steps since
        at=0
        has_step() { at=$(step "$1"); [ -n "$at" ]; }
        wait_for 30 has_step "$1" || return 1
        past() { now=$(step "$1"); at_least "$now" $((at + 20)); }
        wait_for 30 past "$1"
}
checkpoints() { find "$1/checkpoints" -name 'step-*.ckpt' 2>/dev/null | wc -l; }
has() { [ "$(checkpoints "$1")" -eq "$2" ]; }
keeps() { steps_on "$1" && equal "$(checkpoints "$1")" "$2"; }

begin default
begin never 'checkpoint: {every_sec: 0}'
begin second 'checkpoint: {every_sec: 1, keep: 100}'
ok "by default: none in the first steps" keeps default 0
forward default 500
ok "nor after 500 s" keeps default 0
forward default 601
ok "one after 601 s" wait_for 30 has default 1
ok "and no more with the steps that follow" keeps default 1
forward default 1000
ok "nor 400 s later" keeps default 1
forward default 1202
ok "the second is 600 s after the first" wait_for 30 has default 2
forward never 1000000
ok "every_sec: 0: never by time" keeps never 0
ok "every_sec: 1: one a second, on a clock that nobody moves" wait_for 30 eval '[ "$(checkpoints second)" -ge 2 ]'
since=$(($(date +%s) - $(stat -c %Y second.yaml)))
ok "and not more often ($(checkpoints second) in $since s)" test "$(checkpoints second)" -le $((since + 1))

# shellcheck disable=SC2086 # a list
kill -TERM $pids
for pid in $pids; do
        wait "$pid"
        [ $? -eq 75 ] || stopped=no
done
is "stopped, all end with 75" "${stopped:-yes}" yes
ok "and with a checkpoint, also the one that writes none by time" has never 1
pids=
finish
