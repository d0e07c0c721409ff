#!/bin/bash
# How a job ends, and comes back: cancel leaves a checkpoint, resume takes a failed or cancelled job up again, shutdown --jobs queues jobs
# for the next bertd; the grace time, on_exit's environment and its minute (tests/fault/libclock.c), the stacks of a command that hangs.
. "$(dirname "$0")/lib.sh"
ok "corpus is prepared" make_corpus
# bertd on a clock that is moved; jobs and shims are on the kernel's.
head -c 16 /dev/zero >"$work/clock"
cat >"$work/bertd" <<END
#!/bin/sh
export ASAN_OPTIONS="\$ASAN_OPTIONS:verify_asan_link_order=0" CLOCK_OFFSET=$work/clock
exec env LD_PRELOAD=$(preloaded clock) '$BERTD' "\$@"
END
chmod +x "$work/bertd"
BERTD=$work/bertd
start_bertd
forward() { python3 -c 'import struct, sys; sys.stdout.buffer.write(struct.pack("qq", 0, int(sys.argv[1])))' "$1" 1<>"$work/clock"; }
trains_long() { # NAME: without a checkpoint that it is not asked for
  make_spec "$1" 1 1000000
  sed -i 's/every_steps: 20/every_steps: 0, every_sec: 0/' "$work/$1.yaml"
}
resumed_at() { "$BERTCTL" logs "$1" 2>/dev/null | grep -q "resuming from .*, step $2 of"; }

# cancel, and back.
trains_long long
job=$("$BERTCTL" submit "$work/long.yaml")
long=$job
ok "a job trains" wait_for 60 step_past "$job" 25
is "and has no checkpoint" "$(field "$job" checkpoint_step)" null
"$BERTCTL" cancel "$job"
ok "cancelled" wait_for 40 state_is "$job" cancelled
at=$(field "$job" checkpoint_step)
is "it has left a checkpoint of its last step" "$at $(test -s "$(field "$job" checkpoint_path)"; echo $?)" "$(field "$job" step) 0"
"$BERTCTL" resume "$job"
ok "resume goes on from there" wait_for 30 resumed_at "$job" "$at"
ok "and past it" wait_for 30 step_past "$job" $((at + 10))

# shutdown --jobs, with a command as well.
command=$("$BERTCTL" submit -- sleep 1000)
wait_for 20 state_is "$command" running
old="$(of_job "$job" bert-trainer) $(of_job "$command" sleep)"
"$BERTCTL" shutdown --jobs
wait "$bertd_pid"
is "shutdown --jobs ends bertd" $? 0
alive=0
for p in $old; do lives "$p" && alive=1; done
is "and every process of its jobs" "$alive ${#old}" "0 $((${#old} > 3 ? ${#old} : -1))"
start_bertd
ok "the next bertd starts the command again" wait_for 30 state_is "$command" running
is "in another attempt" "$(field "$command" attempts)" 2
stopped=$("$BERTCTL" checkpoints --json "$job" | jq '.[0].step')
ok "training continues from a checkpoint that the shutdown made" test "$stopped" -gt $((at + 10))
ok "and not from an older one" wait_for 30 resumed_at "$job" "$stopped"
is "the shutdown is no failure" "$("$BERTCTL" events --json "$job" | jq '[.[].what] | index("failed")')" null
"$BERTCTL" cancel --now "$job" "$command"

# A failed command, and the time that it has to end.
job=$("$BERTCTL" submit --retries 0 -- sh -c "echo hello; exec test -e $work/mended")
wait_for 20 state_is "$job" failed
touch "$work/mended"
"$BERTCTL" resume "$job"
ok "resume runs a failed job again" wait_job "$job" 30
is "in a second attempt" "$(field "$job" state):$(field "$job" attempts)" done:2
ok "a job that is done is not resumed" refuses 1 "^bertctl: job $job is done" "$BERTCTL" resume "$job"
stubborn=$("$BERTCTL" submit --grace 1 -- sh -c 'trap "" TERM; echo up; while :; do sleep 0.1; done')
up() { "$BERTCTL" logs "$stubborn" 2>/dev/null | grep -q up; }
wait_for 20 up
"$BERTCTL" cancel "$stubborn"
ok "--grace 1: what ignores SIGTERM is killed, long before the 120 s of the default" wait_for 20 state_is "$stubborn" cancelled
is "by SIGKILL" "$(field "$stubborn" exit_signal)" SIGKILL

# on_exit.
cat >"$work/hook" <<END
#!/bin/sh
printf '%s|' "\$BERTD_STATE" "\$BERTD_STEP" "\$BERTD_STEPS" "\$BERTD_REASON" >$work/hook.new
mv $work/hook.new $work/hook.out
echo \$\$ >$work/hook.pid
exec sleep 1000
END
chmod +x "$work/hook"
cat >"$work/steps.py" <<'END'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"X_BERTD_STEP=7\nX_BERTD_STEPS=90", os.environ["NOTIFY_SOCKET"])
sys.exit(65)
END
printf 'kind: command\ncommand: [python3, %s]\non_exit: %s\n' "$work/steps.py" "$work/hook" >"$work/hooked.yaml"
job=$("$BERTCTL" submit "$work/hooked.yaml")
ok "on_exit runs" wait_for 20 test -s "$work/hook.pid"
is "it has steps and reason" "$(cat "$work/hook.out")" "failed|7|90|$(field "$job" reason)|"
ok "the reason is one" test -n "$(field "$job" reason)"
hook=$(cat "$work/hook.pid")
forward 50
answers
sleep 0.2
ok "after 50 s it still runs" lives "$hook"
forward 61
killed() { answers && ! lives "$hook"; } # a question wakes bertd up: its timers are the kernel's
ok "after a minute it is killed" wait_for 20 killed
sed -i "s|^on_exit: .*|on_exit: $work/nothing|" "$work/hooked.yaml"
ok "a path that is no program is refused at the submit" refuses 2 "on_exit.*nothing" "$BERTCTL" submit "$work/hooked.yaml"
sed -i "s|^on_exit: .*|on_exit: no-such-notifier|" "$work/hooked.yaml"
ok "so is a name that PATH does not have" refuses 2 "on_exit: no-such-notifier: command not found" "$BERTCTL" submit "$work/hooked.yaml"
sed -i "s|^on_exit: .*|on_exit: $work/hook --flag|" "$work/hooked.yaml"
ok "and a command" refuses 2 "on_exit: .*No such file.*; put shell commands in a script$" "$BERTCTL" submit "$work/hooked.yaml"
cp "$work/hook" "$work/plain" && chmod -x "$work/plain"
sed -i "s|^on_exit: .*|on_exit: $work/plain|" "$work/hooked.yaml"
ok "and what may not be executed" refuses 2 "on_exit: .*Permission denied; make it executable: chmod +x$" "$BERTCTL" submit "$work/hooked.yaml"
printf '#!/no/such/shell\n' >"$work/odd" && chmod +x "$work/odd"
sed -i "s|^on_exit: .*|on_exit: $work/odd|" "$work/hooked.yaml"
ok "and a script without its interpreter" refuses 2 "on_exit: .*bad interpreter" "$BERTCTL" submit "$work/hooked.yaml"

# Stacks.
if command -v eu-stack >/dev/null || command -v gdb >/dev/null; then
  job=$("$BERTCTL" submit --hang-sec 1 --retries 0 -- python3 -c 'import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"X_BERTD_STEP=1", os.environ["NOTIFY_SOCKET"])
time.sleep(1000)')
  ok "a command that hangs fails" wait_for 30 state_is "$job" failed
  evidence=$(field "$job" evidence)
  is "in its evidence" "$(dirname "$evidence")" "$BERTD_STATE_DIR/jobs/$job/attempt-1"
  ok "is the stack of its process" grep -qE '^#[0-9]+ .*(clock_nanosleep|select|time_sleep)' "$evidence"/pid-*.txt
else
  for what in "a command that hangs" "in its evidence" "its stack"; do skip "$what" "needs eu-stack or gdb"; done
fi

# What metrics shows of a classifier.
for ((i = 0; i < 40; i++)); do printf '%s\tthe old %s reads the file\n' $((i % 2)) $((i % 2 ? 1 : 2)); done >"$work/train.tsv"
cat >"$work/tune.yaml" <<'SPEC'
kind: finetune
model: {config: config.json, vocab: vocab.txt}
data: {train: [train.tsv], validation: [train.tsv], text: [2], label: 1, sequence_length: 32}
train: {global_batch: 8, steps: 5}
SPEC
job=$("$BERTCTL" submit "$work/tune.yaml")
ok "a classifier is trained" wait_job "$job" 60
file=$(field "$job" run_dir)/metrics.jsonl
"$BERTCTL" metrics "$job" >"$work/metrics"
is "its metrics have accuracy in place of words and pairs" "$(head -n 1 "$work/metrics" | tr -s ' ' | cut -d' ' -f1-5)" " STEP LOSS ACC% SAMPLE/S"
is "the figures of its rows" "$(awk '$1 ~ /^[0-9]+$/ && !/held out/ {print $1, $2, $3}' "$work/metrics")" \
  "$(jq -r 'select(.loss) | [.step, .loss, .accuracy * 100] | @tsv' "$file" | awk '{printf "%d %.4f %.1f\n", $1, $2, $3}')"
is "and of what was held out" "$(awk '/held out/ {print $1, $2, $3}' "$work/metrics")" \
  "$(jq -r 'select(.validation) | [.step, .validation.loss, .validation.accuracy * 100] | @tsv' "$file" | awk '{printf "%d %.4f %.1f\n", $1, $2, $3}')"
is "--json is the rows themselves" "$("$BERTCTL" metrics --json "$job" | jq -c '[.[].step]')" "$(jq -sc '[.[].step]' "$file")"
is "-n 2 the last two" "$("$BERTCTL" metrics --json -n 2 "$job" | jq -c '[.[].step]')" "$(jq -sc '[.[].step][-2:]' "$file")"
finish
