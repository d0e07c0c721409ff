#!/bin/sh
# Exact resume for every objective, way to share parameters and optimizer, with masking, clipping, schedule and recomputation going
# round: a run that goes on from its own checkpoint of the middle, in another folder, ends with the same bits. Some on 2 ranks, some
# with 2 threads; a checkpoint holds what it was made with, and another setting is refused by name.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs

albert() { # albert SHARING: tiny.json as an ALBERT
        sed "s/{\"vocab/{\"model_type\": \"albert\", \"embedding_size\": 8, \"cross_layer_sharing\": \"$1\", \"vocab/; s/\"num_hidden_layers\": 2/\"num_hidden_layers\": 3/" tiny.json >"$1.json"
}
for s in none attention ffn all; do albert $s; done
cp tiny.json bert.json

pick() { # pick N WORD…: the Nth word, going round
        n=$(($1 % ($# - 1) + 2))
        eval "echo \"\${$n}\""
}

row() { # row N MODEL OBJECTIVE OPTIMIZER
        cat >row.yaml <<SPEC
kind: pretrain
checkpoint: {every_steps: 3, every_sec: 0, keep: 100}
model: {config: $2.json, vocab: vocab.txt}
data: {train: [corpus], validation: [corpus-validation], sequence_length: 32, objective: $3, mask_unit: $(pick $1 token whole_word ngram), masking: $(pick $1 dynamic static), dupe_factor: 2}
optimizer: {name: $4, learning_rate: 2.0e-3, warmup_steps: 2, schedule: $(pick $1 linear poly cosine constant), decay_from: $(pick $1 start warmup), step_count: $(pick $1 full from_one from_zero), clip_by: $(pick $1 global tensor)}
train: {global_batch: 7, micro_batch: 2, steps: 6, evaluate_every: 3, evaluate_samples: 5, recompute_activations: $(pick $1 false false true)}
SPEC
        ranks=$(pick $1 1 1 1 1 1 1 1 1 1 1 2) OMP_NUM_THREADS=$(pick $1 1 2)
        export OMP_NUM_THREADS
        have_ranks "$ranks" || ranks=1
        rm -rf whole half
        train "$ranks" row.yaml --run-dir whole >row.log 2>&1 && [ -e "$(ckpt whole 3)" ] &&
                train "$ranks" row.yaml --run-dir half --resume "$(ckpt whole 3)" >>row.log 2>&1 &&
                "$TRAINER" diff "$(ckpt whole 6)" "$(ckpt half 6)" >>row.log
        code=$?
        [ $code -eq 0 ] || sed 's/^/# /' row.log
        ok "$2, $3, $4, row $1, $ranks ranks" test $code -eq 0
}

i=0 every=1
if [ $sanitized = yes ]; then
        every=3
        skip "two rows of three" "under the sanitizers, which see the same code once"
fi
for objective in mlm+nsp mlm+sop mlm; do
        for model in bert none attention ffn all; do
                for optimizer in adamw bertadam lamb lamb_google; do
                        [ $((i % every)) -ne 0 ] || row $i $model $objective $optimizer
                        i=$((i + 1))
                done
        done
done

# Recomputed activations and threads do not show in any bit.
row 6 all mlm+sop lamb
mv whole plain
sed -i 's/recompute_activations: .*}/recompute_activations: true}/' row.yaml
OMP_NUM_THREADS=2 train 1 row.yaml --run-dir again >row.log 2>&1
"$TRAINER" diff "$(ckpt plain 6)" "$(ckpt again 6)" >/dev/null
ok "recomputed on 2 threads: the same weights" test $? -eq 0

changed() { # PATTERN SED: the last row's checkpoint with a changed spec
        sed "$2" row.yaml >changed.yaml
        ok "refused: $1" refuses 78 "$1" "$TRAINER" pretrain changed.yaml --run-dir changed --resume "$(ckpt plain 3)"
        rm -rf changed
}
changed 'optimizer lamb, the spec (optimizer.name) now gives lamb_google' 's/name: lamb/name: lamb_google/'
changed 'data.objective' 's/mlm+sop/mlm/'
changed 'data.mask_unit' 's/mask_unit: [a-z_]*/mask_unit: whole_word/'
changed 'data.masking' 's/masking: dynamic/masking: static/'
changed 'optimizer.schedule' 's/schedule: [a-z]*/schedule: poly/'
changed 'optimizer.clip_norm' 's/clip_by: global/clip_by: tensor/'
changed 'model.config' 's/all.json/attention.json/'

# Stages: each checkpoint of a run of two, before, at and after the boundary, goes on to the same end; so does one that is killed.
stages() { # stages FILE SECOND: a spec of two stages
        cat >"$1" <<SPEC
kind: pretrain
checkpoint: {every_steps: 3, every_sec: 0, keep: 100}
model: {config: all.json, vocab: vocab.txt}
data: {train: [corpus], validation: [corpus-validation], objective: mlm+sop}
optimizer: {name: lamb, learning_rate: 2.0e-3, warmup_steps: 2, schedule: poly}
train: {global_batch: 7, micro_batch: 2, evaluate_every: 3, evaluate_samples: 5}
stages:
- {name: short, data: {sequence_length: 16}, train: {steps: 5}}
- {name: long, data: {sequence_length: 32, objective: mlm+nsp}, optimizer: {learning_rate: 1.0e-3}, train: {global_batch: 4, micro_batch: 1, steps: 6}$2}
SPEC
}
meta() { "$TRAINER" inspect "$1" | sed -n "s/^$2  *//p"; }

for how in "" ", moments: reset" ", bias_correction: restart"; do
        stages staged.yaml "$how"
        for ranks in 1 2; do
                have_ranks $ranks || continue
                whole=staged-$ranks
                rm -rf "$whole"
                train $ranks staged.yaml --run-dir "$whole" >"$whole.log" 2>&1
                ok "two stages$how, $ranks ranks" test $? -eq 0
                for at in 3 5 6 9; do
                        rm -rf half
                        train $ranks staged.yaml --run-dir half --resume "$(ckpt "$whole" $at)" >half.log 2>&1 && "$TRAINER" diff "$(ckpt "$whole" 11)" "$(ckpt half 11)" >/dev/null
                        ok "two stages$how, $ranks ranks: from step $at" test $? -eq 0
                        grep -v validation half/metrics.jsonl | cut -d, -f1-3 >half.rows
                        grep -v validation "$whole/metrics.jsonl" | tail -n +$((at + 1)) | cut -d, -f1-3 | cmp -s - half.rows
                        ok "the same rows" test $? -eq 0
                done
        done
        mv staged-1 "staged-$(echo "$how" | tr -dc a-z)"
done
"$TRAINER" diff "$(ckpt staged- 11)" "$(ckpt staged-momentsreset 11)" >/dev/null
[ $? -eq 1 ]
ok "moments kept and reset differ" test $? -eq 0
[ "$(meta "$(ckpt staged- 5)" stage)" = 0 ] && [ "$(meta "$(ckpt staged- 6)" stage)" = 1 ] && [ "$(meta "$(ckpt staged- 9)" stage_name)" = long ]
ok "a checkpoint knows its stage" test $? -eq 0
[ "$(meta "$(ckpt staged- 9)" schedule_step)" = 4 ] && [ "$(meta "$(ckpt staged- 9)" correction_step)" = 9 ] && [ "$(meta "$(ckpt staged-biascorrectionrestart 9)" correction_step)" = 4 ]
ok "and both its steps" test $? -eq 0
sed -n 's/.*"stage": \([01]\).*"first_k": \([0-9]*\), "last_k": \([0-9]*\).*/\1 \2 \3/p' staged-/metrics.jsonl | sed -n '5,6p' | tr '\n' ';' | grep -q '^0 28 34;1 0 3;$'
ok "a stage has a stream of its own" test $? -eq 0
stages staged.yaml ""
rm -rf half
cp -r staged- half
rm "$(ckpt half 11)"
for at in 6 9; do dd if=/dev/zero of="$(ckpt half $at)" bs=1000 seek=60 count=9 conv=notrunc 2>/dev/null; done
train 1 staged.yaml --run-dir half >half.log 2>&1 && "$TRAINER" diff "$(ckpt staged- 11)" "$(ckpt half 11)" >/dev/null && [ "$(grep -c 'trying an older one' half.log)" -eq 2 ] && grep -q 'step 5 of 11' half.log
ok "damaged checkpoints of the second stage: from the end of the first, same bits" test $? -eq 0
sed 's/, schedule: poly/, schedule: linear/' staged.yaml >changed.yaml
ok "what may not change is refused in the second stage" refuses 78 'stage 1, optimizer.schedule' "$TRAINER" pretrain changed.yaml --run-dir changed --resume "$(ckpt staged- 9)"
sed '/name: long/d' staged.yaml >changed.yaml
ok "a stage that is gone is refused" refuses 78 'made in stage 1, the spec now has 1' "$TRAINER" pretrain changed.yaml --run-dir changed --resume "$(ckpt staged- 9)"
sed 's/sequence_length: 32/sequence_length: 32, train: [absent]/' staged.yaml >changed.yaml
ok "what the second stage lacks is told before the first step" refuses 66 'stage 1: .*absent' "$TRAINER" pretrain changed.yaml --run-dir changed
finish
