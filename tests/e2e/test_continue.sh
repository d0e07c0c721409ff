#!/bin/bash
# bertctl submit --continue: a run goes on from its folder under another bertd, as on another host: from its newest good checkpoint, with its
# counters; demoted checkpoints stay demoted; not while it lives elsewhere.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip_all "needs python3"
export PYTHONPATH=$source_dir/python
unset PYTHONUNBUFFERED
make_corpus
start_bertd
rows() { "$BERTCTL" checkpoints --json "$1" | jq -c "[.[] | select(.state == \"$2\") | .step] | sort"; } # JOB STATE
other_host() { # a bertd with another state, after the first and all that it ran were killed at once
  kill_bertd
  pkill -KILL -f -- "$work/" 2>/dev/null
  for p in $(grep -lsz "^BERTD_RUN_DIR=$work/" /proc/[0-9]*/environ | cut -d/ -f3); do kill -KILL "$p" 2>/dev/null; done
  sleep 0.5
  export BERTD_STATE_DIR=$work/state-$1 BERTD_SOCKET=$work/bertd-$1.sock
  start_bertd
}
heartbeat() { # AGE: of a host that is not this one
  echo '{"host": "h1", "boot_id": "0", "job": 42, "attempt": 1, "pid": 1, "usec": 1}' >"$run/heartbeat"
  touch -d "@$(($(date +%s) - $1))" "$run/heartbeat"
}

# ---- a trainer ----
run=$work/run
make_spec train 2 100000 "run_dir: $run"
job=$("$BERTCTL" submit "$work/train.yaml")
two() { [[ $(rows "$job" good | jq length) -ge 2 ]]; }
ok "a run has checkpoints" wait_for 60 two
written() { jq -e '.checkpoints | length >= 2' "$run/bertd.json" >/dev/null; }
ok "bertd.json names them" wait_for 10 written
is "and the job" "$(jq -r .name "$run/bertd.json")" train
ok "while its trainer runs, it is not continued" refuses 1 "the run lives.*: a trainer holds its lock; end " \
  "$BERTCTL" submit --continue "$run" "$work/train.yaml"
# The newest file is damaged: 76, demoted.
"$BERTCTL" pause "$job" >/dev/null
wait_for 20 state_is "$job" paused
ok "nor while its job is open here" refuses 2 "in use by job $job (paused)" "$BERTCTL" submit --continue "$run" "$work/train.yaml"
bad=$(rows "$job" good | jq max)
file=$run/checkpoints/$(printf 'step-%09d.ckpt' "$bad")
dd if=/dev/zero of="$file" bs=1k seek=100 count=200 conv=notrunc 2>/dev/null
"$BERTCTL" resume "$job" >/dev/null
demoted() { [[ $(rows "$job" demoted) == "[$bad]" ]]; }
ok "a damaged checkpoint is demoted" wait_for 30 demoted
wrote() { [[ $(jq -c '[.checkpoints[] | select(.state == "demoted") | .step]' "$run/bertd.json") == "[$bad]" ]]; }
ok "in bertd.json, too" wait_for 20 wrote
jq . "$run/bertd.json" >"$work/before"

other_host 2
heartbeat 30
ok "a fresh heartbeat of another host refuses it" refuses 1 "the run lives on h1 (job 42): its heartbeat is 3[0-9] s old; end it there: .ssh h1 bertctl cancel 42.; if that host is gone, try again in [89][0-9] s" \
  "$BERTCTL" submit --continue "$run" "$work/train.yaml"
heartbeat 121
job=$("$BERTCTL" submit --continue "$run" "$work/train.yaml")
ok "an old one does not" wait_for 20 state_is "$job" running
ok "its demoted checkpoint is, or was written again" test "$(rows "$job" demoted)" = "[$bad]" -o "$(rows "$job" good | jq "index($bad)")" != null
newest=$(jq '[.checkpoints[] | select(.state == "good") | .step] | max' "$work/before")
began() { [[ $("$BERTCTL" logs "$job" | grep -c "step") -gt 0 && $(field "$job" step) -gt $newest ]]; }
ok "it goes on after the newest good one" wait_for 60 began
ok "without repeating what came before" eval '"$BERTCTL" logs "$job" | grep -q "^resuming from .*, step $newest of"'
"$BERTCTL" cancel --now "$job" >/dev/null
wait_for 20 state_is "$job" cancelled
ok "an ended job here is no obstacle" wait_for 20 quietly "$BERTCTL" submit --continue "$run" "$work/train.yaml"
"$BERTCTL" cancel --now "$("$BERTCTL" list --json | jq 'max_by(.id) | .id')" >/dev/null

# ---- a command ----
run=$work/command
job=$("$BERTCTL" submit --name folders --run-dir "$run" -- python3 "$source_dir/tests/e2e/program.py" 100000 every=10)
ok "a program saves folders" wait_for 30 two
last=$(rows "$job" good | jq max)
named() { jq -e ".checkpoints[] | select(.step >= $last and .path)" "$run/bertd.json" >/dev/null; }
wait_for 10 named
other_host 3
job=$("$BERTCTL" submit --continue "$run" --name folders -- python3 "$source_dir/tests/e2e/program.py" 100000 every=10)
goes_on() { [[ $("$BERTCTL" logs "$job" | sed -n 's/^begin at step //p') -ge $last ]]; }
ok "and continues from one" wait_for 30 goes_on
"$BERTCTL" cancel --now "$job" >/dev/null
wait_for 20 state_is "$job" cancelled
ok "which counts the steps done before" at_least "$(jq .counters.run_steps "$run/bertd.json")" "$last"
rm -r "$run"/checkpoint-*
ok "checkpoints that are all gone are not begun from 0" refuses 1 "all checkpoints that bertd.json names are missing" \
  "$BERTCTL" submit --continue "$run" -- true
echo '{"version": 1' >"$run/bertd.json"
ok "a damaged bertd.json is refused" refuses 1 "$run/bertd.json:[12]: " "$BERTCTL" submit --continue "$run" -- true
mkdir "$work/empty"
ok "so is a folder without a run" refuses 2 "neither bertd.json nor checkpoints" "$BERTCTL" submit --continue "$work/empty" -- true
ok "an array is not continued" refuses 2 "continues one job" "$BERTCTL" submit --continue "$run" --array train.seed=1,2 "$work/train.yaml"
finish
