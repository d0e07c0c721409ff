#!/bin/bash
# The paths that users choose: bertd looks at none of them, the shim does as the user. What is listed, what an attempt begins from, what is
# refused; and every path that bertd itself touches, as strace sees it.
. "$(dirname "$0")/lib.sh"
start_bertd
make_corpus || exit 99
make_spec long 1 100000
sed -i 's/keep: 3/keep: 30/; s/backoff_sec: .*\]/backoff_sec: [0, 1], max_without_progress: 1/' "$work/long.yaml"
sed "1i run_dir: $work/run" "$work/long.yaml" >"$work/there.yaml"

ckpt() { printf '%s/checkpoints/step-%09d.ckpt' "$work/run" "$1"; }
rows() { "$BERTCTL" checkpoints --json "$1" | jq "[.[] | select(.state == \"$2\") | .step] | sort | .[]"; } # JOB STATE
row() { "$BERTCTL" checkpoints --json "$1" | jq -r ".[] | select(.step == $2) | \"\\(.state) \\(.restored)\""; } # JOB STEP
events() { "$BERTCTL" events --json "$1" | jq -r '.[] | "\(.what): \(.reason)"'; }
has_rows() { at_least "$(rows "$1" "$2" | wc -l)" "$3"; }
paused() { "$BERTCTL" pause "$1" && wait_for 30 state_is "$1" paused; }

job=$("$BERTCTL" submit "$work/there.yaml")
wait_for 60 has_rows "$job" good 3
paused "$job"
mapfile -t steps < <(rows "$job" good)
last=${steps[-1]} second=${steps[-2]}
mv "$(ckpt "$last")" "$work/kept"
is "a file that is gone while no attempt runs is missing" "$(row "$job" "$last")" "missing 0"
ok "in the table, too" grep -q " missing  .*step-0*$last\.ckpt" <<<"$("$BERTCTL" checkpoints "$job")"
ok "resume --from it is refused by name" refuses 1 "checkpoint of step $last: .*/step-0*$last.ckpt is missing" "$BERTCTL" resume --from "$last" "$job"
quietly "$BERTCTL" resume "$job"
begins() { events "$job" | grep -qx "begin: from step $second: newer checkpoints are missing"; }
ok "an attempt begins from the newest that is there, and an event says so" wait_for 30 begins
trainer_begins() { "$BERTCTL" logs "$job" | grep -q "^resuming from .*, step $second of"; }
ok "so does the trainer" wait_for 20 trainer_begins
is "the one that is gone is deleted, and no attempt has begun from it" "$(row "$job" "$last")" "deleted 0"
is "the other one has its attempt" "$(row "$job" "$second")" "good 1"
goes_on() { step_past "$job" $((last + 25)); }
ok "it goes on" wait_for 60 goes_on
paused "$job"

# All are gone: not from step 0 again.
attempts=$(field "$job" attempts)
gone=$(rows "$job" deleted)
mv "$work/run/checkpoints" "$work/away"
quietly "$BERTCTL" resume "$job"
ok "a trainer whose checkpoints have all vanished waits for them" wait_for 60 state_is "$job" backoff
says_which() { grep -q "$work/run/checkpoints: all [0-9]* checkpoints of the job are missing" <<<"$(field "$job" reason)"; }
ok "and says which" wait_for 60 says_which
ok "no step was trained" test ! -e "$work/run/checkpoints"
is "they are missing, not forgotten" "$(rows "$job" deleted)" "$gone"
attempts=$(field "$job" attempts)
mv "$work/away" "$work/run/checkpoints"
# One that the ledger knows as gone, and one that it does not know.
mv "$work/kept" "$(ckpt "$last")"
quietly "$BERTCTL" resume "$job"
ok "put back, it goes on" wait_for 60 attempt_past "$job" $((attempts + 1))
back() { [[ $(row "$job" "$last") == good\ * ]]; }
ok "with the one that was gone" wait_for 20 back
paused "$job"

# While bertd is away.
newest=$(field "$job" checkpoint_step)
quietly "$BERTCTL" resume "$job"
wait_for 60 step_past "$job" $((newest + 5))
kill_bertd
later() { local f; f=$(find "$work/run/checkpoints" -name 'step-*.ckpt' | sort | tail -n 1); [[ $f > $(ckpt $((newest + 100))) ]]; }
wait_for 60 later
kill -KILL "$(of_job "$job" bert-trainer)"
no_shim() { [[ -z $(shim_of "$job") ]]; }
wait_for 20 no_shim
there=$(find "$work/run/checkpoints" -name 'step-*.ckpt' | sort | tail -n 1)
start_bertd
known() { rows "$job" good | grep -qx "$((10#${there: -14:9}))"; }
ok "what an attempt wrote and bertd did not hear of is in the ledger" wait_for 20 known
quietly "$BERTCTL" cancel --now "$job"
wait_for 30 state_is "$job" cancelled

# What retention takes is seen while the job runs.
sed 's/keep: 30/keep: 1/; s/^name: .*/name: few/' "$work/long.yaml" >"$work/few.yaml"
job=$("$BERTCTL" submit "$work/few.yaml")
deleted() { at_least "$(rows "$job" deleted | wc -l)" 2; }
ok "what retention took is deleted while the attempt runs" wait_for 60 deleted
quietly "$BERTCTL" cancel --now "$job"

# Many, of a command: all are listed, each can be begun from, none is taken up twice.
mkdir -p "$work/many/checkpoints"
for ((i = 1; i <= 600; i++)); do echo x >"$work/many/checkpoints/step-$(printf %09d "$i").ckpt"; done
job=$("$BERTCTL" submit --run-dir "$work/many" -- bash -c 'echo "from <$BERTD_RESUME>"; sleep 1000')
from() { "$BERTCTL" logs "$job" | grep -qx "from <$1>"; }
ok "a command begins from the newest file of its run folder" wait_for 20 from "$work/many/checkpoints/step-000000600.ckpt"
ok "600 are listed" wait_for 20 has_rows "$job" good 600
writes() { "$BERTCTL" checkpoints --json "$job" | cksum; stat -c '%s %Y' "$BERTD_STATE_DIR/state.db-wal"; }
is "asking for them writes nothing" "$(writes)" "$(writes)"
paused "$job"
quietly "$BERTCTL" resume --from 7 "$job"
ok "resume --from an old one" wait_for 20 from "$work/many/checkpoints/step-000000007.ckpt"
is "newer ones are abandoned" "$(rows "$job" abandoned | wc -l)" 593
is "attempts are kept" "$(row "$job" 7)" "good 1"
paused "$job"
rm "$work/many/checkpoints/"*
quietly "$BERTCTL" resume "$job"
ok "a command that has removed its checkpoints begins without" wait_for 20 from ""
none() { events "$job" | grep -qx 'begin: from step 0: newer checkpoints are missing'; }
ok "and an event says so" wait_for 20 none
quietly "$BERTCTL" cancel --now "$job"

# Paths that are not the job's.
if command -v systemd-notify >/dev/null; then
  mkdir -p "$work/cwd" "$work/else"
  for d in cwd else; do echo x >"$work/$d/step-000000010.ckpt"; done
  cat >"$work/says" <<'END'
#!/bin/bash
for p in "$@"; do systemd-notify READY=1 "X_BERTD_LOSS=0.25" "X_BERTD_CHECKPOINT=$p"; done
sleep 1000
END
  chmod +x "$work/says"
  job=$(cd "$work/cwd" && "$BERTCTL" submit -- "$work/says" "$work/else/step-000000010.ckpt" "$work/cwd/../else/step-000000010.ckpt" "$work/else/step-000000010.ckpt")
  took() { [[ $(field "$job" loss) == 0.25 ]]; }
  ok "a report of a file elsewhere is taken but for that" wait_for 20 took
  is "which is not recorded" "$("$BERTCTL" checkpoints --json "$job" | jq length)" 0
  noted() { "$BERTCTL" logs "$job" | grep -c "$work/.*step-000000010.ckpt: not below"; }
  ok "the job's log says so" at_least "$(noted)" 1
  quietly "$BERTCTL" cancel --now "$job"
  job=$(cd "$work/cwd" && "$BERTCTL" submit -- "$work/says" "$work/cwd/step-000000010.ckpt")
  ok "one below its working directory is recorded" wait_for 20 has_rows "$job" good 1
  rm "$work/cwd/step-000000010.ckpt"
  quietly "$BERTCTL" cancel --now "$job"
else
  skip "paths elsewhere" "no systemd-notify"
fi
kill_bertd

# Every path that bertd's own process touches, of a job of another user: what has become that user is left out.
cleanup_of_lib=$(declare -f cleanup)
eval "${cleanup_of_lib/cleanup/cleanup_jobs}"
cleanup() { [[ -z ${strace_pid:-} ]] || kill "$strace_pid" 2>/dev/null; cleanup_jobs; }
traces='file,fork,vfork,clone,clone3,setuid,setresuid'
if ((EUID != 0)); then
  skip "paths that bertd touches" "needs root"
elif ! strace -f -qq -y -e trace=$traces -o "$work/true.strace" true 2>/dev/null || ! grep -q execve "$work/true.strace"; then
  skip "paths that bertd touches" "strace cannot trace here"
elif [[ $sanitized == yes ]]; then
  skip "paths that bertd touches" "leaks cannot be looked for under strace"
else
  mkdir "$work/daemon" "$work/trainer"
  cp "$BERTD" "$BERTD-shim" "$work/daemon/"
  cp "$BERT_TRAINER" "$work/trainer/"
  cp "$BERTCTL" "$(dirname "$0")/traced.py" "$work/"
  install -d -o 65534 -g 65534 "$work/theirs"
  chmod -R a+rX "$work"
  theirs() { (cd "$work/theirs" && setpriv --reuid 65534 --regid 65534 --clear-groups env -i PATH="$PATH" HOME="$work/theirs" BERTD_SOCKET="$BERTD_SOCKET" "$work/bertctl" "$@"); }
  start_traced() {
    env -u LD_LIBRARY_PATH setsid strace -f -qq -y -s 8192 -e trace=$traces -o "$work/strace.$1" "$work/daemon/bertd" --slots 8 --launcher fork >>"$work/bertd.log" 2>&1 </dev/null &
    strace_pid=$!
    wait_for 20 answers
    bertd_pid=$(pgrep -P "$strace_pid" -f "$work/daemon/bertd" | head -n 1)
    chmod 666 "$BERTD_SOCKET"
  }
  BERTD_STATE_DIR=$work/traced
  printf '#!/bin/sh\necho "$BERTD_STATE" >"%s/told"\n' "$work/theirs" >"$work/theirs/tell"
  chmod 755 "$work/theirs/tell"
  make_spec theirs 2 100000
  sed -i "1i run_dir: $work/theirs/run\non_exit: $work/theirs/tell" "$work/theirs.yaml"
  start_traced 1
  job=$(theirs submit "$work/theirs.yaml")
  ok "a job of another user trains under strace" wait_for 90 has_rows "$job" good 2
  theirs pause "$job"
  wait_for 40 state_is "$job" paused
  mapfile -t steps < <(rows "$job" good)
  theirs resume --from "${steps[0]}" "$job"
  wait_for 60 state_is "$job" running
  kill -KILL "$bertd_pid"
  start_traced 2
  theirs checkpoints "$job" >/dev/null
  theirs events "$job" >/dev/null
  theirs cancel --now "$job"
  wait_for 40 state_is "$job" cancelled
  ok "its on_exit has run" wait_for 20 test -s "$work/theirs/told"
  theirs rm "$job"
  "$BERTCTL" shutdown >/dev/null
  wait "$strace_pid" 2>/dev/null
  strace_pid=
  ok "bertd touches its own paths alone" python3 "$work/traced.py" "$work/traced" "$work/theirs" "$work/strace.1" "$work/strace.2" -- \
    / /tmp "$work" "$work/traced/" "$work/bertd.sock" "$work/daemon/" "$work/trainer/" \
    /proc/ /sys/ /etc/ /usr/ /lib/ /lib64/ /bin/ /run /run/systemd/ /run/userdb/ /run/host/ /var/run/nscd/ /dev/null /dev/urandom /dev/shm /dev/shm/bertd-
fi
finish
