#!/bin/sh
# Each wrong input is answered with one line that names it and the exit code of include/bertd/exit.h; nothing is changed.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
write_spec spec.yaml 4 2
train 1 spec.yaml --run-dir good >good.log 2>&1 || { cat good.log; exit 99; }

pretrain() { ok "$3" refuses "$1" "$2" "$TRAINER" pretrain "$4" --run-dir "${5:-new}"; }
spec() { sed "$1" spec.yaml >bad.yaml; }

spec 's/global_batch/global_bach/' && pretrain 78 'global_bach' 'misspelt key' bad.yaml
spec 's/steps: 4/steps: four/' && pretrain 78 'steps' 'wrong type' bad.yaml
spec 's/\[corpus\]/[absent]/' && pretrain 66 'absent' 'missing corpus' bad.yaml
spec 's/vocab.txt/absent.txt/' && pretrain 66 'absent.txt' 'missing vocabulary' bad.yaml
spec 's/sequence_length: 32/sequence_length: 128/' && pretrain 78 'sequence_length' 'sequence longer than the model' bad.yaml
pretrain 66 'absent.yaml' 'missing spec' absent.yaml

sed 's/"num_attention_heads": 2/"num_attention_heads": 3/' tiny.json >heads.json
spec 's/tiny.json/heads.json/' && pretrain 78 'heads.json' 'heads do not divide the hidden size' bad.yaml
sed 's/"vocab_size": 256/"vocab_size": 20/' tiny.json >narrow.json
spec 's/tiny.json/narrow.json/' && pretrain 78 'narrow.json' 'vocabulary larger than the model' bad.yaml
grep -v '^\[MASK\]$' vocab.txt >nomask.txt
spec 's/vocab.txt/nomask.txt/' && pretrain 65 'MASK' 'vocabulary without [MASK]' bad.yaml

for f in bin idx; do
        for g in bin idx; do cp corpus.$g cut.$g; done
        truncate -s -7 cut.$f
        spec 's/\[corpus\]/[cut]/' && pretrain 65 "cut.$f\|cut.bin\|cut.idx" ".$f cut short" bad.yaml
done
: >empty.bin && : >empty.idx
spec 's/\[corpus\]/[empty]/' && pretrain 65 'empty' 'empty corpus' bad.yaml
cp corpus.idx wild.idx && cp corpus.bin wild.bin && printf '\377\377' | dd of=wild.bin bs=1 seek=40 conv=notrunc 2>/dev/null
spec 's/\[corpus\]/[wild]/' && pretrain 65 'wild' 'id beyond the vocabulary' bad.yaml
awk 'NF { print }' text.txt >one.txt && "$TRAINER" prepare --vocab vocab.txt --output one one.txt >/dev/null 2>&1
spec 's/\[corpus\]/[one]/' && pretrain 65 'one document' 'NSP over one document' bad.yaml
awk 'NF { print; print "" }' text.txt >unsplit.txt && "$TRAINER" prepare --vocab vocab.txt --output unsplit unsplit.txt >/dev/null 2>&1
for o in nsp sop; do
        spec "s/\[corpus\]/[unsplit], objective: mlm+$o/" && pretrain 65 "no document has two sentences, which mlm+$o needs" "$o without sentences" bad.yaml
done
tac vocab.txt >other.txt
spec 's/vocab.txt/other.txt/' && pretrain 65 'another vocabulary' 'corpus of another vocabulary' bad.yaml

# Ids that were read once are read again when the file has changed, also in a way that leaves its size and its time.
for f in bin idx json; do cp corpus.$f kept.$f; done
spec 's/\[corpus\]/[kept]/; s/steps: 4/steps: 2/'
sleep 0.1 # until a change shows in the file's times
train 1 bad.yaml --run-dir kept >kept.log 2>&1 && [ "$(wc -c <kept/checked-ids)" -eq 66 ]
ok 'a run keeps which corpora it has read' test $? -eq 0
echo garbage >kept/checked-ids
sed -i 's/steps: 2/steps: 3/' bad.yaml
train 1 bad.yaml --run-dir kept >kept.log 2>&1 && [ "$(wc -c <kept/checked-ids)" -ge 66 ]
ok 'a damaged list of them vouches for nothing' test $? -eq 0
sed -i 's/steps: 3/steps: 6/' bad.yaml
touch -r kept.bin when && printf '\377\377' | dd of=kept.bin bs=1 seek=40 conv=notrunc 2>/dev/null && touch -r when kept.bin
ok 'an id that was damaged between two starts' refuses 65 'kept.bin: sentence .* id 65535' "$TRAINER" pretrain bad.yaml --run-dir kept
cp corpus.bin kept.bin
sed -i 's/steps: 6/steps: 100000/; s/every_steps: 2/every_steps: 0/' bad.yaml
{ wait_for 30 grep -q '"step": 9,' kept/metrics.jsonl && head -c "$(wc -c <kept.bin)" /dev/zero | tr '\0' '\377' | dd of=kept.bin conv=notrunc 2>/dev/null; } &
ok 'ids that are damaged during a run' refuses_after_progress 65 'step [0-9]*: .*kept.bin: an id beyond the vocabulary' "$TRAINER" pretrain bad.yaml --run-dir kept
wait

good=$(ckpt good 4)
resume() { ok "$3" refuses "$1" "$2" "$TRAINER" pretrain "$4" --run-dir new --resume "$5"; }
cp "$good" cut.ckpt && truncate -s -65536 cut.ckpt
resume 76 'cut.ckpt' 'checkpoint cut short' spec.yaml cut.ckpt
cp "$good" flip.ckpt && printf 'X' | dd of=flip.ckpt bs=1 seek=150000 conv=notrunc 2>/dev/null
resume 76 'flip.ckpt' 'checkpoint with a flipped byte' spec.yaml flip.ckpt
resume 66 'absent.ckpt' 'missing checkpoint' spec.yaml absent.ckpt
cp text.txt text.ckpt
resume 76 'text.ckpt' 'a checkpoint that is none' spec.yaml text.ckpt
sed 's/"intermediate_size": 32/"intermediate_size": 64/' tiny.json >wide.json
spec 's/tiny.json/wide.json/' && resume 78 'model.config' 'checkpoint of another model' bad.yaml "$good"
spec 's/steps: 4/steps: 4, seed: 43/' && resume 78 'train.seed' 'checkpoint of another seed' bad.yaml "$good"
spec 's/steps: 4/steps: 3/' && resume 78 'train.steps' 'checkpoint past the last step' bad.yaml "$good"
{ sed -n '1,5p' vocab.txt; sed -n '6,$p' vocab.txt | tac; } >swapped.txt
"$TRAINER" prepare --vocab swapped.txt --output swapped --validation 0.1 text.txt >/dev/null 2>&1
spec 's/vocab.txt/swapped.txt/; s/corpus/swapped/g' && resume 78 'model.vocab' 'checkpoint of another vocabulary' bad.yaml "$good"

# The newest checkpoint is bad: told, and the one before is used.
cp -r good fallback && printf 'X' | dd of="$(ckpt fallback 4)" bs=1 seek=150000 conv=notrunc 2>/dev/null
train 1 spec.yaml --run-dir fallback >out 2>err && grep -q 'trying an older one' err && "$TRAINER" diff "$good" "$(ckpt fallback 4)" >/dev/null
ok 'a bad newest checkpoint is passed over' test $? -eq 0

ok 'inspect of a cut checkpoint' refuses 76 'cut.ckpt' "$TRAINER" inspect cut.ckpt
"$TRAINER" diff "$good" "$(ckpt good 2)" >out 2>&1
[ $? -eq 1 ] && grep -q 'bert.embeddings' out
ok 'diff names the first tensor that differs' test $? -eq 0

# Not finite: named before it reaches a checkpoint.
spec 's/learning_rate: 2.0e-3/learning_rate: 1.0e+3, clip_norm: 0, weight_decay: 0.9/; s/steps: 4/steps: 400/; s/every_steps: 2/every_steps: 100000/'
ok 'loss not finite' refuses_after_progress 77 'step [0-9]*: loss .*not finite' "$TRAINER" pretrain bad.yaml --run-dir new

# Full disk: a periodic checkpoint is told and training continues, the last one must be written.
mkdir full
if mount -t tmpfs -o size=1m tmpfs full 2>/dev/null; then
        timeout 60 "$TRAINER" pretrain spec.yaml --run-dir full/run >out 2>err
        code=$?
        umount -l full
        [ $code -eq 74 ] && grep -q 'no checkpoint of step 4\|no checkpoint of step 2\|disk is full' err
        ok 'full disk while checkpointing: 74' test $? -eq 0
else
        skip 'full disk while checkpointing: 74' 'cannot mount a tmpfs'
fi

# A second trainer on one run folder.
write_spec long.yaml 100000 100000
train 1 long.yaml --run-dir busy >busy.log 2>&1 &
job=$!
for _ in $(seq 200); do [ -s busy/metrics.jsonl ] && break; sleep 0.02; done
ok 'a second trainer on one run folder' refuses 1 'another trainer' "$TRAINER" pretrain long.yaml --run-dir busy
kill -TERM "$(pgrep -P $job | head -1)"
wait $job
[ $? -eq 75 ]
ok 'SIGTERM alone: stopped with 75' test $? -eq 0

if have_ranks 2; then
        spec 's/\[corpus\]/[absent]/'
        ok 'two ranks: one line' refuses_after_progress 66 'absent' mpirun --oversubscribe --bind-to none -n 2 "$TRAINER" pretrain bad.yaml --run-dir new
fi
ok 'no refusal left a checkpoint' no_file new '*.ckpt'
finish
