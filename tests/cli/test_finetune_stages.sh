#!/bin/sh
# The three steps as one job: further pretraining on the classifier's own texts, several tasks on one encoder, then one of them;
# killed anywhere it resumes in the right stage with the same bits. Wrong tasks are one line: TAP.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
awk 'BEGIN { srand(3); split("kernel memory page device", a); split("network socket packet signal", b); split("file inode block lock", c)
        for (i = 0; i < 90; i++) { k = i % 3; w = int(rand() * 4) + 1
                word = k == 0 ? a[w] : k == 1 ? b[w] : c[w]; name = k == 0 ? "core" : k == 1 ? "net" : "disk"
                printf "%s\tthe old %s reads the %s. It frees the %s!\n", name, word, word, word } }' >parts.tsv
awk 'BEGIN { srand(4); for (i = 0; i < 60; i++) { k = i % 2
        printf "{\"said\": \"the %s device %s\", \"mood\": %d}\n", k ? "fast" : "slow", k ? "wakes" : "drops", k } }' >moods.jsonl
head -n 20 parts.tsv >parts-dev.tsv
head -n 20 moods.jsonl >moods-dev.jsonl
cat >steps.yaml <<'SPEC'
kind: finetune
checkpoint: {every_steps: 4, every_sec: 0, keep: 100}
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [parts.tsv], validation: [parts-dev.tsv], text: [2], label: 1, sequence_length: 32}
optimizer: {learning_rate: 5.0e-3}
train: {global_batch: 8, micro_batch: 4}
stages:
- name: further
  data: {objective: mlm+nsp}
  train: {steps: 6}
- name: together
  tasks:
  - {task: parts}
  - {task: moods, train: [moods.jsonl], validation: [moods-dev.jsonl], text: [said], label: mood}
  train: {epochs: 0.5}
- name: target
  data: {task: parts}
  train: {epochs: 4}
SPEC
tune() { timeout 120 "$TRAINER" finetune "$@"; }
tune steps.yaml --run-dir whole >whole.log 2>&1
ok "three steps" test $? -eq 0
grep -q "texts-train-0: 90 texts, 180 sentences" whole.log
ok "the corpus is of the texts, cut into sentences" test $? -eq 0
[ "$(grep -c '"stage": 0, "learning_rate"' whole/metrics.jsonl)" -eq 6 ] && [ "$(grep -c '"stage": 1, "learning_rate"' whole/metrics.jsonl)" -eq 10 ] && [ "$(grep -c '"stage": 2, "learning_rate"' whole/metrics.jsonl)" -eq 45 ]
ok "half an epoch of both tasks together, four of the target" test $? -eq 0
[ "$(jq -c 'select(.validation) | [.stage, .step]' whole/metrics.jsonl | tr '\n' ' ')" = "[0,6] [1,16] [2,28] [2,40] [2,52] [2,61] " ]
ok "validation once an epoch of each stage" test $? -eq 0
sed 's/^  data: {task: parts}/  data: {task: prats}/' steps.yaml >misspelt.yaml
tune misspelt.yaml --run-dir misspelt >misspelt.log 2>&1 && grep -q "^task prats: its head is initialised randomly: no earlier stage has it" misspelt.log && ! grep -q "fresh head" whole.log
ok "a task that no stage before has is told of" test $? -eq 0
for at in 2 5 8 15 17 25; do
        kill_run finetune steps.yaml killed $at 61 && tune steps.yaml --run-dir killed >>killed.log 2>&1 && "$TRAINER" diff "$(ckpt whole 61)" "$(ckpt killed 61)" >/dev/null
        ok "killed at step $at and resumed: same bits" test $? -eq 0
done

"$TRAINER" evaluate --json whole/best.ckpt parts-dev.tsv >figures 2>err && [ "$(jq '.confusion | length' figures)" -eq 3 ]
ok "evaluate knows the target's classes alone" test $? -eq 0
[ "$(echo "the old socket reads" | "$TRAINER" predict whole/best.ckpt | jq -c '.probabilities | [(keys | length), (add * 1000 | round)]')" = "[3,1000]" ]
ok "so does predict: they sum to 1" test $? -eq 0
"$TRAINER" export whole/best.ckpt --output hf 2>err && [ "$(jq -c '.id2label' hf/config.json)" = '{"0":"core","1":"disk","2":"net"}' ] &&
        "$TRAINER" import hf --output back.ckpt 2>err
ok "export has the target's head alone" test $? -eq 0
sed 's/^core\t//; s/^net\t//; s/^disk\t//' parts.tsv >parts.txt
"$TRAINER" predict whole/best.ckpt parts.txt >a.json && "$TRAINER" predict back.ckpt parts.txt >b.json && cmp -s a.json b.json
ok "and predicts the same" test $? -eq 0
both=$(ckpt whole 16)
ok "a checkpoint of several tasks: which one has to be said" refuses 65 "is of several tasks: expected --task with one of parts, moods" "$TRAINER" evaluate "$both" parts-dev.tsv
ok "an unknown task" refuses 65 "has no task 'part'; it has parts, moods" "$TRAINER" evaluate "$both" parts-dev.tsv --task part
[ "$("$TRAINER" evaluate --json --task parts "$both" parts-dev.tsv | jq -c '[.classes[].label]')" = '["core","disk","net"]' ] &&
        [ "$("$TRAINER" evaluate --json --task moods "$both" moods-dev.jsonl | jq -c '[.texts, (.classes[].label)]')" = '[20,"0","1"]' ]
ok "each is evaluated on its own files, columns and classes" test $? -eq 0
accuracy() { "$TRAINER" evaluate --json --task "$1" "$2" "$3" | jq '.accuracy * .texts'; }
told=$(sed -n 's/^{"step": 16, "stage": 1, "validation": {"samples": 40, .*"accuracy": \([0-9.]*\).*/\1/p' whole/metrics.jsonl)
[ "$(echo "$(accuracy parts "$both" parts-dev.tsv) $(accuracy moods "$both" moods-dev.jsonl) $told" | awk '{ d = ($1 + $2) / 40 - $3; print (d > -0.001 && d < 0.001) }')" = 1 ]
ok "together they are as accurate as training said" test $? -eq 0
sed 's/^  - {task: parts}/  - {task: last}/; s/^  - {task: moods/  - {task: parts}\n  - {task: moods/; s/^  data: {task: parts}/  data: {task: parts}\n  train: {epochs: 1}\n- name: turned\n  tasks:\n  - {task: moods, train: [moods.jsonl], validation: [moods-dev.jsonl], text: [said], label: mood}\n  - {task: parts}\n  train: {steps: 3}\n- name: again\n  data: {task: moods, train: [moods.jsonl], validation: [moods-dev.jsonl], text: [said], label: mood}/' steps.yaml >turned.yaml
tune turned.yaml --run-dir turned >turned.log 2>&1
ok "tasks in another order in a later stage" test $? -eq 0
step=$(sed -n 's/^{"step": \([0-9]*\), "stage": 3, "validation".*/\1/p' turned/metrics.jsonl | tail -n 1)
told=$(sed -n "s/^{\"step\": $step, \"stage\": 3, \"validation\": {\"samples\": 40, .*\"accuracy\": \\([0-9.]*\\).*/\\1/p" turned/metrics.jsonl)
turned=$(ckpt turned "$step")
[ "$(echo "$(accuracy parts "$turned" parts-dev.tsv) $(accuracy moods "$turned" moods-dev.jsonl) $told" | awk '{ d = ($1 + $2) / 40 - $3; print (d > -0.001 && d < 0.001) }')" = 1 ]
ok "and each has its own head there" test $? -eq 0
"$TRAINER" predict --task moods "$both" moods-dev.jsonl >a.json && [ "$(head -n 1 a.json | jq -c '.probabilities | keys')" = '["0","1"]' ] &&
        "$TRAINER" export --task moods "$both" --output moods 2>err && "$TRAINER" import moods --output moods.ckpt 2>err &&
        jq -r .said moods-dev.jsonl | "$TRAINER" predict moods.ckpt >b.json && cmp -s a.json b.json
ok "predict and export of one of them agree" test $? -eq 0
ok "a task of a checkpoint without classes" refuses 65 "holds no classifier, so no task 'parts'" "$TRAINER" export --task parts "$(ckpt whole 6)" --output none
"$TRAINER" export "$(ckpt whole 6)" --output further 2>err && grep -q BertForPreTraining further/config.json
ok "one of further pretraining is exported as such" test $? -eq 0
if have_ranks 2; then
        timeout 120 mpirun --oversubscribe --bind-to none -n 2 "$TRAINER" finetune steps.yaml --run-dir two >two.log 2>&1 &&
                [ "$(grep -c '"sample_hash": "[0-9a-f]*"' two/metrics.jsonl)" -eq 61 ] && [ "$(grep -o '"sample_hash": "[0-9a-f]*"' two/metrics.jsonl)" = "$(grep -o '"sample_hash": "[0-9a-f]*"' whole/metrics.jsonl)" ]
        ok "two ranks see the same samples" test $? -eq 0
fi

bad() { # bad CODE PATTERN NAME SED…
        code=$1 pattern=$2 name=$3
        shift 3
        sed "$@" steps.yaml >bad.yaml
        ok "$name" refuses "$code" "$pattern" "$TRAINER" finetune bad.yaml --run-dir new
}
bad 78 "bad.yaml:14: stages\[1\].tasks\[1\].task: 'parts' is given twice" "a task twice" 's/task: moods/task: parts/'
bad 78 "stages\[1\].tasks\[1\].task: missing" "a task without a name" 's/task: moods, //'
bad 78 "stages\[1\].tasks: some have validation files; give them to all tasks or to none" "held-out texts of one task alone" 's/, validation: .moods-dev.jsonl.//'
bad 78 "bad.yaml:14: unknown key 'labl' in tasks" "an unknown key of a task" 's/label: mood/labl: mood/'
bad 78 "bad.yaml:14: stages\[1\].tasks\[1\].sequence_length: 16, but the first task has 32" "tasks of different lengths" 's/label: mood/label: mood, sequence_length: 16/'
bad 65 "moods.jsonl:1: key mod is missing" "a label that a task's file lacks" 's/label: mood/label: mod/'
sed 's/^  data: {objective: mlm+nsp}/  data: {objective: mlm+nsp, train: [moods.jsonl], text: [said]}/' steps.yaml >bad.yaml
ok "NSP on texts of one sentence" refuses_after_progress 65 "stage 0: .*texts-train-0: .*sentence" "$TRAINER" finetune bad.yaml --run-dir new
sed 's/task: parts}$/task: moods, train: [moods.jsonl], validation: [moods-dev.jsonl], text: [said], label: mood}/; s/^  - {task: moods.*/  - {task: other, train: [moods.jsonl], validation: [moods-dev.jsonl], text: [said], label: mood}/' steps.yaml >other.yaml
ok "other tasks are refused on resume" refuses 78 "tasks" "$TRAINER" finetune other.yaml --run-dir whole
finish
