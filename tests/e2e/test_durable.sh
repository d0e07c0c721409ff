#!/bin/bash
# An acknowledged change is durable: on a full disk each of cancel, pause, resume, rm and submit is either refused and has not happened,
# or holds over a restart; rm makes room itself; a stop says what it could not keep.
. "$(dirname "$0")/lib.sh"
((EUID == 0)) || skip_all "needs root"
mkdir "$work/small"
mount -t tmpfs -o size=6m tmpfs "$work/small" 2>/dev/null || skip_all "cannot mount a tmpfs"
cleanup() {
  kill_bertd
  pkill -KILL -f -- "$work/" 2>/dev/null
  umount -l "$work/small"
}
export BERTD_STATE_DIR=$work/small/state

terminate_bertd() { kill -TERM "$bertd_pid"; wait "$bertd_pid"; } 2>/dev/null
fill_disk() { head -c 8000000 /dev/zero >"$work/small/fill" 2>/dev/null; "$BERTCTL" submit -- true >/dev/null 2>&1 && fill_disk; true; }
state_of() { "$BERTCTL" status --json "$1" 2>/dev/null | jq -r .state; }

start_bertd --slots 3
declare -A job before=() code=()
submit() { "$BERTCTL" submit --name "$1" "${@:2}"; }
job[runs]=$(submit runs -- sleep 1000)
job[pauses]=$(submit pauses -- sleep 1000)
job[blocks]=$(submit blocks -- sleep 1000)
for name in cancels halts; do
  printf '#!/bin/sh\ntouch %s\n' "$work/$name.ended" >"$work/$name.sh"
  chmod +x "$work/$name.sh"
  printf '%s\n' "name: $name" "kind: command" "command: [sleep, '1000']" "on_exit: $work/$name.sh" >"$work/$name.yaml"
  job[$name]=$("$BERTCTL" submit "$work/$name.yaml")
done
for name in resumes goes; do
  job[$name]=$(submit "$name" -- sleep 1000)
  "$BERTCTL" cancel "${job[$name]}"
done
job[paused]=$(submit paused -- sleep 1000)
"$BERTCTL" pause "${job[paused]}"
for name in runs pauses blocks; do wait_for 20 state_is "${job[$name]}" running || echo "# $name does not run"; done
for name in "${!job[@]}"; do before[$name]=$(state_of "${job[$name]}"); done

fill_disk
try() { "$BERTCTL" "$2" "${@:3}" "${job[$1]}" >"$work/$1.out" 2>&1; code[$1]=$?; }
try runs cancel --now
try pauses pause
try cancels cancel
try halts pause
try resumes resume
try paused resume
for name in runs pauses cancels halts resumes paused; do
  ok "$name: refused or done" test "${code[$name]}" -le 1
  ((code[$name] == 0)) || ok "$name: the refusal names state.db" grep -q "state.db.*nothing was changed" "$work/$name.out"
  ((code[$name] == 0)) || is "$name: what is refused has not happened" "$(state_of "${job[$name]}")" "${before[$name]}"
done
refused=0
for name in "${!code[@]}"; do ((refused += code[$name])); done
ok "the disk was full" test "$refused" -gt 3
ok "no on_exit of what was refused" no_file "$work" "*.ended"
ok "rm makes room" "$BERTCTL" rm "${job[goes]}"
ok "the job is gone" exits 3 "$BERTCTL" status "${job[goes]}"

rm "$work/small/fill"
terminate_bertd
start_bertd --slots 3
after() { case $1 in runs | cancels) echo cancelled ;; pauses | halts) echo paused ;; resumes | paused) echo queued ;; esac; }
for name in runs pauses cancels halts resumes paused; do
  wanted=${before[$name]}
  ((code[$name] > 0)) || wanted=$(after "$name")
  is "$name: after a restart it is as it was told" "$(state_of "${job[$name]}")" "$wanted"
done
ok "the removed job is still gone" exits 3 "$BERTCTL" status "${job[goes]}"
ok "with room it is cancelled" "$BERTCTL" cancel "${job[cancels]}"
ok "and its on_exit runs" wait_for 20 test -e "$work/cancels.ended"

# What rm gave up is taken again once there is room, not at its end alone.
fill_disk
reserve=$BERTD_STATE_DIR/reserve
ok "rm makes room again" "$BERTCTL" rm "${job[cancels]}"
is "the reserve is given up" "$(stat -c %s "$reserve")" 0
rm "$work/small/fill"
ok "with room a job is taken" quietly "$BERTCTL" submit --name later -- sleep 1000
is "and the reserve is there again" "$(stat -c %s "$reserve")" 1048576

# A death that could not be written: it is told by the clean stop, and found again by its exit record or its absence.
fill_disk
before_stop=$(grep -c "could not be saved" "$work/bertd.log")
kill -KILL "$(shim_of "${job[blocks]}")"
sleep 1
terminate_bertd
ok "a stop names what it could not keep" test "$(grep -c "could not be saved" "$work/bertd.log")" -gt "$before_stop"

# The helper that removes a folder cannot be begun (tests/fault/libfault.c): the folder is not forgotten.
export BERTD_STATE_DIR=$work/state # of its own: no other commit
library=$(preloaded fault)
start_bertd
refused=0
for ((n = 1; n < 9 && refused == 0; n++)); do
  job[left]=$("$BERTCTL" submit -- true)
  wait_for 20 state_is "${job[left]}" done
  terminate_bertd
  truncate -s 0 "$work/count" && truncate -s 16 "$work/count"
  LD_PRELOAD=$library FAULT_PROGRAM=bertd FAULT_CALL=fork FAULT_N=$n FAULT_COUNT=$work/count start_bertd
  "$BERTCTL" rm "${job[left]}" >"$work/left.out" 2>&1 || refused=1
done
ok "rm says that its folder is still there" grep -q "job removed, but some files in .*/jobs/${job[left]} could not be deleted" "$work/left.out"
ok "later it is removed" wait_for 20 test ! -e "$BERTD_STATE_DIR/jobs/${job[left]}"
finish
