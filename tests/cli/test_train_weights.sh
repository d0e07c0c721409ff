#!/bin/sh
# data.train_weights: resume is exact, every number of ranks sees the same samples, no weights are as ever, a change is refused. TAP.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
make_text | sed 's/the/of/; s/ [.]/ !/' >other.txt
"$TRAINER" prepare --vocab vocab.txt --output other other.txt >/dev/null 2>&1 || exit 99
spec() { # spec FILE WEIGHTS
        sed "s/train: \[corpus\]/train: [corpus, other]${2:+, train_weights: $2}/" spec.yaml >"$1"
}
spec plain.yaml ''
spec weighted.yaml '[1, 3]'
spec scaled.yaml '[0.25, 0.75]'
spec equal.yaml '[1, 1]'
rows() { grep -v validation "$1/metrics.jsonl" | sed 's/^{"step": \([0-9]*\).*"sample_hash": "\([0-9a-f]*\)".*/\1 \2/'; }
train 1 weighted.yaml --run-dir whole >whole.log 2>&1
ok "a run with weights" test $? -eq 0
train 1 weighted.yaml --run-dir resumed --resume "$(ckpt whole 10)" >resumed.log 2>&1 && "$TRAINER" diff "$(ckpt whole 20)" "$(ckpt resumed 20)" >/dev/null
ok "resumed at step 10: same bits" test $? -eq 0
train 1 scaled.yaml --run-dir scaled --resume "$(ckpt whole 10)" >scaled.log 2>&1 && "$TRAINER" diff "$(ckpt whole 20)" "$(ckpt scaled 20)" >/dev/null
ok "only their ratio counts" test $? -eq 0
if have_ranks 2; then
        train 2 weighted.yaml --run-dir ranks >ranks.log 2>&1 && [ "$(rows ranks)" = "$(rows whole)" ]
        ok "2 ranks see the samples of 1" test $? -eq 0
fi
train 1 plain.yaml --run-dir plain >plain.log 2>&1 && [ "$(rows plain)" != "$(rows whole)" ]
ok "without weights it is another stream" test $? -eq 0
ok "other weights on resume are refused" refuses 78 'train_weights 0.25 0.75, the spec (data.train_weights) now gives 0.5 0.5' "$TRAINER" pretrain equal.yaml --run-dir equal --resume "$(ckpt whole 10)"
ok "so are weights where there were none" refuses 78 'train_weights none, the spec (data.train_weights) now gives 0.25 0.75' "$TRAINER" pretrain weighted.yaml --run-dir taken --resume "$(ckpt plain 10)"
spec few.yaml '[1]'
ok "a weight too few is refused" refuses 78 'few.yaml:5: data.train_weights: 1 given, but data.train has 2' "$TRAINER" pretrain few.yaml --run-dir few
spec negative.yaml '[1, -3]'
ok "a negative weight is refused" refuses 78 'negative.yaml:5: data.train_weights: -3 is not between' "$TRAINER" pretrain negative.yaml --run-dir negative
sed 's/train_weights/train_weight/' weighted.yaml >unknown.yaml
ok "an unknown key is refused" refuses 78 "unknown.yaml:5: unknown key 'train_weight' in data" "$TRAINER" pretrain unknown.yaml --run-dir unknown
finish
