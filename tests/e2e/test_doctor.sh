#!/bin/bash
# bertctl doctor, its probe, and bertctl metrics.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
doctor() { timeout 60 "$BERTCTL" doctor "$@" >"$work/out" 2>"$work/err" </dev/null; code=$?; }
says() { grep -qE -- "$1" "$work/out"; }
level() { jq -r --arg check "$1" '[.checks[] | select(.check == $check) | .level] | join(" ")' "$work/out"; }
make_model() { # HIDDEN LAYERS
  printf '{"vocab_size": 30522, "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": 2, "intermediate_size": %d,
    "max_position_embeddings": 512, "type_vocab_size": 2}' "$1" "$2" $(($1 * 4)) >"$work/big.json"
}

doctor
is "without bertd the doctor finds a failure" "$code" 1
ok "and names the cure" says '^fail  bertd .*no bertd answers'
ok "and checks the rest all the same" says '^(ok|warn)  +/dev/shm'
doctor --json
is "so does --json" "$(jq -r .ok "$work/out") $(level bertd)" "false fail"

start_bertd
doctor
is "with bertd nothing fails" "$code" 0
ok "which one answers is said" says "bertd .*answers \(pid $bertd_pid, fork launcher, 8 slots\)"
is "nothing goes to stderr" "$(cat "$work/err")" ""
(ulimit -S -t 1000 -n 512; timeout 60 "$BERTCTL" doctor --json >"$work/out"; echo $? >"$work/code")
is "a limit on CPU time fails, one on open files warns" "$(cat "$work/code") $(level ulimits)" "1 fail warn"

make_model 768 12
cat >"$work/big.yaml" <<END
kind: pretrain
checkpoint: {keep: 3}
model: {config: big.json, vocab: vocab.txt}
data: {train: [corpus]}
train: {steps: 1}
END
doctor "$work/big.yaml"
ok "a checkpoint of BERT-Base has 1.2 GiB, and four of them must fit" says 'a checkpoint is 1\.2 GiB, and 3 kept .* need 4\.9 GiB'
for row in "albert-base-v1 135 MiB" "albert-xxlarge-v1 2.5 GiB"; do
  cp "$SOURCE_DIR/examples/configs/${row%% *}.json" "$work/big.json"
  doctor "$work/big.yaml"
  ok "a checkpoint of ${row%% *} has ${row#* }" says "a checkpoint is ${row#* }"
done
make_model 100000 100
doctor --json "$work/big.yaml"
is "a checkpoint larger than the disk fails" "$code $(level space)" "1 fail"
doctor "$work/none.yaml"
is "a spec that is not there is refused" "$code" 2
ok "by name" grep -q none.yaml "$work/err"

doctor --probe
is "the probe finds its job alive" "$code" 0
ok "after the terminal was closed" says '^ok +probe SIGHUP .*kept pid'
ok "and after bertd was killed" says '^ok +probe kill -9 .*kept pid'
ok "another bertd answers" eval '! kill -0 "$bertd_pid" 2>/dev/null && answers'
is "the job is gone" "$("$BERTCTL" list --json | jq length)" 0
bertd_pid=$("$BERTCTL" status --json | jq .daemon.pid)
is "it runs as the one before" "$("$BERTCTL" status --json | jq -r .daemon.slots)" 8
a=$("$BERTCTL" submit --threads 8 -- sleep 100) job=$a
wait_for 20 state_is "$a" running
doctor --probe
ok "a probe that finds no slot says so" says '^fail +probe .*waits for 1 slot'
"$BERTCTL" cancel --now "$a"

a=$("$BERTCTL" submit -- true) job=$a
wait_for 20 state_is "$a" done
"$BERTCTL" metrics "$a" >"$work/out" 2>"$work/err"
is "no metrics is one line" "$? $(grep -c 'has written no metrics yet' "$work/err")" "1 1"
for ((i = 1; i <= 300; i++)); do
  echo "{\"step\": $i, \"loss\": 9.5, \"mlm_loss\": 8.5, \"mlm_accuracy\": 0.25, \"nsp_loss\": null, \"nsp_accuracy\": 0.5," \
    "\"samples_per_sec\": 123.4, \"data_sec\": 0.1, \"forward_sec\": 0.3, \"backward_sec\": 0.6, \"exchange_sec\": 0, \"update_sec\": 0, \"checkpoint_sec\": 0}"
done >"$(field "$a" run_dir)/metrics.jsonl"
printf '{"step": 300, "validation": {"loss": 7.25}}\nno JSON\n{"step": 30' >>"$(field "$a" run_dir)/metrics.jsonl"
is "the last rows in a table" "$("$BERTCTL" metrics -n 3 "$a" 2>"$work/err" | awk 'NR > 1 {print $1, $2, $5, $9}')" \
  $'300 9.5000 - 30\n300 7.2500 - '
ok "what is no row is told" grep -q "not JSON" "$work/err"
is "all of them as JSON" "$("$BERTCTL" metrics --json -n 1000 "$a" 2>/dev/null | jq 'length, .[0].step, .[300].validation.loss' | xargs)" "301 1 7.25"
ok "--follow ends with the job" quietly timeout 10 "$BERTCTL" metrics -f "$a" 2>/dev/null
finish
