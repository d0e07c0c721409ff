#!/bin/sh
# finetune, evaluate and predict: formats, exact resume, best on validation, over ranks, export; each bad input is one line with its exit code.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
out() { "$TRAINER" "$@" >out 2>err </dev/null; }
tune() { # tune RANKS ARGUMENT…
        ranks=$1
        shift
        if [ "$ranks" -eq 1 ]; then timeout 120 "$TRAINER" finetune "$@"; else
                timeout 120 mpirun --oversubscribe --bind-to none -n "$ranks" "$TRAINER" finetune "$@"
        fi
}

# Three classes that one word each tells; the same rows in each format.
awk 'BEGIN { srand(3); split("kernel memory page device", a); split("network socket packet signal", b); split("file inode block lock", c)
        for (i = 0; i < 120; i++) { k = i % 3; w = int(rand() * 4) + 1
                word = k == 0 ? a[w] : k == 1 ? b[w] : c[w]; name = k == 0 ? "core" : k == 1 ? "net, work" : "disk"
                printf "%s\tthe \"old\" %s reads the %s\n", name, word, word } }' >all.tsv
head -n 90 all.tsv >train.tsv
tail -n 30 all.tsv >dev.tsv
{ printf '\357\273\277title,label,body\r\n'
  awk -F'\t' '{ gsub(/"/, "\"\"", $2); split($2, w, " reads "); printf "\"%s\",\"%s\",\"reads\n%s\"\r\n\r\n", w[1], $1, w[2] }' train.tsv; } >train.csv
awk -F'\t' '{ gsub(/"/, "\\\"", $2); printf "{\"t\": \"%s\", \"y\": \"%s\"}\n", $2, $1 }' train.tsv >train.jsonl
cat >tune.yaml <<'SPEC'
kind: finetune
checkpoint: {every_steps: 7, every_sec: 0, keep: 100}
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [train.tsv], validation: [dev.tsv], test: [dev.tsv], text: [2], label: 1, sequence_length: 32}
optimizer: {learning_rate: 5.0e-3, warmup_ratio: 0.1}
train: {global_batch: 9, micro_batch: 4, steps: 40}
SPEC
sed 's/train: .train.tsv.*/train: [train.csv], text: [title, body], join: true, sequence_length: 32}/' tune.yaml >csv.yaml
sed 's/train: .train.tsv.*/train: [train.jsonl], text: [t], label: y, sequence_length: 32}/' tune.yaml >jsonl.yaml

tune 1 tune.yaml --run-dir whole >whole.log 2>&1
ok "40 steps" test $? -eq 0
grep -q "test at step" whole.log && [ -e whole/best.ckpt ]
ok "the best on validation is kept and tested" test $? -eq 0
hash() { sed -n 's/^{"step": 1,.*"sample_hash": "\([0-9a-f]*\)".*/\1/p' "$1/metrics.jsonl"; }
for format in csv jsonl; do
        tune 1 $format.yaml --run-dir $format >$format.log 2>&1 && [ -n "$(hash $format)" ] && [ "$(hash $format)" = "$(hash whole)" ]
        ok "$format gives the samples of tsv" test $? -eq 0
done
for at in 3 14 25; do
        kill_run finetune tune.yaml killed $at 40 && tune 1 tune.yaml --run-dir killed >>killed.log 2>&1 && "$TRAINER" diff "$(ckpt whole 40)" "$(ckpt killed 40)" >/dev/null && [ "$(readlink whole/best.ckpt)" = "$(readlink killed/best.ckpt)" ]
        ok "killed at step $at and resumed: same bits, same best" test $? -eq 0
done
if have_ranks 2; then
        tune 2 tune.yaml --run-dir two >two.log 2>&1 && [ "$(hash two)" = "$(hash whole)" ]
        ok "two ranks see the same samples" test $? -eq 0
fi

[ "$(grep -c '"test"' whole/metrics.jsonl)" -eq 1 ] && tune 1 tune.yaml --run-dir whole >again.log 2>&1 && [ "$(grep -c '"test"' whole/metrics.jsonl)" -eq 1 ] &&
        [ "$(jq 'select(.test).step' whole/metrics.jsonl)" = "$(sed -n 's/^test at step \([0-9]*\):.*/\1/p' whole.log)" ]
ok "the test is of the best step, and there once" test $? -eq 0
cp train.tsv train.data
cp dev.tsv dev.txt
sed 's/train: .train.tsv.*/train: [train.data], format: tsv, text: [2], label: 1, sequence_length: 32}/' tune.yaml >data.yaml
tune 1 data.yaml --run-dir data >data.log 2>&1 && "$TRAINER" evaluate --json data/checkpoints/step-000000040.ckpt dev.txt >a.json 2>err &&
        "$TRAINER" evaluate --json --format tsv whole/checkpoints/step-000000040.ckpt dev.txt >b.json 2>>err && [ "$(jq .texts a.json b.json | tr '\n' ' ')" = "30 30 " ] &&
        "$TRAINER" predict data/checkpoints/step-000000040.ckpt dev.txt >a.json && "$TRAINER" predict data/checkpoints/step-000000040.ckpt dev.tsv >b.json && cmp -s a.json b.json
ok "the format is that of the training, or as --format says" test $? -eq 0
out evaluate whole/best.ckpt dev.tsv
ok "evaluate" test $? -eq 0
said=$(sed -n 's/^test at step.*accuracy \([0-9.]*\) .*/\1/p' whole.log)
[ -n "$said" ] && grep -q "^accuracy  $said\$" out && grep -q "^macro F1  0\.[0-9]*" out && grep -q " 10  net, work\$" out
ok "tells the run's accuracy, macro F1 and each class" test $? -eq 0
out evaluate --json whole/best.ckpt dev.tsv && grep -q '"macro_f1": 0\.' out
ok "as JSON, too" test $? -eq 0
[ "$(echo "the old inode reads the block" | "$TRAINER" predict whole/best.ckpt | grep -c '^{"label":"disk","probabilities":{"core":')" -eq 1 ]
ok "predict reads standard input" test $? -eq 0
mkfifo pipe
"$TRAINER" predict whole/best.ckpt <pipe >streamed 2>err &
job=$!
exec 3>pipe
echo "the old socket reads the packet" >&3
for _ in $(seq 100); do [ -s streamed ] && break; sleep 0.1; done
grep -q '"net, work"' streamed
ok "and answers before its end" test $? -eq 0
printf '\nthe old inode' >&3
ok "an empty line at once, before the next is whole" wait_for 10 eval '[ "$(sed -n 2p streamed)" = "{\"label\":null,\"reason\":\"empty\"}" ]'
exec 3>&-
wait $job
grep -q '^{"label":"disk"' streamed && [ "$(wc -l <streamed)" -eq 3 ]
ok "and a last line without its end" test $? -eq 0
# answers FILE [OPTION...]: what predict makes of it, without the figures
answers() { "$TRAINER" predict whole/best.ckpt "$@" 2>err | sed 's/"probabilities":{[^}]*}/P/' | tr '\n' ' '; }
printf 'page\n\n\377\n\342\200\213\np\000age\r\n\377page\n\342\202' >odd.txt
is "each line gets an answer" "$(answers odd.txt)" '{"label":"core",P} {"label":null,"reason":"empty"} {"label":null,"reason":"empty","invalid_bytes":1} {"label":null,"reason":"empty"} {"label":"core",P,"invalid_bytes":1} {"label":"core",P,"invalid_bytes":1} {"label":null,"reason":"empty","invalid_bytes":2} '
is "even one that begins as UTF-16 would" "$(printf '\377\376\npage' >mark.txt && answers mark.txt)" '{"label":null,"reason":"empty","invalid_bytes":2} {"label":"core",P} '
is "or holds a NUL among bytes of another encoding" "$(for _ in 1 2 3 4 5 6 7 8; do printf '\304\343\272\303\312\300\275\347'; done >mark.txt && printf 'a\000\npage' >>mark.txt && answers mark.txt | sed 's/P,"invalid_bytes":[0-9]*/P,N/')" '{"label":"core",P,N} {"label":"core",P} '
answers odd.txt >/dev/null
ok "and the number of those without is said" grep -q '^bert-trainer: odd.txt:2: no text, the first of 4 such lines' err
for _ in $(seq 70); do printf '\npage\n\nsocket\n'; done >many.txt
is "in their order" "$("$TRAINER" predict whole/best.ckpt many.txt 2>/dev/null | awk '(NR % 2) != /null/ {bad++} END {print NR, bad + 0}')" "280 0"
printf 'x;page\n"";\n\nx\nx;"\npage"\n' >odd.csv
is "so does each row of csv, between its delimiters" "$(answers odd.csv --delimiter ';')" '{"label":"core",P} {"label":null,"reason":"empty"} {"label":null,"reason":"empty"} {"label":null,"reason":"1 columns, line 1 has 2"} {"label":"core",P} '
is "and each line of jsonl" "$(printf '{"t": "page", "id": 13444675123456789012345}\n\n{"t"\n{"y": 1}\n' >odd.jsonl && "$TRAINER" predict "$(ckpt jsonl 40)" odd.jsonl 2>err | cut -d: -f2,3 | cut -c 1-16 | tr '\n' ' ')" '"core","probabil null,"reason":"e null,"reason":"n null,"reason":"k '
{ printf 'y\tt\n'; cat train.tsv; } >header.tsv
sed 's/train: .train.tsv.*/train: [header.tsv], text: [2], label: y, sequence_length: 32}/; s/steps: 40/steps: 1/' tune.yaml >header.yaml
tune 1 header.yaml --run-dir header >header.log 2>&1
is "a header that the label's name tells is no row" "$("$TRAINER" predict "$(ckpt header 1)" header.tsv 2>err | wc -l)" 90
iconv -f UTF-8 -t UTF-16 dev.tsv >wide.tsv
ok "predict refuses UTF-16" refuses 65 "wide.tsv: UTF-16LE.*iconv -f UTF-16 -t UTF-8" "$TRAINER" predict whole/best.ckpt wide.tsv
ok "so does evaluate" refuses 65 "wide.tsv: UTF-16LE" "$TRAINER" evaluate whole/best.ckpt wide.tsv
{ cat dev.tsv; printf 'core\t\ndisk\t \n'; } >some.tsv
ok "evaluate refuses empty texts, with their number" refuses 65 "some.tsv:31: empty text, the first of 2; --empty skip leaves them out" "$TRAINER" evaluate whole/best.ckpt some.tsv
"$TRAINER" evaluate --json --empty skip whole/best.ckpt some.tsv 2>err >skipped.json && [ "$(jq .texts skipped.json)" = 30 ] && grep -q 'some.tsv:31: empty text, the first of 2 left out' err
ok "or leaves them out" test $? -eq 0
tr '\t' ';' <dev.tsv | sed 's/net, work/"net, work"/' >semicolons.csv
"$TRAINER" evaluate --json whole/best.ckpt dev.tsv >a.json 2>/dev/null && "$TRAINER" evaluate --json --delimiter ';' whole/best.ckpt semicolons.csv >b.json 2>/dev/null && cmp -s a.json b.json
ok "evaluate --delimiter" test $? -eq 0

# Encodings: the model's own for files of its training's kind, else UTF-8.
sed 's/reads/réads/' train.tsv | iconv -f UTF-8 -t LATIN1 >latin.tsv
sed 's/train: .train.tsv.*/train: [latin.tsv], encoding: latin-1, text: [2], label: 1, sequence_length: 32}/; s/steps: 40/steps: 1/' tune.yaml >latin.yaml
tune 1 latin.yaml --run-dir latin >latin.log 2>&1
latin=$(ckpt latin 1)
head -n 3 latin.tsv >three.tsv
is "a file of the training's kind is read in its encoding" "$("$TRAINER" predict "$latin" three.tsv 2>err | grep -c '"label":"[^}]*}}$')" 3
is "or in the one that is said" "$("$TRAINER" predict --encoding utf-8 "$latin" three.tsv 2>err | grep -c '"invalid_bytes":1}$')" 3
ok "which is refused of what is evaluated" refuses 65 "three.tsv:1: byte 0xe9: not UTF-8, as are 3 of" "$TRAINER" evaluate --encoding utf-8 "$latin" three.tsv
is "lines are UTF-8 all the same" "$(cut -f 2 three.tsv | "$TRAINER" predict "$latin" 2>err | grep -c '"invalid_bytes":1}$')" 3
is "unless it is said" "$(cut -f 2 three.tsv | "$TRAINER" predict --encoding latin-1 "$latin" 2>err | grep -c '"label":"[^}]*}}$')" 3

# Every way to shorten, to choose features, to freeze.
for how in 'truncation: tail' 'truncation: head_tail' 'truncation: segments'; do
        sed "s/sequence_length: 32/sequence_length: 8, $how/; s/steps: 40/steps: 4/" tune.yaml >short.yaml
        rm -rf short && tune 1 short.yaml --run-dir short >short.log 2>&1 && out evaluate short/best.ckpt dev.tsv
        ok "$how" test $? -eq 0
done
for how in 'layers: 0' 'layers: all' 'layers: first4, combine: mean' 'layers: last4, combine: max, input: pooled' 'input: cls, dropout: 0.3'; do
        sed "s/steps: 40/steps: 4/" tune.yaml >short.yaml && echo "classifier: {$how}" >>short.yaml
        rm -rf short && tune 1 short.yaml --run-dir short >short.log 2>&1 && out evaluate short/best.ckpt dev.tsv
        ok "classifier: $how" test $? -eq 0
done
sed 's/steps: 40/steps: 4/; s/learning_rate: 5.0e-3/learning_rate: 5.0e-3, freeze: features/' tune.yaml >short.yaml
rm -rf short && tune 1 short.yaml --run-dir short >short.log 2>&1
"$TRAINER" inspect --json "$(ckpt short 4)" >frozen.json && "$TRAINER" inspect --json "$(ckpt whole 7)" >free.json
python3 - <<'PY'
import json
def sums(path): return {t['name']: t['checksum'] for t in json.load(open(path))['tensors'] if t['kind'] == 'moment1'}
zero = {n for n, c in sums('frozen.json').items() if not n.startswith('classifier')}
import sys
kept = sums('frozen.json'); free = sums('free.json')
sys.exit(0 if zero and all(kept[n] != free[n] for n in zero if n.endswith('query.weight')) and len({kept[n] for n in zero if n.endswith('query.weight')}) == 1 else 1)
PY
ok "freeze: features leaves the rest without moments" test $? -eq 0

out export whole/best.ckpt --output hf && grep -q BertForSequenceClassification hf/config.json && grep -q '"2": "net, work"' hf/config.json
ok "export names the class and the labels" test $? -eq 0
out import hf --output back.ckpt && out export back.ckpt --output hf2 && cmp -s hf/model.safetensors hf2/model.safetensors && cmp -s hf/config.json hf2/config.json
ok "in and out again: the same bytes" test $? -eq 0
sed 's/model: .*/model: {init: hf}/; s/steps: 40/steps: 3/' tune.yaml >folder.yaml
tune 1 folder.yaml --run-dir folder >folder.log 2>&1 && grep -q "beginning with the weights of" folder.log
ok "a folder alone is a model" test $? -eq 0
sed 's/model: .*/model: {init: back.ckpt}/; s/steps: 40/steps: 3/' tune.yaml >again.yaml
tune 1 again.yaml --run-dir again >again.log 2>&1
ok "so is a checkpoint" test $? -eq 0

# The same on an ALBERT.
sed 's/{"vocab/{"model_type": "albert", "embedding_size": 8, "vocab/' tiny.json >albert.json
sed 's/tiny.json/albert.json/; s/steps: 40/steps: 14/' tune.yaml >albert.yaml
tune 1 albert.yaml --run-dir albert >albert.log 2>&1 && tune 1 albert.yaml --run-dir albert2 --resume "$(ckpt albert 7)" >albert2.log 2>&1 &&
        "$TRAINER" diff "$(ckpt albert 14)" "$(ckpt albert2 14)" >/dev/null
ok "an ALBERT: resumed with the same bits" test $? -eq 0
out evaluate albert/best.ckpt dev.tsv && out export albert/best.ckpt --output hf-albert && grep -q AlbertForSequenceClassification hf-albert/config.json
ok "evaluated, and exported as its class" test $? -eq 0
out import hf-albert --output albert.ckpt && out export albert.ckpt --output hf-albert2 && cmp -s hf-albert/model.safetensors hf-albert2/model.safetensors
ok "in and out again: the same bytes" test $? -eq 0

bad() { # bad CODE PATTERN NAME SED…
        code=$1 pattern=$2 name=$3
        shift 3
        sed "$@" tune.yaml >bad.yaml
        ok "$name" refuses "$code" "$pattern" "$TRAINER" finetune bad.yaml --run-dir new
}
printf 'elsewhere\tthe old file\n' >unknown.tsv
bad 65 "unknown.tsv:1: label 'elsewhere' is not one of the 3 classes" "unknown label in validation" 's/dev.tsv/unknown.tsv/'
told=0
for word in kernel socket inode; do # whatever the classifier takes such a text for
        { cat dev.tsv; printf 'elsewhere\tthe old %s reads the %s\n' $word $word; } >unknown.tsv
        out evaluate whole/best.ckpt unknown.tsv
        [ $? -eq 65 ] && grep -q "^bert-trainer: unknown.tsv:31: label 'elsewhere' is not one of the 3 classes" err && told=$((told + 1))
done
ok "evaluate refuses an unknown label, however the text is classified" test $told -eq 3
{ cat train.tsv; printf 'core\t \ncore\t\ncore\t\342\200\213\n'; } >empty.tsv
bad 65 "empty.tsv:91: empty text, the first of 3; data.empty: skip leaves them out" "empty texts" 's/train.tsv/empty.tsv/'
bad 65 "empty.tsv:91: empty text, the first of 3" "empty texts in validation" 's/dev.tsv/empty.tsv/'
printf 'core\t\n' >blank.tsv
bad 65 "blank.tsv: all its texts are empty" "only empty texts, left out" 's/dev.tsv/blank.tsv/; s/text:/empty: skip, text:/'
bad 78 "data.delimiter: 'x': expected tab or" "a letter as delimiter" 's/text:/delimiter: x, text:/'
grep '^core' train.tsv >one.tsv
bad 65 "only one class, 'core'" "one class only" 's/train.tsv/one.tsv/'
{ head -n 4 train.tsv; echo core; cat train.tsv; } >short.tsv
bad 65 "short.tsv:5: 1 columns, line 1 has 2" "a row with a missing column" 's/train.tsv/short.tsv/'
bad 65 "train.tsv:1: label column 7, but the row has 2" "label column out of range" 's/label: 1/label: 7/'
bad 65 "no column 'body' in the header; it has core" "a column that the header lacks" 's/text: .2./text: [body]/'
printf 'core\tcaf\351\n' >latin.tsv
bad 65 "latin.tsv:1: byte 0xe9: not UTF-8" "what is not UTF-8" 's/train.tsv/latin.tsv/'
printf '\377\376c\000' >wide.tsv
bad 65 "wide.tsv: UTF-16LE, expected UTF-8" "UTF-16" 's/train.tsv/wide.tsv/'
printf 'label,text\ncore,"never closed\n' >open.csv
bad 65 "open.csv:2: a quoted field is not closed" "a quote that is not closed" 's/train: .train.tsv.*/train: [open.csv], sequence_length: 32}/'
echo '{"t": 3, "y": "core"}' >number.jsonl
bad 65 "number.jsonl:1: key t is not a string" "a JSON text that is no string" 's/train: .train.tsv.*/train: [number.jsonl], text: [t], label: y, sequence_length: 32}/'
: >nothing.tsv
bad 65 "nothing.tsv: holds no text" "an empty file" 's/train.tsv/nothing.tsv/'
bad 66 "absent.tsv" "a missing file" 's/train.tsv/absent.tsv/'
bad 78 "classifier.layers: '9' is not" "a layer that is not there" -e '$aclassifier: {layers: 9}'
tac vocab.txt >other.txt
bad 65 "other.txt: not the vocabulary of" "a vocabulary that is not the folder's" 's/model: .*/model: {init: hf, vocab: other.txt}/'
{ cat train.tsv; printf 'fourth\tthe file\n'; } >four.tsv
sed 's/train.tsv/four.tsv/' tune.yaml >four.yaml
ok "another number of classes on resume" refuses 78 "classes 3, the spec .*now gives 4: this may not change on resume" "$TRAINER" finetune four.yaml --run-dir whole
halves=$(printf '.5 %.0s' $(seq 40))
awk -v name="half $halves" 'BEGIN { for (i = 0; i < 16; i++) printf "%s\tthe kernel reads page %d\n", i % 2 ? name : "whole", i }' >halves.tsv
sed 's/train.tsv/halves.tsv/; s/validation: .dev.tsv., test: .dev.tsv., //; s/steps: 40/steps: 2/' tune.yaml >halves.yaml
tune 1 halves.yaml --run-dir halves >halves.log 2>&1
sed 's/^whole/full/' halves.tsv >full.tsv
sed 's/halves.tsv/full.tsv/' halves.yaml >full.yaml
ok "another class on resume, names of numbers" refuses 78 "labels.0 ..half .5 .5 .*.5 .*whole.*may not change on resume" "$TRAINER" finetune full.yaml --run-dir halves
{ printf 'core\t'; head -c 10000000 /dev/zero | tr '\0' 'a' | fold -w 7 | tr '\n' ' '; echo; cat train.tsv; } >long.tsv
sed 's/train.tsv/long.tsv/; s/steps: 40/steps: 2/' tune.yaml >long.yaml
tune 1 long.yaml --run-dir long >long.log 2>&1
ok "a text of 10 MB is shortened" test $? -eq 0
ok "evaluate wants a checkpoint" refuses 76 "not a" "$TRAINER" evaluate hf/config.json dev.tsv
finish
