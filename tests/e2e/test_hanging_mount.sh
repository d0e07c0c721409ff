#!/bin/bash
# A run folder on a file system that hangs: bertd answers everybody, and cancel --now ends the job as far as the kernel lets it.
. "$(dirname "$0")/lib.sh"
((EUID == 0)) || skip_all "needs root"
[[ -c /dev/fuse ]] || skip_all "no /dev/fuse"
command -v python3 >/dev/null || skip_all "needs python3"
hung=() mounts=()
cleanup_of_lib=$(declare -f cleanup)
eval "${cleanup_of_lib/cleanup/cleanup_jobs}"
cleanup() { # first the mounts: what waits for them cannot be killed
  kill "${hung[@]}" 2>/dev/null
  for m in "${mounts[@]}"; do umount -l "$m" 2>/dev/null; done
  cleanup_jobs
}
hang() { # FOLDER [taken]
  : >"$work/mounted"
  python3 "$(dirname "$0")/hangfs.py" "$@" >>"$work/mounted" 2>&1 &
  hung+=($!)
  mounts+=("$1")
  wait_for 10 grep -q . "$work/mounted" && grep -q mounted "$work/mounted"
}
recover() { ((${#hung[@]} == 0)) || { kill "${hung[@]}"; wait "${hung[@]}"; } 2>/dev/null; hung=(); }
mkdir "$work/probe"
hang "$work/probe" || skip_all "cannot mount: $(cat "$work/mounted")"
recover

mkdir "$work/daemon"
cp "$BERTD" "$BERTD-shim" "$work/daemon/"
cp "$(dirname "$0")/hostile.py" "$source_dir/tests/bus.py" "$BERTCTL" "$work/"
chmod -R a+rX "$work"
BERTD=$work/daemon/bertd
start_bertd
chmod 666 "$BERTD_SOCKET"
as() { # UID COMMAND...
  local uid=$1
  shift
  (cd "$work/theirs" && setpriv --reuid "$uid" --regid "$uid" --clear-groups env -i PATH="$PATH" HOME=/ BERTD_SOCKET="$BERTD_SOCKET" ASAN_OPTIONS="$ASAN_OPTIONS" "$@")
}
diagnose() { "$BERTCTL" list; tail -n 15 "$work/bertd.log"; } # a log may lie where nobody answers
limit=$((25 * patience)) # ms
p99() { as 65533 python3 "$work/hostile.py" "$BERTD_SOCKET" honest 1 || echo 99999; } # a loop that hangs with the mount hangs for longer
answers_others() {
  local took try
  for ((try = 0; try < 3; try++)); do # a loop that is blocked is blocked again; a machine that was busy may not be
    took=$(p99)
    awk "BEGIN {exit !($took < $limit)}" && return
  done
  echo "p99 $took ms, expected less than $limit"
  return 1
}
ends_now() { # JOB SECONDS: cancel --now is answered at once and is true in that time
  local from=$SECONDS
  timeout $((5 * patience)) "$BERTCTL" cancel --now "$1" && wait_for "$2" state_is "$1" cancelled && echo "# cancelled in $((SECONDS - from)) s" >&2
}
calls() { timeout $((5 * patience)) busctl --address="unix:path=$BERTD_SOCKET" call org.bertd1 /org/bertd1 org.bertd1.Manager "$@" >/dev/null; }

for how in "" taken; do
  name=${how:-untaken}
  rm -rf "$work/theirs"
  install -d -o 65534 -g 65534 "$work/theirs" "$work/theirs/run" "$work/theirs/run/checkpoints" "$work/theirs/new"
  for s in 10 20; do echo x >"$work/theirs/run/checkpoints/step-0000000$s.ckpt"; done
  job=$(as 65534 "$work/bertctl" submit --run-dir "$work/theirs/run" -- bash -c 'echo "$BERTD_RESUME"; sleep 2; ls "$BERTD_RUN_DIR"; sleep 1000')
  own=$("$BERTCTL" submit -- sleep 1000)
  begun() { "$BERTCTL" logs "$job" 2>/dev/null | grep -q step-000000020; }
  ok "$name: a job runs" wait_for 20 begun
  ok "$name: its run folder hangs from now on" hang "$work/theirs/run" $how
  waits() { grep -qs '^State:.[DS]' $(for p in $(of_job "$job" ls); do echo "/proc/$p/status"; done) /dev/null; }
  ok "$name: it waits for it" wait_for 20 waits
  late=$(as 65534 "$work/bertctl" submit --run-dir "$work/theirs/run" -- true)
  lists() { [[ $(field "$late" status) == "listing $work/theirs/run/checkpoints" ]]; }
  ok "$name: one that begins there says that it waits" wait_for 20 lists
  ok "$name: others are answered within $limit ms" answers_others
  ok "$name: so is who asks for its checkpoints" calls GetCheckpoints t "$job"
  ok "$name: the other's job runs" state_is "$own" running
  before=$bertd_pid
  kill_bertd
  start_bertd
  chmod 666 "$BERTD_SOCKET"
  ok "$name: a bertd that is started meanwhile answers" answers_others
  ok "$name: cancel --now ends the job that has not begun" ends_now "$late" 10
  ok "$name: and the one that runs" ends_now "$job" 40
  ok "$name: others are answered" answers_others
  ok "$name: bertd is the same" lives "$bertd_pid"
  ok "$name: rm of it is answered" timeout $((20 * patience)) "$BERTCTL" rm "$job"
  quietly "$BERTCTL" cancel --now "$own"
  recover
  none_left() { [[ -z $(of_job "$job" ls) ]]; }
  ok "$name: nothing of it is left when the file system is back" wait_for 20 none_left
done

# A job's folder belongs to its user, who can mount on it: bertd enters no mount there.
for at in "" /attempt-1 /attempt-1/exit.json; do
  job=$(as 65534 "$work/bertctl" submit -- sleep 1000)
  wait_for 20 state_is "$job" running
  folder=$BERTD_STATE_DIR/jobs/$job$at
  [[ $at != *.json ]] || touch "$folder"
  if [[ $at == *.json ]]; then # only a file system whose root is a file goes there
    mount --bind "$BERTCTL" "$folder" && mounts+=("$folder")
  else
    hang "$folder"
  fi
  ok "a mount on jobs/N$at: cancel --now ends the job" ends_now "$job" 40
  ok "others are answered" answers_others
  timeout $((5 * patience)) "$BERTCTL" rm "$job" >/dev/null 2>&1
  ok "also while it is removed" answers_others
  recover
  umount -l "$folder" 2>/dev/null
done
finish
