#!/bin/sh
# Megatron-LM's .bin/.idx beside a reader and writer of our own making in Python: every dtype of integers trains; what prepare writes
# reads back; NSP and SOP want sentences: TAP.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
megatron() { python3 "$here/megatron.py" "$@"; }
here=${SOURCE_DIR:-.}/tests/cli
spec() { # spec CORPUS OBJECTIVE
        sed "s/\[corpus\], validation: \[corpus-validation\]/[$1], objective: $2/; s/steps: 20, evaluate_every: 4/steps: 2/" spec.yaml >megatron.yaml
}
hashes() { sed 's/.*"sample_hash": "\([0-9a-f]*\)".*/\1/' "$1/metrics.jsonl"; }

size=$(wc -l <vocab.txt)
[ "$size" -gt 130 ] || exit 99 # else every dtype would have the same ids
for code in 1 2 3 4 5 8; do
        megatron write "m$code" $code 120 && spec "m$code" mlm+nsp && train 1 megatron.yaml --run-dir "run$code" >run.log 2>&1
        ok "dtype $code trains" test $? -eq 0
        [ "$(hashes "run$code")" = "$(hashes run1)" ]
        ok "and gives the samples of dtype 1" test $? -eq 0
done
megatron flat flat 8 120
for objective in mlm+nsp mlm+sop; do
        spec flat $objective
        ok "one sentence a document and $objective is refused" refuses 65 'flat: no document has two sentences' "$TRAINER" pretrain megatron.yaml --run-dir "flat-$objective"
done
spec flat mlm
train 1 megatron.yaml --run-dir flat-mlm >flat.log 2>&1
ok "and trains with mlm" test $? -eq 0

"$TRAINER" prepare --vocab vocab.txt --output whole text.txt >/dev/null 2>&1
megatron read whole >read.txt
ok "Megatron's rules hold for what prepare writes" test $? -eq 0
"$TRAINER" tokenize --vocab vocab.txt --ids text.txt >tokens.txt
sed 1d read.txt | cmp - tokens.txt
ok "with the ids of tokenize, document by document" test $? -eq 0
cp vocab.txt big.txt
seq 70000 | sed 's/^/filler/' >>big.txt
"$TRAINER" prepare --vocab big.txt --output wide text.txt >/dev/null 2>&1 && megatron read wide | cmp - read.txt
ok "and as int32 with a large vocabulary" test $? -eq 0
finish
