#!/bin/sh
# The best checkpoint of a finetune that is lost, broken, another run's, elsewhere, or could not be written: told at once in one line, and
# the run ends with a test of the best that is there, or of the last, and says which: TAP.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
# Two classes that a word tells, a part of the labels wrong, and a high rate: the loss goes up and down.
awk 'BEGIN { srand(5); split("kernel memory page device network socket packet signal", a); for (i = 0; i < 96; i++) { k = i % 2; w = int(rand() * 8) + 1
        printf "%s\tthe %s %s\n", (k + (i % 5 == 0)) % 2 ? "busy" : "calm", k ? "fast" : "slow", a[w] } }' >train.tsv
awk 'BEGIN { split("kernel memory page device network socket packet signal", a)
        for (i = 0; i < 40; i++) printf "%s\tthe %s %s\n", i % 2 ? "busy" : "calm", i % 2 ? "fast" : "slow", a[i % 8 + 1] }' >dev.tsv
cat >tune.yaml <<'SPEC'
kind: finetune
checkpoint: {every_steps: 2, every_sec: 0, keep: 100}
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [train.tsv], validation: [dev.tsv], test: [dev.tsv], text: [2], label: 1, sequence_length: 16}
optimizer: {learning_rate: 2.0e-2, schedule: constant}
train: {global_batch: 8, micro_batch: 8, steps: 12, evaluate_every: 2, seed: 7}
SPEC
tune() { timeout 120 "$TRAINER" finetune "$@"; }
best_of() { # RUN MOST: the step that MOST of its validations make the best
        jq -r 'select(.validation) | "\(.step) \(.validation.accuracy) \(.validation.loss)"' "$1/metrics.jsonl" |
                awk -v most="$2" '$1 <= most && (NR == 1 || $2 > a || ($2 == a && $3 < l)) { s = $1; a = $2; l = $3 } END { print s }'
}
linked() { equal "$(readlink "$1/best.ckpt")" "checkpoints/$(basename "$(ckpt x "$2")")" && [ -e "$1/best.ckpt" ]; } # RUN STEP
tested() { # RUN STEP WHICH: its one test says so, and is of these weights: the held-out texts are the same
        equal "$(jq -c 'select(.test) | [.step, .test.checkpoint]' "$1/metrics.jsonl")" "[$2,\"$3\"]" &&
                equal "$(jq 'select(.test).test.loss' "$1/metrics.jsonl")" "$(jq "select(.validation and .step == $2).validation.loss" "$1/metrics.jsonl")" &&
                grep "^test at step $2: .*, of the $3 checkpoint, $(ckpt "$1" "$2")\$" "$1.log"
}
told() { [ "$(grep -c '^bert-trainer: ' "$1.log")" -eq 1 ] && grep "^bert-trainer: $2" "$1.log"; } # RUN PATTERN: in the one line

tune tune.yaml --run-dir whole >whole.log 2>&1
ok "a run" test $? -eq 0
best=$(best_of whole 12)
ok "its best is neither the first nor the last, or this test is of nothing" test "$best" -gt 2 -a "$best" -lt 12
ok "is linked" linked whole "$best"
ok "and tested" tested whole "$best" best
second=$(jq -r 'select(.validation) | "\(.step) \(.validation.accuracy) \(.validation.loss)"' whole/metrics.jsonl |
        awk -v b="$best" '$1 != b && (!s || $2 > a || ($2 == a && $3 < l)) { s = $1; a = $2; l = $3 } END { print s }')

resumed() { # NAME STEPS: the first steps of `whole` in a folder of their own
        mkdir -p "$1/checkpoints"
        for step in $(seq 2 2 "$2"); do cp "$(ckpt whole "$step")" "$1/checkpoints/"; done
        cp whole/metrics.jsonl "$1/"
}
resumed lost 10 && rm -f "$(ckpt lost "$best")" && tune tune.yaml --run-dir lost >lost.log 2>&1
ok "the best is lost: the run ends" test $? -eq 0
ok "it is told" told lost "$(ckpt lost "$best"): no such checkpoint: it was the best checkpoint (accuracy [01].*); the best is now that of step .*; to keep the other, copy it there"
ok "before the first step" sh -c "sed -n '/it was the best/,\$p' lost.log | grep -q 'validation at step 12'"
ok "the best of those that are there is tested" tested lost "$second" best
ok "and linked" linked lost "$second"
"$TRAINER" diff "$(ckpt lost 12)" "$(ckpt whole 12)" >/dev/null
ok "the weights are the same as without" test $? -eq 0
is "each validation is there once" "$(jq 'select(.validation).step' lost/metrics.jsonl | sort -n | uniq -d)" ""
tune tune.yaml --run-dir lost >again.log 2>&1 && ! grep -q '^bert-trainer: ' again.log && tested lost "$second" best >/dev/null
ok "the same again has nothing to tell" test $? -eq 0

resumed back 12 && rm "$(ckpt back "$best")" "$(ckpt back "$second")" && tune tune.yaml --run-dir back --resume "$(ckpt back 6)" >back.log 2>&1
ok "resumed from an earlier one, what comes later is not the best" told back "$(ckpt back "$best"): no such checkpoint: .*; the best is now that of step [246] "

resumed ended 12 && rm -f ended/checkpoints/step-00000000[2468].ckpt ended/checkpoints/step-000000010.ckpt && ln -s "checkpoints/$(basename "$(ckpt x "$best")")" ended/best.ckpt
tune tune.yaml --run-dir ended >ended.log 2>&1
ok "lost after the end, with a link that leads to nothing" test $? -eq 0
ok "told" told ended "$(ckpt ended "$best"): no such checkpoint"
ok "the last is the best that is there" tested ended 12 best
ok "and the link leads to it" linked ended 12

resumed broken 10 && printf XXXX | dd of="$(ckpt broken "$best")" bs=1 seek=250000 conv=notrunc 2>/dev/null
tune tune.yaml --run-dir broken >broken.log 2>&1
ok "broken" test $? -eq 0
ok "is told" told broken "$(ckpt broken "$best"): .*: it was the best checkpoint"
ok "and another tested" tested broken "$second" best

sed 's/learning_rate: 2.0e-2/learning_rate: 1.0e-3/' tune.yaml >slow.yaml
sed 's/"hidden_size": 16/"hidden_size": 32/' tiny.json >wide.json
sed 's/tiny.json/wide.json/; s/steps: 12/steps: '"$best"/ tune.yaml >wide.yaml
tune slow.yaml --run-dir slow >slow.log 2>&1 && tune wide.yaml --run-dir wide >wide.log 2>&1
for other in slow wide; do
        resumed of-$other 10 && cp "$(ckpt $other "$best")" of-$other/checkpoints/ && tune tune.yaml --run-dir of-$other >of-$other.log 2>&1
        ok "one of another run ($other)" test $? -eq 0
        ok "is told" told of-$other "$(ckpt of-$other "$best"): of another run: it was the best checkpoint"
done
ok "and another tested where it has another shape" tested of-wide "$second" best

tune tune.yaml --run-dir away --resume "$(ckpt whole 10)" >away.log 2>&1
ok "resumed in another folder, where the best is not" test $? -eq 0
ok "is told" told away "$(ckpt away "$best"): no such checkpoint"
late=$(best_of away 12)
ok "the best from there on is tested" tested away "$late" best
ok "and linked" linked away "$late"
resumed strange 8 && rm "$(ckpt strange "$best")" && tune tune.yaml --run-dir strange --resume "$(ckpt whole 10)" >strange.log 2>&1
ok "what the folder has of before is not of that run" told strange "$(ckpt strange "$best"): no such checkpoint: .*; the best is now looked for from step 10 on"
resumed unseen 10 && rm -f unseen/checkpoints/*"$best".ckpt && sed 's/validation: .dev.tsv., //; s/, evaluate_every: 2//' tune.yaml >unseen.yaml
for step in 2 4 6 8; do rm -f "$(ckpt unseen $step)"; done
tune unseen.yaml --run-dir unseen >unseen.log 2>&1
ok "without validation now: the best of those that are there, by what they were told then" told unseen "$(ckpt unseen "$best"): .*; the best is now that of step 10 "
tune tune.yaml --run-dir moved --resume "$(ckpt whole "$best")" >moved.log 2>&1 && ! grep '^bert-trainer: ' moved.log
ok "resumed in another folder from the best itself: nothing is to be told" test $? -eq 0
ok "it is written there" tested moved "$best" best
ok "and linked" linked moved "$best"

mkdir -p full/checkpoints/step-00000000"$best".ckpt.tmp/x # it cannot be written
tune tune.yaml --run-dir full >full.log 2>&1
ok "the best cannot be written: the run ends" test $? -eq 0
ok "it is told" told full "$(ckpt full "$best"): .*: it was the best checkpoint"
ok "the best of those that are there is tested" tested full "$second" best
"$TRAINER" diff "$(ckpt full 12)" "$(ckpt whole 12)" >/dev/null
ok "the weights are the same as without" test $? -eq 0
mkdir -p full2/checkpoints
for step in 2 4 6 8 10; do mkdir -p "$(ckpt full2 $step).tmp/x"; done
tune tune.yaml --run-dir full2 >full2.log 2>&1 && tested full2 12 best >tested && linked full2 12
ok "none but the last can be written: it is tested" test $? -eq 0

mkdir -p folder/best.ckpt/x && tune tune.yaml --run-dir folder >folder.log 2>&1
ok "a folder in the place of the link" test $? -eq 0
ok "is told at once" told folder "folder/best.ckpt: a folder: "
ok "and the best tested" tested folder "$best" best
sed 's/validation: .dev.tsv., //; s/, evaluate_every: 2//' tune.yaml >blind.yaml
mkdir blind && ln -s checkpoints/step-000000099.ckpt blind/best.ckpt
tune blind.yaml --run-dir blind >blind.log 2>&1 && [ ! -L blind/best.ckpt ]
ok "without validation no link leads to nothing" test $? -eq 0
is "and the last is tested" "$(jq -c 'select(.test) | [.step, .test.checkpoint]' blind/metrics.jsonl)" '[12,"last"]'
grep -q "^test at step 12: .*, of the last checkpoint, $(ckpt blind 12)\$" blind.log
ok "and named" test $? -eq 0
if have_ranks 2; then
        mkdir -p two/checkpoints/step-00000000"$best".ckpt.tmp/x
        timeout 120 mpirun --oversubscribe --bind-to none -n 2 "$TRAINER" finetune tune.yaml --run-dir two >two.log 2>&1
        ok "two ranks, the best cannot be written" test $? -eq 0
        ok "told" told two "$(ckpt two "$best"): .*: it was the best checkpoint"
        ok "the same one is tested" tested two "$second" best
fi
finish
