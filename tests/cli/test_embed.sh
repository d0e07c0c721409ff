#!/bin/bash
# embed: a vector for each text, of any checkpoint's encoder, as JSON lines or a NumPy array, which is there only if it is whole.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
train 1 spec.yaml --run-dir run >run.log 2>&1 || { cat run.log; exit 99; }
pre=$(ckpt run 20)
grep . text.txt | head -n 70 >texts.txt
{ printf 'id,label,body\n'; head -n 10 texts.txt | awk '{ printf "%d,%s,\"%s\"\n", NR, NR % 2 ? "odd" : "even", $0 }'; } >rows.csv
cat >tune.yaml <<'SPEC'
kind: finetune
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [rows.csv], text: [body], sequence_length: 16}
train: {global_batch: 5, steps: 2}
SPEC
timeout 120 "$TRAINER" finetune tune.yaml --run-dir tuned >tuned.log 2>&1 || { cat tuned.log; exit 99; }
tuned=$(ckpt tuned 2)
refuses_last() { # CODE PATTERN COMMAND...: standard output may have lines
        want=$1 pattern=$2 got=0
        shift 2
        "$@" >out 2>err </dev/null || got=$?
        [ $got -eq "$want" ] && grep -q -e "$pattern" err
}
embed() { "$TRAINER" embed "$@" 2>err; }
# What NumPy reads: "ROWS COLUMNS FIRST-OF-EACH-ROW…", as the format's specification has it.
cat >npy.py <<'PY'
import ast, struct, sys
data = open(sys.argv[1], "rb").read()
assert data[:8] == b"\x93NUMPY\x01\x00"
n, = struct.unpack("<H", data[8:10])
head = data[10:10 + n].decode()
assert (10 + n) % 64 == 0 and head[-1] == "\n", head
head = ast.literal_eval(head)
assert set(head) == {"descr", "fortran_order", "shape"} and head["descr"] == "<f4" and head["fortran_order"] is False
rows, columns = head["shape"]
values = struct.unpack(f"<{rows * columns}f", data[10 + n:])
print(rows, columns, *[format(v, ".9g") for v in values[::columns]])
PY
firsts() { jq -r '.embedding[0]' | python3 -c 'import sys; print(*[format(float(x), ".9g") for x in sys.stdin])'; }

is "a line a text" "$(embed "$pre" texts.txt | jq -c '.embedding | length' | sort | uniq -c | tr -s ' ')" " 70 16"
embed "$pre" texts.txt >all.jsonl
is "standard input is the same" "$(embed "$pre" <texts.txt | md5sum)" "$(md5sum <all.jsonl)"
ok "an array" embed "$pre" texts.txt --output all.npy
is "has the same rows" "$(python3 npy.py all.npy)" "70 16 $(firsts <all.jsonl)"
ok "lines in a file" embed "$pre" texts.txt -o all.out.jsonl
ok "are those of standard output" cmp all.jsonl all.out.jsonl
is "the last layer's mean is the default" "$(embed --layer 2 --pooling mean "$pre" texts.txt | md5sum)" "$(md5sum <all.jsonl)"
is "layers count from the end, too" "$(for l in -1 -2 -3; do embed --layer $l "$pre" texts.txt | md5sum; done | tr '\n' ' ')" "$(for l in 2 1 0; do embed --layer $l "$pre" texts.txt | md5sum; done | tr '\n' ' ')"
is "each is another" "$(for l in 0 1 2; do for p in cls mean; do embed --layer $l --pooling $p "$pre" texts.txt | md5sum; done; done | sort -u | wc -l)" 6
is "of the embeddings, [CLS] is the same in every text" "$(embed --layer 0 --pooling cls "$pre" texts.txt | sort -u | wc -l)" 1
is "a text's neighbours do not count" "$(sed -n 9p texts.txt | embed "$pre")" "$(sed -n 9p all.jsonl)"
is "a classifier's columns are its own" "$(embed "$tuned" rows.csv | wc -l)" 10
is "or those that are named" "$(embed "$tuned" --text label rows.csv | sort -u | wc -l)" 2
sed 's/sequence_length: 16/sequence_length: 8, truncation: segments, max_segments: 3/; s/, steps: 2/, steps: 1/' tune.yaml >parts.yaml
timeout 120 "$TRAINER" finetune parts.yaml --run-dir parts >parts.log 2>&1 || { cat parts.log; exit 99; }
parts=$(ckpt parts 1)
for p in cls mean; do
        embed --pooling $p "$parts" texts.txt --text 1 >parts.jsonl
        is "texts in segments: a vector for each text, $p" "$(jq -c '.embedding | length' parts.jsonl | sort | uniq -c | tr -s ' ')" " 70 16"
        is "texts in segments: neighbours do not count, $p" "$(for i in 1 9 33 70; do sed -n ${i}p texts.txt | embed --pooling $p "$parts" --text 1; done | md5sum)" "$(sed -n '1p;9p;33p;70p' parts.jsonl | md5sum)"
done
is "those of a pair are one sequence" "$(embed "$pre" --text label --text body rows.csv | md5sum)" "$(tail -n +2 rows.csv | awk -F'["]' '{ split($1, a, ","); print a[2] "\t" $2 }' | embed "$pre" --text 1 --text 2 | md5sum)"
is "a row for each line: null without text" "$(printf 'the page\n\nthe lock\n' | embed "$pre" | jq -c '.embedding | length' | tr '\n' ' ')" "16 0 16 "
is "with the reason" "$(printf '\n' | embed "$pre")" '{"embedding":null,"reason":"empty"}'
is "removed bytes are counted" "$(printf 'the \377page\n' | embed "$pre" | jq .invalid_bytes)" 1
printf 'the page\n\n' >holes.txt
ok "an array has no such row: refused" refuses 65 "holes.txt:2: no text (empty), so no row of holes.npy; FILE.jsonl has null for it" "$TRAINER" embed "$pre" holes.txt -o holes.npy
is "and not left behind" "$(find . -name 'holes.npy*')" ""
cp all.npy kept.npy
"$TRAINER" embed "$pre" holes.txt -o kept.npy >out 2>err
ok "one that was there stays" cmp all.npy kept.npy
mkfifo pipe.txt
"$TRAINER" embed "$pre" pipe.txt -o torn.npy >out 2>err &
job=$!
exec 3>pipe.txt
cat texts.txt >&3
ok "rows that are written" wait_for 10 eval 'ls torn.npy.tmp >ls 2>&1'
is "have the name only once all are" "$(ls torn.npy 2>&1 | grep -c 'cannot access')" 1
kill -9 $job
exec 3>&-
wait $job 2>/dev/null
is "so a kill leaves no array" "$(ls torn.npy 2>&1 | grep -c 'cannot access')" 1
embed "$pre" texts.txt -o torn.npy && [ "$(python3 npy.py torn.npy | cut -d' ' -f 1)" = 70 ] && [ ! -e torn.npy.tmp ]
ok "and what it left is in nobody's way" test $? -eq 0
awk '{ print NR % 2 ? $0 : "" }' texts.txt >half.txt
embed "$pre" half.txt >half.jsonl
ok "lines without text are counted" grep -qx 'bert-trainer: half.txt:2: no text, the first of 35 such lines' err
sed 's/text: .body./text: [id, body]/' tune.yaml >pair.yaml
timeout 120 "$TRAINER" finetune pair.yaml --run-dir pair >pair.log 2>&1
ok "no line of two texts for a model of pairs: refused" refuses_last 65 "texts.txt:1: no text (expected two texts with a tab between them), as in all 70 lines" "$TRAINER" embed "$(ckpt pair 2)" texts.txt
: >none.txt
ok "no text at all" embed "$pre" none.txt -o none.npy
is "is an array without rows" "$(python3 npy.py none.npy)" "0 16"
tr '\n' ' ' <texts.txt >long.txt
embed "$pre" long.txt >long.jsonl
ok "a text that was cut is told of" grep -qx 'bert-trainer: long.txt: 1 texts of more than 32 tokens were cut' err
[ "$(embed --sequence-length 64 "$pre" long.txt | md5sum)" != "$(md5sum <long.jsonl)" ]
ok "--sequence-length takes more of it" test $? -eq 0
ok "as the model has positions" refuses 2 "sequence-length: 65, but .* has max_position_embeddings 64" "$TRAINER" embed --sequence-length 65 "$pre" texts.txt
ok "a layer that the model lacks" refuses 2 "layer: 3, but .* has 2 layers: expected 0 to 2, or -1 to -3" "$TRAINER" embed --layer 3 "$pre" texts.txt
ok "from the end, too" refuses 2 "layer: -4, but" "$TRAINER" embed --layer -4 "$pre" texts.txt
ok "no number" refuses 2 "layer: 'last', expected a whole number" "$TRAINER" embed --layer last "$pre" texts.txt
ok "another pooling" refuses 2 "pooling: 'max', expected cls or mean" "$TRAINER" embed --pooling max "$pre" texts.txt
ok "another kind of file" refuses 2 "output: 'x.bin', expected FILE.npy or FILE.jsonl" "$TRAINER" embed "$pre" texts.txt -o x.bin
ok "a folder that is not there" refuses 74 "absent/x.npy" "$TRAINER" embed "$pre" texts.txt -o absent/x.npy
"$TRAINER" export "$pre" -o folder 2>err
ok "a model's folder, with the cure" refuses 76 "folder: a folder, expected a checkpoint; bert-trainer import makes one" "$TRAINER" embed folder texts.txt
"$TRAINER" import folder -o folder.ckpt 2>err
is "which gives the same vectors" "$(embed --sequence-length 32 folder.ckpt texts.txt | md5sum)" "$(md5sum <all.jsonl)"
ok "a task of a model without one" refuses 65 "holds no classifier, so no task 'news'" "$TRAINER" embed --task news "$pre" texts.txt
is "threads change no bit" "$(OMP_NUM_THREADS=3 embed "$pre" texts.txt | md5sum)" "$(md5sum <all.jsonl)"
finish
