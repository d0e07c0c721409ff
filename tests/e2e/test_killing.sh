#!/bin/bash
# Jobs that do not want to end: their owner or root ends them within 10 s, whatever they report, stop, hide or fork, and nothing of an
# attempt lives on beside the next.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip_all "needs python3"
cp "$(dirname "$0")/killing.py" "$work/"
limit=10 # seconds from the call on; wait_for gives it $patience times
start_bertd
hostile() { # MODE [OPTION...]: a job of it, whose pids are noted in $work/MODE
  local mode=$1
  shift
  job=$("$BERTCTL" submit "$@" --name "$mode" -- python3 "$work/killing.py" "$mode" "$work/$mode")
  wait_for 20 logs_say "$job" "$mode"
}
logs_say() { "$BERTCTL" logs "$1" 2>/dev/null | grep -qx "$2"; }
alive_of() { # FILE: which of the pids in it live
  local p
  while read -r p; do ! lives "$p" || echo "$p"; done <"$1" | xargs
}

hostile reports
touch "$work/reports.go"
stopped() { [[ $(awk '/^State:/ {print $2}' "/proc/$(shim_of "$job")/status") == T ]]; }
ok "a job has stopped its shim" wait_for 20 stopped
sleep 2 # and reports its end, again and again
ok "pause" quietly "$BERTCTL" pause "$job"
ok "cancel --now" quietly "$BERTCTL" cancel --now "$job"
for ((i = 0; i < 2 * limit * patience; i++)); do # asked again and again it is not put off
  state_is "$job" stopping || break
  quietly "$BERTCTL" cancel "$job"
  quietly "$BERTCTL" cancel --now "$job"
  sleep 0.4
done
is "ends it, whatever is reported and asked again" "$(field "$job" state)" cancelled
is "and all of it" "$(alive_of "$work/reports")" ""

# What has no environment, group or session of the job's.
hostile hidden
ok "with a keeper" pgrep -f -- "--keep --job $job .*$work/"
is "three hidden processes live" "$(alive_of "$work/hidden" | wc -w)" 3
ok "cancel --now" quietly "$BERTCTL" cancel --now "$job"
ok "ends the job" wait_for $limit state_is "$job" cancelled
is "and them" "$(alive_of "$work/hidden")" ""
job=$("$BERTCTL" submit --name done -- python3 "$work/killing.py" done "$work/done")
ok "a job that leaves such behind is done" wait_job "$job" 30
is "and they are gone" "$(wc -l <"$work/done"):$(alive_of "$work/done")" "3:"
rm "$work/hidden"
# Each attempt looks whether the one before lives.
cat >"$work/beside.sh" <<'EOF'
for p in $(cat "$1" 2>/dev/null); do [ ! -d "/proc/$p" ] || grep -q '^State:.[ZX]' "/proc/$p/status" || echo "beside $p"; done
exec python3 "$(dirname "$1")/killing.py" hidden "$1"
EOF
job=$("$BERTCTL" submit --name hidden -- sh "$work/beside.sh" "$work/hidden")
ok "hidden processes again" wait_for 20 logs_say "$job" hidden
for attempt in 2 3; do
  [[ $attempt == 2 ]] || kill_bertd # who is not there when it happens
  kill -KILL "$(shim_of "$job")"
  [[ $attempt == 2 ]] || start_bertd
  ok "kill -9 of the shim: attempt $attempt" wait_for 30 attempt_past "$job" $attempt
  hides_again() { [[ $(wc -l <"$work/hidden") == $((3 * attempt)) ]]; }
  ok "hides its processes as well" wait_for 20 hides_again
  is "of the attempt before none lived on" "$("$BERTCTL" logs --attempt "$attempt" "$job" | grep beside)" ""
done
ok "cancel ends them" quietly "$BERTCTL" cancel --now "$job"
ok "at once" wait_for $limit state_is "$job" cancelled
is "all" "$(alive_of "$work/hidden")" ""
ok "no keeper is left" wait_for 10 eval '! pgrep -f -- "--keep --job $job .*$work/"'

# Many at once: their sweeps take turns.
jobs=()
for ((i = 0; i < 24; i++)); do jobs+=("$("$BERTCTL" submit -- sh -c 'setsid -f env -i sleep 1000; sleep 1000')"); done
runs=0
for j in "${jobs[@]:0:8}"; do ! wait_for 20 state_is "$j" running || runs=$((runs + 1)); done
is "as many run as there are slots" $runs 8
for j in "${jobs[@]}"; do quietly "$BERTCTL" cancel --now "$j"; done
left() { "$BERTCTL" list --json --active | jq length; }
none_left() { [[ $(left) == 0 ]]; }
ok "two dozen cancelled at once end" wait_for $limit none_left

# What shows a process's memory hangs: the helper that looks is given up, and nobody waits meanwhile.
kill_bertd
leak_check=${leak_check:+$leak_check:}verify_asan_link_order=0 ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0
LD_PRELOAD=$(preloaded block) start_bertd
job=$("$BERTCTL" submit -- sh -c 'setsid -f env -i sleep 1000; sleep 1000')
ok "a job runs" wait_for 20 state_is "$job" running
quietly "$BERTCTL" cancel --now "$job"
slowest=0
for ((i = 0; i < 20; i++)); do
  begin=${EPOCHREALTIME/./}
  quietly "$BERTCTL" list
  took=$(((${EPOCHREALTIME/./} - begin) / 1000))
  ((took <= slowest)) || slowest=$took
  sleep 0.1
done
ok "its processes' memory is locked: calls are answered meanwhile ($slowest ms)" test "$slowest" -lt 2000
ok "and the job ends" wait_for $limit state_is "$job" cancelled
ok "which is logged" grep -q "job $job attempt 1: not all of its processes could be found" "$work/bertd.log"
kill_bertd
start_bertd

# Storms, of a user whose processes are bounded.
user=games
if ((EUID == 0)) && id "$user" >/dev/null 2>&1; then
  kill_bertd
  mkdir "$work/daemon" "$work/trainer"
  cp "$BERTD" "$BERTD-shim" "$work/daemon/"
  cp "$BERT_TRAINER" "$work/trainer/"
  cp "$BERTCTL" "$work/"
  chmod -R a+rX "$work"
  install -d -o "$user" "$work/theirs"
  BERTD=$work/daemon/bertd start_bertd
  chmod 666 "$BERTD_SOCKET"
  theirs() { (cd "$work/theirs" && ulimit -u 150 && setpriv --reuid "$user" --regid "$user" --clear-groups "$@"); }
  storms() { [[ $(pgrep -c -U "$user") -gt 100 ]]; }
  still() { ! pgrep -U "$user" -r R,S,D,T,t >/dev/null; }
  for mode in storm frozen; do
    job=$(theirs "$work/bertctl" submit --name "$mode" -- python3 "$work/killing.py" "$mode" "$work/theirs/$mode")
    ok "$mode: a hundred processes" wait_for 30 storms
    ok "$mode: cancel --now" quietly "$BERTCTL" cancel --now "$job"
    ok "$mode: ends the job" wait_for $limit state_is "$job" cancelled
    ok "$mode: and all of it" wait_for 5 still
  done
else
  for mode in storm frozen; do skip "$mode" "needs root and the user $user"; done
fi
finish
