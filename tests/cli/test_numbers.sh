#!/bin/bash
# labels: number: tuned, resumed, evaluated, predicted, exported and imported; each label that is not a number is refused by file and line.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
tune() { timeout 120 "$TRAINER" finetune "$@" </dev/null; }

# A text's number is the mean of its words'; the same rows in each format.
awk 'BEGIN { srand(5); n = split("kernel memory page driver device network socket packet file inode block lock", w)
        for (i = 0; i < 130; i++) { sum = 0; line = "the"; m = 2 + int(rand() * 6)
                for (k = 0; k < m; k++) { j = int(rand() * n) + 1; sum += j / 4; line = line " " w[j] }
                printf "%s\t%.3f\n", line, sum / m } }' >all.tsv
{ printf 'text\tscore\n'; head -n 100 all.tsv; } >train.tsv
{ printf 'text\tscore\n'; tail -n 30 all.tsv; } >dev.tsv
awk -F'\t' 'BEGIN { print "score,text" } NR > 1 { printf " %s,\"%s\"\n", $2, $1 }' train.tsv >train.csv
awk -F'\t' 'NR > 1 { printf NR % 2 ? "{\"text\": \"%s\", \"score\": %s}\n" : "{\"text\": \"%s\", \"score\": \"%s\"}\n", $1, $2 }' train.tsv >train.jsonl
cat >tune.yaml <<'SPEC'
kind: finetune
checkpoint: {every_steps: 20, every_sec: 0, keep: 100}
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [train.tsv], validation: [dev.tsv], test: [dev.tsv], label: score, labels: number, sequence_length: 32}
optimizer: {learning_rate: 5.0e-3, warmup_ratio: 0.1}
train: {global_batch: 9, micro_batch: 4, steps: 400, evaluate_every: 20}
SPEC
tune tune.yaml --run-dir whole >whole.log 2>&1
ok "400 steps" test $? -eq 0
ok "what the numbers are is said" grep -q '^numbers from 0\.[0-9]* to [0-9.]*, mean 1\.[0-9]*$' whole.log
[ "$(jq -r 'select(.validation).validation | keys | join(" ")' whole/metrics.jsonl | sort -u)" = "loss samples" ] &&
        jq -se 'map(select(.validation)) | .[0].validation.loss > 4 * .[-1].validation.loss' whole/metrics.jsonl >/dev/null
ok "a validation has the loss alone, and it falls" test $? -eq 0
best=$(jq -s 'map(select(.validation)) | min_by(.validation.loss).step' whole/metrics.jsonl)
is "the best checkpoint is that of the lowest loss" "$(readlink whole/best.ckpt)" "checkpoints/step-$(printf %09d "$best").ckpt"
hash() { jq -r 'select(.step == 1 and .sample_hash).sample_hash' "$1/metrics.jsonl"; }
for format in csv jsonl; do
        sed "s/train.tsv/train.$format/; s/steps: 400/steps: 1/" tune.yaml >$format.yaml
        tune $format.yaml --run-dir $format >$format.log 2>&1 && [ -n "$(hash $format)" ] && [ "$(hash $format)" = "$(hash whole)" ]
        ok "$format gives the samples of tsv" test $? -eq 0
done
sed 's/[0-9]\.[0-9]*$/0.125/' train.tsv >other.tsv
sed "s/train: .train.tsv./train: [other.tsv]/; s/steps: 400/steps: 1/" tune.yaml >other.yaml
tune other.yaml --run-dir other >other.log 2>&1
[ "$(hash other)" != "$(hash whole)" ]
ok "other numbers are other samples" test $? -eq 0
ok "all the same: it is said" grep -qx "bert-trainer: every number is 0.125: is this the label's column?" other.log
for at in 30 250; do
        kill_run finetune tune.yaml killed $at 400 && tune tune.yaml --run-dir killed >>killed.log 2>&1 &&
                "$TRAINER" diff "$(ckpt whole 400)" "$(ckpt killed 400)" >/dev/null && [ "$(readlink whole/best.ckpt)" = "$(readlink killed/best.ckpt)" ]
        ok "killed at step $at and resumed: same bits, same best" test $? -eq 0
done
if have_ranks 2; then
        timeout 120 mpirun --oversubscribe --bind-to none -n 2 "$TRAINER" finetune csv.yaml --run-dir two >two.log 2>&1 &&
                [ "$(hash two)" = "$(hash whole)" ] && jq -se '(.[0].loss - .[1].loss | fabs) < 1e-5' <(head -n 1 two/metrics.jsonl) <(head -n 1 whole/metrics.jsonl) >/dev/null
        ok "two ranks: the same samples, the same loss" test $? -eq 0
fi

# ---- evaluate, predict ----

"$TRAINER" evaluate --json whole/best.ckpt dev.tsv >figures.json 2>err
is "evaluate's figures" "$(jq -r 'keys_unsorted | join(" ")' figures.json)" "texts mse pearson spearman"
"$TRAINER" predict whole/best.ckpt dev.tsv >predicted 2>err
is "predict prints a number a text" "$(grep -cx '{"label":-\?[0-9.]*}' predicted)" 30
cat >figures.py <<'PY'
import json, statistics as s
def ranks(v): return [sum(b < a for b in v) + (v.count(a) + 1) / 2 for a in v]
def pearson(a, b):
    p, q = [x - s.mean(a) for x in a], [y - s.mean(b) for y in b]
    return sum(x * y for x, y in zip(p, q)) / (sum(x * x for x in p) * sum(y * y for y in q)) ** 0.5
x = [json.loads(line)["label"] for line in open("predicted")]
y = [float(line.split("\t")[1]) for line in open("dev.tsv").readlines()[1:]]
own = {"texts": len(x), "mse": s.mean((a - b) ** 2 for a, b in zip(x, y)), "pearson": pearson(x, y), "spearman": pearson(ranks(x), ranks(y))}
said = json.load(open("figures.json"))
assert all(abs(said[k] - own[k]) < 1e-6 for k in own), (said, own)
assert said["pearson"] > 0.8
PY
ok "are those of the numbers that predict prints" python3 figures.py
is "and of the run's own test" "$(jq '.mse * 1e6 | round' figures.json)" "$(jq 'select(.test).test.loss * 1e6 | round' whole/metrics.jsonl)"
"$TRAINER" evaluate whole/best.ckpt dev.tsv >out 2>err
is "as text, too" "$(sed 's/ .*//' out | tr '\n' ' ')" "texts MSE Pearson Spearman "
head -n 2 dev.tsv >one.tsv
is "of one text no correlation is defined: null" "$("$TRAINER" evaluate --json whole/best.ckpt one.tsv 2>err | jq -c '[.pearson, .spearman]')" "[null,null]"
ok "which is said" grep -qx 'bert-trainer: the correlations are undefined: a single text' err
{ printf 'text\tscore\n'; for i in 1 2 3; do printf 'the page\t%s\n' $i; done; } >same.tsv
is "nor of constant predictions" "$("$TRAINER" evaluate --json whole/best.ckpt same.tsv 2>err | jq -c '[.pearson, .spearman]')" "[null,null]"
is "but with the error, and 0 as exit code" "$("$TRAINER" evaluate whole/best.ckpt same.tsv 2>err | tail -n 2 | tr -s ' \n' ' ')" "Pearson undefined Spearman undefined "
is "a line without text gets no number" "$(printf 'the page\n\n' | "$TRAINER" predict whole/best.ckpt 2>err | tail -n 1)" '{"label":null,"reason":"empty"}'

# ---- refused ----

bad() { # CODE PATTERN NAME LABEL: of the third line
        { head -n 2 train.tsv; printf 'the page\t%s\n' "$4"; tail -n +4 train.tsv; } >bad.tsv
        sed 's/train: .train.tsv./train: [bad.tsv]/' tune.yaml >bad.yaml
        ok "$3" refuses "$1" "$2" "$TRAINER" finetune bad.yaml --run-dir bad
        ok "$3: evaluate" refuses "$1" "$2" "$TRAINER" evaluate whole/best.ckpt bad.tsv
}
bad 65 "bad.tsv:3: label 'nan' is not a number; expected a decimal number such as 1.5$" "NaN" nan
bad 65 "bad.tsv:3: label '-inf' is not a number; expected a decimal number such as 1.5$" "infinity" -inf
bad 65 "bad.tsv:3: empty label; expected a decimal number such as 1.5" "an empty label" ""
bad 65 "bad.tsv:3: label ' ' is not a number; expected a decimal number such as 1.5$" "a blank one" " "
bad 65 "bad.tsv:3: label 'three' is not a number; expected a decimal number such as 1.5$" "a word" three
bad 65 "bad.tsv:3: label '0x10' is not a number; expected a decimal number such as 1.5$" "a hexadecimal number" 0x10
bad 65 "bad.tsv:3: label '2,5' is not a number; expected a decimal number such as 1.5$" "a decimal comma" 2,5
bad 65 "bad.tsv:3: label '1e39' is beyond fp32's numbers" "a number that is too large" 1e39
refuses_line() { # PATTERN NAME LINE: of jsonl
        { head -n 2 train.jsonl; printf '%s\n' "$3"; } >bad.jsonl
        sed 's/train: .train.tsv./train: [bad.jsonl]/' tune.yaml >bad.yaml
        ok "jsonl: $2" refuses 65 "$1" "$TRAINER" finetune bad.yaml --run-dir bad
}
refuses_line "bad.jsonl:3: key score is not a number" "null" '{"text": "the page", "score": null}'
refuses_line "bad.jsonl:3: key score is not a number" "NaN" '{"text": "the page", "score": NaN}'
refuses_line "bad.jsonl:3: key score is missing; expected a number" "no label" '{"text": "the page"}'
refuses_line "bad.jsonl:3: label 'true' is not a number" "true" '{"text": "the page", "score": true}'
sed 's/label: score/text: [1], label: 2/' tune.yaml >header.yaml
ok "a header that is not said" refuses 65 "train.tsv:1: label 'score' is not a number; expected a decimal number such as 1.5: is this row a header (header: true)?" "$TRAINER" finetune header.yaml --run-dir bad
spec() { sed "s/labels: number/$1/" tune.yaml >bad.yaml; }
spec "labels: numbers"
ok "another word" refuses 78 "bad.yaml:4: data.labels: 'numbers' is not number; expected that or a list" "$TRAINER" finetune bad.yaml --run-dir bad
spec "labels: number, per_class: 5"
ok "so many of each class" refuses 78 "bad.yaml:4: data.per_class: 5: has no effect with data.labels: number; use data.fraction" "$TRAINER" finetune bad.yaml --run-dir bad
{ sed 's/^data:.*/data: {sequence_length: 32}/' tune.yaml
  printf 'stages:\n- tasks:\n  - {task: a, train: [train.tsv], label: score, labels: number}\n  - {task: b, train: [train.tsv], label: score}\n'; } >bad.yaml
ok "beside another task" refuses 78 "tasks\[0\].labels: number: not for one of several tasks" "$TRAINER" finetune bad.yaml --run-dir bad
{ sed 's/^data:.*/data: {train: [train.tsv], label: score, sequence_length: 32}/' tune.yaml
  printf 'stages:\n- data: {labels: number}\n- data: {task: b}\n'; } >bad.yaml
ok "before a stage of classes" refuses 78 "stages\[1\].data.labels: stages 0 and 1 are two tasks, of which one has data.labels: number" "$TRAINER" finetune bad.yaml --run-dir bad

# ---- beside classes ----

awk -F'\t' 'NR == 1 { print; next } { print $1 "\t" ($2 > 1.6 ? "high" : "low") }' train.tsv >classes.tsv
sed 's/train: .train.tsv.*score/train: [classes.tsv], label: score/; s/, labels: number//; s/steps: 400.*/steps: 20}/' tune.yaml >classes.yaml
tune classes.yaml --run-dir classes >classes.log 2>&1
ok "a classifier of the same texts" test $? -eq 0
sed 's/score, /score, labels: number, /; s/classes.tsv/train.tsv/; s/steps: 20}/steps: 40}/' classes.yaml >mixed.yaml
ok "its run is not continued with numbers" refuses_after_progress 78 "made with task classification, the spec (data.labels) now gives regression: this may not change on resume" "$TRAINER" finetune mixed.yaml --run-dir classes
sed 's/steps: 20}/steps: 500}/' classes.yaml >mixed.yaml
ok "nor the other way round" refuses_after_progress 78 "made with task regression, the spec (data.labels) now gives classification" "$TRAINER" finetune mixed.yaml --run-dir whole
ok "numbers are not a classifier's labels" refuses 65 "dev.tsv:2: label '[0-9.]*' is not one of the 2 classes" "$TRAINER" evaluate "$(ckpt classes 20)" dev.tsv
ok "nor classes numbers" refuses 65 "classes.tsv:2: label '[a-z]*' is not a number" "$TRAINER" evaluate whole/best.ckpt classes.tsv
init() { sed "s|config: tiny.json, vocab: vocab.txt|init: $2|; s|steps: [0-9]*.*|steps: 1}|" "$1" >init.yaml && rm -rf init && tune init.yaml --run-dir init >init.log 2>&1; }
init tune.yaml "$(ckpt classes 20)"
ok "a run of numbers may begin with a classifier's encoder" grep -qx "bert-trainer: the head of model.init is for classes, training is for numbers: the head is initialised randomly" init.log
init classes.yaml whole/best.ckpt
ok "and one of classes with that of numbers" grep -qx "bert-trainer: the head of model.init is for numbers, training is for classes: the head is initialised randomly" init.log
sed 's/5.0e-3/0/' tune.yaml >still.yaml
init still.yaml whole/best.ckpt
"$TRAINER" predict init/best.ckpt dev.tsv 2>err | cmp -s - predicted
ok "one of numbers keeps the head" test $? -eq 0
{ sed 's/^data:.*/data: {sequence_length: 32}/; s/steps: 400.*/steps: 2}/' tune.yaml
  printf 'stages:\n- data: {objective: mlm, train: [train.tsv]}\n- data: {train: [train.tsv], label: score, labels: number}\n'; } >stages.yaml
tune stages.yaml --run-dir stages >stages.log 2>&1 && [ "$("$TRAINER" predict "$(ckpt stages 4)" dev.tsv 2>err | wc -l)" -eq 30 ]
ok "a stage of pretraining before it" test $? -eq 0
ok "whose own checkpoint has no head to predict with" refuses 76 "never trained" "$TRAINER" predict "$(ckpt stages 2)" dev.tsv
"$TRAINER" export "$(ckpt stages 2)" --output further 2>err && [ "$(jq -r '.architectures[0]' further/config.json)" = BertForPreTraining ]
ok "and is exported as a pretrained model" test $? -eq 0

# ---- folders ----

"$TRAINER" export whole/best.ckpt --output folder 2>err
is "exported as a regression" "$(jq -c '[.architectures[0], .problem_type, .num_labels, .id2label]' folder/config.json)" '["BertForSequenceClassification","regression",1,{"0":"LABEL_0"}]'
"$TRAINER" import folder --output again.ckpt 2>err
is "and imported: the same numbers" "$("$TRAINER" predict again.ckpt dev.tsv 2>err | md5sum)" "$(md5sum <predicted)"
is "which can be evaluated" "$("$TRAINER" evaluate --json again.ckpt <(awk 'NR == 1 { print "text\tlabel"; next } { print }' dev.tsv) --format tsv 2>err | jq -S .)" "$(jq -S . figures.json)"
init still.yaml folder
is "and begun with: the same numbers" "$("$TRAINER" predict init/best.ckpt dev.tsv 2>err | md5sum)" "$(md5sum <predicted)"
edit() { rm -rf edited && cp -r folder edited && jq "$1" folder/config.json >edited/config.json; }
edit 'del(.problem_type, .id2label, .label2id)'
is "num_labels alone says it" "$("$TRAINER" import edited --output edited.ckpt 2>err && "$TRAINER" predict edited.ckpt dev.tsv 2>err | md5sum)" "$(md5sum <predicted)"
edit '.problem_type = "single_label_classification"'
ok "one label is not a classification" refuses 65 "problem_type: single_label_classification, but there is 1 label; expected two or more" "$TRAINER" import edited --output no.ckpt
edit '.problem_type = "multi_label_classification"'
ok "nor several at once" refuses 65 "problem_type: is 'multi_label_classification', expected single_label_classification or regression" "$TRAINER" import edited --output no.ckpt
"$TRAINER" export "$(ckpt classes 20)" --output headed 2>err
jq '.problem_type = "regression"' headed/config.json >headed/new && mv headed/new headed/config.json
ok "nor are two a regression" refuses 65 "problem_type: regression, but there are 2 labels; expected one" "$TRAINER" import headed --output no.ckpt
finish
