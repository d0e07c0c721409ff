#!/bin/sh
# What the keys of a classifier's spec do to its samples and its weights: how texts are shortened, which of them are used, what is frozen and
# how fast layers learn; and the value of macro F1. A sample is known by its hash in the metrics: a step has one.
. "$(dirname "$0")/trainer-lib.sh"
words=$(seq 101 140 | sed 's/^/w/')
# shellcheck disable=SC2086 # a line a word
printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' Upper upper $words >vocab.txt
cat >tiny.json <<'JSON'
{"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
 "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
 "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12}
JSON
# tune DATA [OPTIMIZER]: a run of one epoch, a sample a step, with these keys besides; its folder is $run
tune() {
        run=$(mktemp -d run.XXXXXX)
        cat >$run.yaml <<SPEC
kind: finetune
checkpoint: {every_sec: 0}
model: {${model:-config: tiny.json, vocab: vocab.txt}}
data: {train: [${train:-train.tsv}], text: [2], label: 1, sequence_length: 12, $1}
optimizer: {learning_rate: 1.0e-3, ${2:-schedule: constant}}
train: {global_batch: 1, micro_batch: 1, ${steps:-epochs: 1}, seed: ${seed:-1}}
SPEC
        timeout 120 "$TRAINER" finetune $run.yaml --run-dir $run >$run.log 2>&1 || { echo "$run: $(tail -n 1 $run.log)"; return 1; } # like no other run's
}
hashes() { sed -n 's/^{"step": [0-9]*, "loss".*"sample_hash": "\([0-9a-f]*\)".*/\1/p' "$run/metrics.jsonl" | LC_ALL=C sort; }
samples() { # FILE DATA: the hashes of its texts
        train=$1 tune "$2" && hashes
}
text() { printf 'a\t%s\n' "$(seq "$@" | sed 's/^/w/' | xargs)"; }
other='b\tw140\n' # a second class, as there has to be one

# Twenty words, of which ten fit beside [CLS] and [SEP].
{ text 101 120; printf "$other"; } >long.tsv
cut_to() { { printf 'a\t'; for w in "$@"; do printf 'w%s ' "$w"; done; printf "\n$other"; } >short.tsv; }
cut_to $(seq 101 110)
is "truncation: head, the default: the first ten words" "$(samples long.tsv 'shuffle: false')" "$(samples short.tsv 'shuffle: false')"
cut_to $(seq 111 120)
is "tail: the last ten" "$(samples long.tsv 'truncation: tail')" "$(samples short.tsv 'shuffle: true')"
cut_to $(seq 101 107) $(seq 118 120)
is "head_tail with head_tokens: 7 of the first, 3 of the last" "$(samples long.tsv 'truncation: head_tail, head_tokens: 7')" "$(samples short.tsv 'shuffle: true')"
cut_to 101 102 103 $(seq 114 120)
is "by default 128 of 510, here 3 of 10" "$(samples long.tsv 'truncation: head_tail')" "$(samples short.tsv 'shuffle: true')"
{ text 101 135; printf "$other"; } >longer.tsv
{ text 101 120; printf "$other"; } >two.tsv
all=$(samples longer.tsv 'truncation: segments')
is "max_segments: 2: what is behind the second is not seen" "$(samples longer.tsv 'truncation: segments, max_segments: 2')" "$(samples two.tsv 'truncation: segments')"
ok "by default there are four" test "$all" != "$(samples two.tsv 'truncation: segments')" -a "$all" = "$(samples longer.tsv 'truncation: segments, max_segments: 4')"

# Which texts are used: 40 alike of one class, 20 of another.
{ for _ in $(seq 40); do printf 'a\tw101\n'; done; for _ in $(seq 20); do printf 'b\tw102\n'; done; } >train.tsv
shares() { tune "$1" && hashes | uniq -c | awk '{print $1}' | sort -n | xargs; }
is "all texts are used" "$(shares 'shuffle: true')" "20 40"
is "fraction: 0.5: half of each class" "$(shares 'fraction: 0.5')" "10 20"
is "per_class: 5: so many of each" "$(shares 'per_class: 5')" "5 5"
is "both: a share of those" "$(shares 'per_class: 30, fraction: 0.5')" "10 15"
for i in $words; do printf '%s\t%s\n' "$((${i#w} % 2))" "$i"; done >train.tsv
tune 'fraction: 0.5'
hashes >first
(seed=2 tune 'fraction: 0.5' && hashes) >second
(tune 'fraction: 0.5' && hashes) >third
ok "drawn by the seed" eval 'cmp -s first third && ! cmp -s first second && [ $(wc -l <second) -eq 20 ]'
tune 'split: 0.25'
is "split: 0.25: ten of 40 are held out, the others trained" "$(jq 'select(.validation).validation.samples' $run/metrics.jsonl | tail -n 1) $(hashes | wc -l)" "10 30"
hashes >first
(seed=2 tune 'split: 0.25' && hashes) >second
(tune 'split: 0.25' && hashes) >third
ok "they too are drawn by the seed" eval 'cmp -s first third && ! cmp -s first second'
order() { sed -n 's/^{"step": [0-9]*, "loss".*"sample_hash": "\([0-9a-f]*\)".*/\1/p' "$run/metrics.jsonl"; }
half() { # COMMAND: of two epochs of 40
        order | $1 -n 40
}
steps='epochs: 2'
tune 'shuffle: false'
is "shuffle: false: every epoch is the same" "$(half head)" "$(half tail)"
tune 'shuffle: true'
ok "by default each has an order of its own, of the same texts" eval '[ "$(half head)" != "$(half tail)" ] && [ "$(half head | sort)" = "$(half tail | sort)" ]'
steps=

# Case.
printf 'a\tUpper\n'"$other" >upper.tsv
printf "a\tupper\n$other" >lower.tsv
is "by default text is put in lower case" "$(samples upper.tsv 'shuffle: true')" "$(samples lower.tsv 'shuffle: true')"
ok "lowercase: false: it is not" eval '[ "$(samples upper.tsv "lowercase: false")" != "$(samples lower.tsv "lowercase: false")" ]'
is "what is in lower case stays" "$(samples lower.tsv 'lowercase: false')" "$(samples lower.tsv 'shuffle: true')"

# How files are read, and what is said of them.
printf 'a\tw101 w102\nb\tw103\na\tw104\n' >train.tsv
plain=$(samples train.tsv 'shuffle: false')
printf 'a\tw101 w102\nb\t\nb\tw103\na\tw104\nc\t\342\200\213\n' >some.tsv
is "empty: skip leaves empty texts out, and a class of nothing else" "$(samples some.tsv 'shuffle: false, empty: skip')" "$plain"
for delimiter in 'tab' '"\t"' ';' '"|"'; do
        case $delimiter in tab | '"\t"') to='\t' ;; *) to=$(echo "$delimiter" | tr -d '"') ;; esac
        tr '\t' "$to" <train.tsv | sed "s/w101 w102/\"w101 w102\"/" >train.csv
        is "delimiter: $delimiter" "$(samples train.csv "shuffle: false, delimiter: $delimiter")" "$plain"
done
printf '\357\273\277a\tw101 w102\rb\tw103\ra\tw104' >cr.tsv
is "a mark and CRs alone" "$(samples cr.tsv 'shuffle: false')" "$plain"
printf 'a\tw101\377 w102\nb\tw103\na\tw104%99s %99s\n' >bytes.tsv
is "bytes that are not UTF-8 are left out" "$(samples bytes.tsv 'shuffle: false')" "$plain"
train=bytes.tsv tune 'empty: refuse'
ok "and said" grep -q 'bytes.tsv:1: byte 0xff: not UTF-8; left out, with 1 such bytes in all' $run.log
{ printf 'label\ttext\n'; for _ in 1 2 3; do printf 'a\tw101\nb\tw102 w103\n'; done; printf 'b\t%s\n' "$(seq 101 120 | sed 's/^/w/' | xargs)"; } >header.tsv
train=header.tsv tune 'validation: [train.tsv]'
said=$run.log
is "finetune says how many texts there are, their lengths, and how many of each class" "$(grep -A 4 '^train:' $said | xargs)" \
        "train: 8 texts of 3 classes, 4 tokens (median), at most 22; 1 are cut validation: 3 texts of 3 classes, 3 tokens (median), at most 4; 0 are cut 3 a 4 b 1 label"
ok "a class of fewer than 3 texts is warned of" grep -q "^bert-trainer: class 'label': 1 text only" $said
ok "and a first row that may be a header" grep -q "^bert-trainer: .*/header.tsv:1: label 'label' is in this row alone: is it a header" $said
ok "no other class is" test "$(grep -c "^bert-trainer: " $said)" -eq 2
cp header.tsv second.tsv
cp header.tsv third.tsv
train='header.tsv, second.tsv, third.tsv' tune 'validation: [train.tsv]'
is "so are those of several files" "$(grep -c "\.tsv:1: label 'label' is in files' first rows alone: is it a header" $run.log)" 3
train=header.tsv tune 'header: true'
ok "nothing is warned of a header" test "$(grep -c "^bert-trainer: " $run.log)" -eq 0

# Weights, read from the checkpoints: each tensor's largest change of one step. AdamW's first is the
# learning rate for every weight, and weight decay, too little to be seen in two digits, is not zero: what stays is frozen, and not just without
# a gradient.
cat >changes.py <<'PY'
import sqlite3, struct, sys
def weights(path):
    db = sqlite3.connect(path)
    found = {}
    for key, name in db.execute("select id, name from tensor where kind = 'param'"):
        data = b"".join(row[0] for row in db.execute("select data from chunk where tensor = ? order by seq", (key,)))
        found[name] = struct.unpack("<%df" % (len(data) // 4), data)
    return found
before, after = weights(sys.argv[1]), weights(sys.argv[2])
groups = {}
for name, values in after.items():
    group = next((g for g in ("embeddings", "layer.0", "layer.1", "layer.2", "pooler", "classifier") if g + "." in name), name)
    change = max(abs(a - b) for a, b in zip(values, before[name])) if name in before else float("nan")
    groups[group] = max(groups.get(group, 0), change)
for group in sorted(groups):
    print(group, "-" if groups[group] == 0 else round(groups[group] / 1e-3, 2))
PY
steps='steps: 1'
tune 'shuffle: true' 'schedule: constant'
model="init: $(ckpt $run 1)"
init=$(ckpt $run 1)
changes() { tune 'shuffle: true' "schedule: constant, weight_decay: 0.01, epsilon: 1.0e-12, $1" && python3 changes.py "$init" "$(ckpt $run 1)" | xargs; }
is "one update changes every weight by the rate" "$(changes 'clip_norm: 0')" "classifier 1.0 embeddings 1.0 layer.0 1.0 layer.1 1.0 layer.2 1.0 pooler 1.0"
is "layer_decay: 0.5: each layer by half of the one above it" "$(changes 'layer_decay: 0.5')" "classifier 1.0 embeddings 1.0 layer.0 0.25 layer.1 0.5 layer.2 1.0 pooler 1.0"
is "freeze: embeddings" "$(changes 'freeze: embeddings')" "classifier 1.0 embeddings - layer.0 1.0 layer.1 1.0 layer.2 1.0 pooler 1.0"
is "freeze: encoder, and embeddings" "$(changes 'freeze: encoder')" "classifier 1.0 embeddings - layer.0 - layer.1 - layer.2 - pooler 1.0"
is "freeze: features: all but the classifier" "$(changes 'freeze: features')" "classifier 1.0 embeddings - layer.0 - layer.1 - layer.2 - pooler -"

# The figures of evaluate, from what predict says of the same texts.
steps='epochs: 12' model=
awk 'BEGIN { srand(9); for (i = 0; i < 80; i++) { k = int(rand() * 4); printf "c%d\tw%d w%d\n", k == 3 ? int(rand() * 3) : k, 101 + k * 3 + int(rand() * 3), 101 + int(rand() * 12) } }' >train.tsv
tune 'shuffle: true'
"$TRAINER" predict "$(ckpt $run 960)" train.tsv >predicted 2>/dev/null
"$TRAINER" evaluate --json "$(ckpt $run 960)" train.tsv >figures 2>/dev/null
figures() {
        python3 - <<'PY'
import json
truth = [line.split("\t")[0] for line in open("train.tsv")]
said = [json.loads(line)["label"] for line in open("predicted")]
assert len(truth) == len(said) == 80
f1 = []
for label in sorted(set(truth)):
    hit = sum(t == s == label for t, s in zip(truth, said))
    f1.append(2 * hit / (truth.count(label) + said.count(label)))
accuracy = sum(t == s for t, s in zip(truth, said)) / 80
figures = json.load(open("figures"))
print(f1, accuracy, figures["macro_f1"], figures["accuracy"])
assert 0.3 < accuracy < 1 and len(set(f1)) == 3, "a classifier that tells nothing"
assert abs(figures["macro_f1"] - sum(f1) / 3) < 1e-8 and abs(figures["accuracy"] - accuracy) < 1e-8
assert [round(c["f1"], 8) for c in figures["classes"]] == [round(f, 8) for f in f1]
PY
}
ok "macro F1 is the mean of the classes' F1" figures
"$TRAINER" evaluate "$(ckpt $run 960)" train.tsv >text 2>/dev/null
is "as text, too" "$(sed -n 's/^macro F1  //p' text)" "$(jq -r .macro_f1 figures | awk '{printf "%.4f", $1}')"
paste train.tsv predicted | awk -F'\t' 'index($3, "\"label\":\"" $1 "\"") { print $1 "\t" $2; exit }' >one.tsv
"$TRAINER" evaluate --json "$(ckpt $run 960)" one.tsv >figures 2>said
is "classes that occur nowhere do not count in it" "$(jq -c '[.texts, .macro_f1 == 1]' figures)" "[1,true]"
is "and are named" "$(sed "s/$(cut -f 1 one.tsv)/c_/" said | grep -c "^bert-trainer: neither predicted nor of any text, so not part of macro F1: 'c[0-9]', 'c[0-9]'$")" 1

# Lengths and cadences: what cannot be is refused in the words of the spec, what never comes is said.
head -n 8 train.tsv >few.tsv
cat >few.yaml <<'SPEC'
kind: finetune
checkpoint: {every_steps: 2, every_sec: 0, keep: 9}
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [few.tsv], validation: [few.tsv], text: [2], label: 1, sequence_length: 12}
optimizer: {learning_rate: 5e-4, epsilon: 1.0e-5, schedule: constant}
train: {global_batch: 2, micro_batch: 2, epochs: 1.5}
SPEC
few() { # NAME SED: a run of the changed spec in the folder of the first
        sed "$2" few.yaml >"$1.yaml"
        timeout 120 "$TRAINER" finetune "$1.yaml" --run-dir few >"$1.log" 2>&1
}
"$TRAINER" finetune few.yaml --run-dir few >few.log 2>&1 && not grep -q "few.yaml: " few.log
ok "cadences that fit are not spoken of" test $? -eq 0
sed 's/constant/constant, warmup_steps: 7/' few.yaml >warm.yaml
ok "warm-up beyond the epochs names them" refuses 78 "warm.yaml: optimizer.warmup_steps: 7 is more than the 6 steps of train.epochs 1.5; give fewer, or more epochs" "$TRAINER" finetune warm.yaml --run-dir new
sed 's/epochs: 1.5/epochs: 0.5/' few.yaml >less.yaml
ok "fewer epochs than are done" refuses 78 "less.yaml: train.epochs: 0.5 is 2 steps, but the checkpoint few/checkpoints/step-000000006.ckpt is already at step 6" "$TRAINER" finetune less.yaml --run-dir few
sed 's/epochs: 1.5/steps: 4/' few.yaml >less.yaml
ok "fewer steps than are done" refuses 78 "less.yaml: train.steps: 4, but the checkpoint .* is already at step 6" "$TRAINER" finetune less.yaml --run-dir few
few eps 's/epsilon: 1.0e-5/epsilon: 0.0005/'
ok "a number of a checkpoint is written as a person does" grep -q "made with epsilon 1e-5, the spec (optimizer.epsilon) now gives 0.0005: " eps.log
few rate 's/learning_rate: 5e-4/learning_rate: 0.0003/; s/epochs: 1.5/epochs: 2/' &&
        grep -q "^resuming with another learning_rate: 0.0003, was 0.0005\$" rate.log && grep -q "^resuming with train.epochs 2: 8 steps, was 6\$" rate.log
ok "so is what is said of a change, and epochs are named" test $? -eq 0
few rare 's/epochs: 1.5/epochs: 2.5, evaluate_every: 20, log_every: 30/; s/every_steps: 2/every_steps: 40, keep_every: 40/' &&
        grep -q "^rare.yaml: checkpoint.every_steps: 40, but there are 10 steps (train.epochs 2.5): by steps there is one at the end" rare.log && grep -q "^rare.yaml: checkpoint.keep_every: 40, but" rare.log &&
        grep -q "^rare.yaml: train.log_every: 30, but" rare.log && grep -q "^rare.yaml: train.evaluate_every: 20, but there are 10 steps (train.epochs 2.5): validation comes at the end" rare.log
ok "cadences beyond the end are said" test $? -eq 0
few blind 's/epochs: 1.5/epochs: 3, evaluate_every: 2/; s/validation: .few.tsv., //' && grep -q "^blind.yaml: train.evaluate_every: 2, but nothing is held out to evaluate: give data.validation or data.split, or leave it out\$" blind.log
ok "so is a cadence of a validation that there is not" test $? -eq 0
few mute 's/epochs: 1.5/epochs: 3/; s/validation: .few.tsv., //' && not grep -q "^mute.yaml: " mute.log
ok "where no cadence is given there is nothing to say" test $? -eq 0
printf 'stages:\n- {name: seen}\n- {name: unseen, data: {validation: []}, train: {epochs: 1, evaluate_every: 2}}\n' >stages.tail
cat few.yaml stages.tail >staged.yaml
timeout 120 "$TRAINER" finetune staged.yaml --run-dir staged >staged.log 2>&1 && [ "$(grep -c "^staged.yaml: " staged.log)" -eq 1 ] && grep -q "^staged.yaml: stage 1: train.evaluate_every: 2, but nothing is held out" staged.log &&
        [ "$(jq -c 'select(.validation).stage' staged/metrics.jsonl | sort -u)" = 0 ]
ok "a stage that takes its validation back has none, and it is said" test $? -eq 0

# Checkpoints, by other hands.
is "sqlite3 reads a checkpoint" "$(sqlite3 "$init" 'select name, shape from tensor' | grep -m 1 'word_embeddings')" "bert.embeddings.word_embeddings.weight|[64, 16]"
finish
