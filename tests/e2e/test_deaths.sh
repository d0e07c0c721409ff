#!/bin/bash
# Deaths that tell something: NaN, the same step twice, a checkpoint that cannot be used; what status, events and on_exit say of them.
. "$(dirname "$0")/lib.sh"
command -v systemd-notify >/dev/null || skip_all "needs systemd-notify"
start_bertd
make_corpus || exit 99
events() { "$BERTCTL" events --json "$1" | jq -r '.[].what'; }
ends() { [[ $(field "$1" state) =~ ^(done|failed|cancelled)$ ]]; }
says() { grep -qE -- "$2" <<<"$1" || { echo "#   '$1' lacks '$2'"; return 1; }; }

# Decay times learning rate far above 2 multiplies the weights at every update until they overflow.
blow_up() { # NAME ON_NAN
  make_spec "$1" 1 50
  sed -i "s/learning_rate: .*/learning_rate: 1000.0, weight_decay: 1.0}/; s/every_steps: 20/every_steps: 1/; s/grace_sec: 30/grace_sec: 30, on_nan: $2/" "$work/$1.yaml"
}
blow_up stops stop
job=$("$BERTCTL" submit "$work/stops.yaml")
ok "a NaN ends the job" wait_for 30 ends "$job"
is "it is failed" "$(field "$job" state)" failed
is "its class is nan" "$(field "$job" exit_class)" nan
is "at the first death" "$(field "$job" attempts)" 1
ok "the reason names a step and on_nan" says "$(field "$job" reason)" 'step [0-9]+.*on_nan is stop'
blow_up back rollback
job=$("$BERTCTL" submit "$work/back.yaml")
ok "on_nan: rollback tries again" wait_for 60 ends "$job"
is "the same NaN at the same step ends it" "$(field "$job" state):$(field "$job" attempts)" failed:2
ok "an event tells of the rollback" says "$(events "$job")" '^rollback$'
ok "the reason tells of the second death" says "$(field "$job" reason)" 'failed twice the same way at step'

# A command that dies at the same step each time, of its own fault.
cat >"$work/dies" <<'END'
#!/bin/bash
for ((s = 1; s <= 7; s++)); do systemd-notify READY=1 "X_BERTD_STEP=$s" "X_BERTD_SAMPLES=$((s * 32))-$((s * 32 + 31))"; sleep 0.05; done
sleep 0.3
kill -SEGV $$
END
chmod +x "$work/dies"
printf 'name: dies\nkind: command\ncommand: [%s]\nrestart: {backoff_sec: [0, 1]}\n' "$work/dies" >"$work/dies.yaml"
job=$("$BERTCTL" submit "$work/dies.yaml")
ok "a job that dies of SIGSEGV at step 7" wait_for 30 ends "$job"
is "ends at the second death" "$(field "$job" state):$(field "$job" attempts)" failed:2
is "its class is signal" "$(field "$job" exit_class)" signal
is "the signal is named" "$(field "$job" exit_signal)" SIGSEGV
is "the last step is shown" "$(field "$job" last_step)" 7
is "every step is lost, twice" "$(field "$job" lost_steps)" 14
ok "the reason names the samples that kill it" says "$(field "$job" reason)" 'failed twice the same way at step 7.*samples 224 to 255'
ok "events --json carries the class" says "$("$BERTCTL" events --json "$job" | jq -r '.[] | select(.what == "failed") | .class')" '^signal$'

# A damaged newest checkpoint.
steps=300
make_spec whole 1 $steps
job=$("$BERTCTL" submit "$work/whole.yaml")
wait_job "$job"
whole=$(field "$job" checkpoint_path)
make_spec damaged 1 $steps
job=$("$BERTCTL" submit "$work/damaged.yaml")
ok "a job passes step 60" wait_for 30 step_past "$job" 60
for p in $(of_job "$job" bert-trainer); do kill -STOP "$p"; done
newest=$(printf '%s\n' "$(field "$job" run_dir)"/checkpoints/step-*.ckpt | tail -n 1)
dd if=/dev/urandom of="$newest" bs=4096 seek=200 count=32 conv=notrunc status=none
for p in $(of_job "$job" bert-trainer); do kill -KILL "$p"; done
cause_is_kept() { "$BERTCTL" status --json "$job" | jq -e '.state == "running" and .attempts > 1 and (.first_cause | length > 0)' >/dev/null; }
ok "while the next attempt runs, the last one's first cause is told" wait_for 30 cause_is_kept
ok "its newest checkpoint is damaged, the rank killed: it ends" wait_for 60 ends "$job"
is "it is done" "$(field "$job" state)" done
ok "an event tells of the demotion" says "$(events "$job")" '^demote$'
ok "the final weights are those of an undisturbed run" quietly "$BERT_TRAINER" diff "$whole" "$(field "$job" checkpoint_path)"
ok "some steps were lost" test "$(field "$job" lost_steps)" -gt 0
ok "goodput is between 0 and 1" quietly jq -e '.goodput > 0 and .goodput <= 1' <<<"$("$BERTCTL" status --json "$job")"
ok "a checkpoint's cost was measured" quietly jq -e '.checkpoint_stall_sec >= 0 and .checkpoint_write_sec > 0' <<<"$("$BERTCTL" status --json "$job")"

# on_exit: as the user, with the job's fields, bounded.
cat >"$work/hook" <<END
#!/bin/bash
echo "\$BERTD_JOB_ID \$BERTD_NAME \$BERTD_STATE \$BERTD_EXIT_CLASS \$BERTD_EXIT \$BERTD_STEP \$(id -u)" >$work/hook.out
END
chmod +x "$work/hook"
printf 'name: hooked\nkind: command\ncommand: [sh, -c, "exit 65"]\non_exit: %s\n' "$work/hook" >"$work/hooked.yaml"
job=$("$BERTCTL" submit "$work/hooked.yaml")
ok "a job with on_exit ends" wait_for 20 ends "$job"
ok "the hook has run" wait_for 20 test -s "$work/hook.out"
is "with the job's fields, as the user" "$(cat "$work/hook.out")" "$job hooked failed user-error 65 0 $(id -u)"
is "exit 65 is never tried again" "$(field "$job" attempts)" 1
finish
