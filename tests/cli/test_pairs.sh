#!/bin/bash
# Pairs of texts: tasks shaped as RTE, MRPC and STS-B, tuned from tsv, csv and jsonl, resumed, evaluated, predicted and exported; what joins two
# columns instead; runs of older programs, which joined them, stay as they were.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
tune() { timeout 120 "$TRAINER" finetune "$@" </dev/null; }

# What a text's label is depends on which of the two has a word, so it can be learnt from the segments alone.
awk 'BEGIN { srand(9); n = split("page driver device socket packet file inode block lock thread", w)
        for (i = 0; i < 240; i++) { a = "the"; b = "the"
                for (k = 0; k < 1 + int(rand() * 3); k++) { a = a " " w[int(rand() * n) + 1]; b = b " " w[int(rand() * n) + 1] }
                if (i % 2) { a = a " kernel"; b = b " memory" } else { a = a " memory"; b = b " kernel" }
                printf "%s\t%s\t%d\n", a, b, i % 2 } }' >all.tsv
{ printf 'index\tpremise\thypothesis\tlabel\n'; awk -F'\t' 'NR <= 200 { printf "%d\t%s\t%s\t%s\n", NR, $1, $2, $3 ? "entailment" : "not_entailment" }' all.tsv; } >rte.tsv
{ printf 'index\tpremise\thypothesis\tlabel\n'; awk -F'\t' 'NR > 200 { printf "%d\t%s\t%s\t%s\n", NR, $1, $2, $3 ? "entailment" : "not_entailment" }' all.tsv; } >rte-dev.tsv
awk -F'\t' 'BEGIN { print "Quality,#1 String,#2 String" } NR > 1 { printf "%d,\"%s\",\"%s\"\n", $4 == "entailment", $2, $3 }' rte.tsv >mrpc.csv
awk -F'\t' 'NR > 1 { printf "{\"sentence1\": \"%s\", \"sentence2\": \"%s\", \"score\": %s}\n", $2, $3, $4 == "entailment" ? 4.75 : 0.5 }' rte.tsv >sts.jsonl
cat >rte.yaml <<'SPEC'
kind: finetune
checkpoint: {every_steps: 20, every_sec: 0, keep: 100}
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [rte.tsv], validation: [rte-dev.tsv], test: [rte-dev.tsv], text: [premise, hypothesis], sequence_length: 32}
optimizer: {learning_rate: 5.0e-3, warmup_ratio: 0.1}
train: {global_batch: 10, micro_batch: 4, steps: 600}
SPEC
sed 's/data:.*/data: {train: [mrpc.csv], split: 0.1, text: ["#1 String", "#2 String"], label: Quality, sequence_length: 32}/' rte.yaml >mrpc.yaml
sed 's/data:.*/data: {train: [sts.jsonl], split: 0.1, text: [sentence1, sentence2], label: score, labels: number, sequence_length: 32}/' rte.yaml >sts.yaml
hash() { jq -r 'select(.step == 1 and .sample_hash).sample_hash' "$1/metrics.jsonl"; }

tune rte.yaml --run-dir rte >rte.log 2>&1
ok "RTE: tsv" test $? -eq 0
ok "that they are pairs is said" grep -qx "premise and hypothesis are a pair; data.join: true makes one text of them" rte.log
ok "and counted as pairs" grep -q "^train: 200 pairs of 2 classes" rte.log
ok "what the segments tell is learnt" jq -se 'map(select(.test)) | .[0].test.accuracy == 1' rte/metrics.jsonl
tune mrpc.yaml --run-dir mrpc >mrpc.log 2>&1 && jq -se 'map(select(.validation)) | .[-1].validation.accuracy == 1' mrpc/metrics.jsonl >/dev/null
ok "MRPC: csv" test $? -eq 0
tune sts.yaml --run-dir sts >sts.log 2>&1
ok "STS-B: jsonl, of numbers" test $? -eq 0
"$TRAINER" evaluate --json sts/best.ckpt sts.jsonl >sts.json 2>err && jq -e '.texts == 200 and .pearson > 0.95 and .spearman > 0.8 and .mse < 0.5' sts.json >/dev/null
ok "which is learnt" test $? -eq 0
is "predict: a number a pair" "$("$TRAINER" predict sts/best.ckpt sts.jsonl 2>err | grep -cx '{"label":-\?[0-9.e-]*}')" 200
"$TRAINER" evaluate --json rte/best.ckpt rte-dev.tsv >rte.json 2>err
is "evaluate reads pairs as training did" "$(jq .accuracy rte.json)" 1
cut -f 2,3 rte-dev.tsv | tail -n +2 >lines.txt
"$TRAINER" predict rte/best.ckpt rte-dev.tsv >a.json 2>err && "$TRAINER" predict rte/best.ckpt <lines.txt >b.json 2>err && [ "$(wc -l <a.json)" -eq 40 ] && cmp -s a.json b.json
ok "predict too, and of lines both with a tab between" test $? -eq 0
answer() { "$TRAINER" predict "$@" rte/best.ckpt 2>err; }
first=$(head -n 1 lines.txt)
[ -n "$(answer <<<"$first")" ] && [ "$(answer <<<"$first")" != "$(answer --join <<<"${first/$'\t'/ [SEP] }")" ]
ok "the same tokens of segment 0 alone are another text" test $? -eq 0
is "a line that is not two texts has its reason" "$(printf 'the page\nthe page\tthe lock\tthe file\nthe\t \n' | "$TRAINER" predict rte/best.ckpt 2>err | tr '\n' ' ')" \
        '{"label":null,"reason":"expected two texts with a tab between them"} {"label":null,"reason":"expected two texts with a tab between them"} {"label":null,"reason":"empty"} '
awk -F'\t' -v OFS='\t' '{ print $1, $3, $2, $4 }' rte-dev.tsv | sed '1s/.*/index\tpremise\thypothesis\tlabel/' >turned.tsv
is "the order of the two counts" "$("$TRAINER" evaluate --json rte/best.ckpt turned.tsv 2>err | jq .accuracy)" 0
is "--text sets it" "$("$TRAINER" evaluate --json --text hypothesis --text premise rte/best.ckpt turned.tsv 2>err | jq .accuracy)" 1
sed '1s/label/gold/' rte-dev.tsv >gold.tsv
is "--label sets the label's column" "$("$TRAINER" evaluate --json --label gold rte/best.ckpt gold.tsv 2>err | jq .accuracy)" 1
for at in 30 350; do
        kill_run finetune rte.yaml killed $at 600 && tune rte.yaml --run-dir killed >>killed.log 2>&1 && "$TRAINER" diff "$(ckpt rte 600)" "$(ckpt killed 600)" >/dev/null
        ok "killed at step $at and resumed: same bits" test $? -eq 0
done
if have_ranks 2; then
        sed 's/steps: 600/steps: 1/' rte.yaml >one.yaml
        timeout 120 mpirun --oversubscribe --bind-to none -n 2 "$TRAINER" finetune one.yaml --run-dir two >two.log 2>&1 && [ -n "$(hash two)" ] && [ "$(hash two)" = "$(hash rte)" ]
        ok "two ranks see the same pairs" test $? -eq 0
fi

# ---- tokens ----

tokens() { printf "$1\t$2\n" | "$TRAINER" tokenize --vocab vocab.txt --pair "${@:3}" 2>err | jq -r '[(.tokens | join(" ")), (.token_type_ids | join(""))] | join(" ")'; }
is "both texts in one sequence, of segments 0 and 1" "$(tokens 'the page' 'the lock')" "[CLS] the page [SEP] the lock [SEP] 0000111"
is "the longer one is cut first" "$(tokens 'the page page page page page' 'the lock' --sequence-length 9)" "[CLS] the page page page [SEP] the lock [SEP] 000000111"
is "then both; of an odd room two of the same length leave the second more" "$(tokens 'the page page page' 'the lock lock lock' --sequence-length 10)" "[CLS] the page page [SEP] the lock lock lock [SEP] 0000011111"
is "and the longer one" "$(tokens 'the page page page page' 'the lock lock lock' --sequence-length 10)" "[CLS] the page page page [SEP] the lock lock [SEP] 0000001111"
ok "--checkpoint has a length" test "$(printf 'page %.0s' $(seq 90) | sed 's/$/\tthe lock\n/' | "$TRAINER" tokenize --checkpoint rte/best.ckpt --pair --ids 2>err | jq '.input_ids | length')" -eq 32
printf 'the page\n' >some.txt
ok "a line of one text is refused" refuses 65 "some.txt:1: expected two texts with a tab between them" "$TRAINER" tokenize --vocab vocab.txt --pair some.txt
printf 'the page\t \n' >some.txt
ok "so is an empty one" refuses 65 "some.txt:1: an empty text; expected two with a tab between them" "$TRAINER" tokenize --vocab vocab.txt --pair some.txt
ok "a length is of pairs" refuses 2 "sequence-length: has no effect without --pair" "$TRAINER" tokenize --vocab vocab.txt --sequence-length 9 some.txt
short() { sed "s/sequence_length: 32/sequence_length: 8$1/; s/steps: 600/steps: 1/" rte.yaml >short.yaml && rm -rf short && tune short.yaml --run-dir short >short.log 2>&1; }
short '' && grep -q "^train: 200 pairs of 2 classes, [0-9]* tokens (median), at most 13; [1-9][0-9]* are cut" short.log
ok "what is cut is counted" test $? -eq 0
head_hash=$(hash short)
short ', truncation: tail' && [ -n "$(hash short)" ] && [ "$(hash short)" != "$head_hash" ]
ok "the tails of both can be kept" test $? -eq 0

# ---- one text of two columns ----

joined() { sed "s/text: .premise, hypothesis./text: [premise, hypothesis], join: true/; s/steps: 600/steps: ${1:-1}/" rte.yaml; }
joined >joined.yaml
tune joined.yaml --run-dir joined >joined.log 2>&1
{ printf 'text\tlabel\n'; awk -F'\t' 'NR > 1 { print $2 " " $3 "\t" $4 }' rte.tsv; } >one.tsv
sed 's/train: .rte.tsv.*/train: [one.tsv], sequence_length: 32}/; s/steps: 600/steps: 1/' rte.yaml >one.yaml
tune one.yaml --run-dir one >one.log 2>&1 && [ -n "$(hash joined)" ] && [ "$(hash joined)" = "$(hash one)" ] && [ "$(hash joined)" != "$(hash rte)" ]
ok "join: true is one text" test $? -eq 0
ok "evaluate joins them too" test "$("$TRAINER" evaluate --json "$(ckpt joined 1)" rte-dev.tsv 2>err | jq .loss)" = "$("$TRAINER" evaluate --json "$(ckpt one 1)" <(awk -F'\t' 'NR == 1 { print "text\tlabel"; next } { print $2 " " $3 "\t" $4 }' rte-dev.tsv) --format tsv 2>err | jq .loss)"
sed 's/text: .premise, hypothesis./text: [premise, hypothesis, index]/; s/steps: 600/steps: 1/' rte.yaml >three.yaml
tune three.yaml --run-dir three >three.log 2>&1 && grep -q "^train: 200 texts of 2 classes" three.log
ok "three columns are joined" test $? -eq 0
bad() { # CODE PATTERN NAME SED
        sed "$4" rte.yaml >bad.yaml
        ok "$3" refuses "$1" "$2" "$TRAINER" finetune bad.yaml --run-dir bad
}
bad 78 "bad.yaml:4: data.truncation: segments: not for a pair of texts (data.text); use head or tail, or data.join: true" "segments" 's/sequence_length: 32/sequence_length: 32, truncation: segments/'
bad 78 "bad.yaml:4: data.truncation: head_tail: not for a pair" "head and tail" 's/sequence_length: 32/sequence_length: 32, truncation: head_tail/'
bad 78 "bad.yaml:4: data.join: false: a pair has two columns, but data.text has 3" "a pair of three" 's/hypothesis./hypothesis, index], join: false/'
bad 78 "bad.yaml:4: data.join: 'maybe' is not auto, false or true" "another word" 's/hypothesis./hypothesis], join: maybe/'
bad 65 "no column 'hypotheses' in the header; it has index, premise, hypothesis, label" "a column that is not there" 's/hypothesis.,/hypotheses],/'
bad 65 "rte.tsv: 'premise' and '2' are the same column; a pair has two" "one column by name and number" 's/premise, hypothesis./premise, 2]/'
bad 78 "bad.yaml:4: data.label: 'premise' is also in data.text; the model would read the answer" "the label among the texts" 's/premise, hypothesis./premise, hypothesis], label: premise/'
bad 65 "rte.tsv: '2' and 'premise' are the same column, text and label" "the same by its number" 's/premise, hypothesis./2, hypothesis], label: premise/'
bad 65 "no column '5' in the header; it has index, premise, hypothesis, label" "a number beyond the header" 's/hypothesis.,/5],/'
ok "predict, too" refuses 65 "rte-dev.tsv:1: no column '9' in the header" "$TRAINER" predict --text premise --text 9 rte/best.ckpt rte-dev.tsv
sed 's/"type_vocab_size": 2/"type_vocab_size": 1/' tiny.json >flat.json
bad 78 "bad.yaml: data.text: a pair of texts needs a type_vocab_size of 2, but .*flat.json has 1" "a model of one segment" 's/tiny.json/flat.json/'
awk -F'\t' -v OFS='\t' 'NR == 4 { $3 = "" } { print }' rte.tsv >holes.tsv
bad 65 "holes.tsv:4: empty text, the first of 1; data.empty: skip leaves them out" "a pair with an empty text" 's/rte.tsv/holes.tsv/'
"$TRAINER" evaluate --json --empty skip rte/best.ckpt holes.tsv 2>err | jq -e '.texts == 199' >/dev/null
ok "or it is left out" test $? -eq 0

# ---- resumed ----

refit() { sed "s/steps: 600/steps: 700/; $1" rte.yaml >refit.yaml; }
refit 's/hypothesis.,/hypothesis], join: true,/'
ok "a run of pairs is not continued with joined texts" refuses_after_progress 78 "made with pairs yes, the spec (data.text, join) now gives none" "$TRAINER" finetune refit.yaml --run-dir rte
joined 2 | sed 's/, join: true//' >refit.yaml
ok "nor the other way round" refuses_after_progress 78 "made with pairs none, the spec (data.text, join) now gives yes" "$TRAINER" finetune refit.yaml --run-dir joined
older=$source_dir/tests/cli/checkpoints
mkdir old && cd old || exit 99
. "$older/inputs.sh"
older_inputs
older_columns
sed 's/body.,*/body], join: true,/' columns.yaml >explicit.yaml
tune explicit.yaml --run-dir whole >whole.log 2>&1 || cat whole.log
mkdir -p run/checkpoints && gzip -dc "$older/columns.ckpt.gz" >"$(ckpt run 4)"
is "a checkpoint of an older program predicts as it did" "$("$TRAINER" predict "$(ckpt run 4)" columns.csv 2>err | head -n 3)" "$(cat "$older/columns.said")"
tune columns.yaml --run-dir run >run.log 2>&1 && same_end "$(ckpt run 4)" run whole 8
ok "its run goes on with joined texts" test $? -eq 0
ok "which is said" grep -qx "bert-trainer: data.text: two columns are joined, as when this run began; in a new run they are a pair" run.log
sed 's/steps: 8/steps: 12/' columns.yaml >longer.yaml
sed 's/steps: 8/steps: 12/' explicit.yaml >explicit12.yaml
tune longer.yaml --run-dir run >run.log 2>&1 && tune explicit12.yaml --run-dir whole >whole.log 2>&1 && same_end "$(ckpt run 4)" run whole 12
ok "and again from its own checkpoint" test $? -eq 0
mkdir -p named && tune longer.yaml --run-dir named --resume "$(ckpt run 8)" >named.log 2>&1 && "$TRAINER" diff "$(ckpt named 12)" "$(ckpt run 12)" >/dev/null
ok "named by --resume too" test $? -eq 0
if have_ranks 2; then
        mkdir -p ranks/checkpoints && cp "$(ckpt run 4)" ranks/checkpoints/
        timeout 120 mpirun --oversubscribe --bind-to none -n 2 "$TRAINER" finetune columns.yaml --run-dir ranks >ranks.log 2>&1 && grep -q "two columns are joined" ranks.log && [ -e "$(ckpt ranks 8)" ]
        ok "on two ranks" test $? -eq 0
fi
tune columns.yaml --run-dir new >new.log 2>&1 && grep -q "title and body are a pair" new.log && ! "$TRAINER" diff "$(ckpt new 8)" "$(ckpt whole 8)" >/dev/null
ok "a new run of the same spec is of pairs" test $? -eq 0
finish
