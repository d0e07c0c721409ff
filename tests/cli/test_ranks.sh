#!/bin/sh
# Ranks that were started together but not with the same inputs: 65, and one line with rank, host and what differs; none hangs. Then launchers:
# a process that is one of several for its launcher and alone for MPI, and specs that say how many ranks there are.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
write_spec spec.yaml 4 2
host=$(uname -n | sed 's/\..*//')
kind=pretrain

# A launcher is met by a process that is alone; commands without ranks do not look.
alone="$TRAINER pretrain spec.yaml --run-dir alone"
cure="mpirun -n N or srun --mpi=pmix"
for variables in 'PMI_SIZE=2 PMI_RANK=0' PMIX_RANK=1 OMPI_COMM_WORLD_SIZE=2 SLURM_STEP_NUM_TASKS=2 'SLURM_STEP_NUM_TASKS=2 PMIX_RANK=0' MPI_LOCALNRANKS=2; do
        ok "alone with $variables" refuses 78 "^bert-trainer: ${variables%%=*} is [12], .*$cure" env $variables $alone
done
ok 'no run folder was touched' test ! -e alone
for variables in PMIX_RANK=0 PMI_SIZE=1 SLURM_STEP_NUM_TASKS=1; do
        ok "one process of one: $variables" env $variables $alone
        ok 'made its last checkpoint' test -e "$(ckpt alone 4)"
        rm -rf alone
done
quietly env PMI_SIZE=2 "$TRAINER" params tiny.json && quietly env SLURM_STEP_NUM_TASKS=2 "$TRAINER" inspect absent.ckpt
ok 'a command without ranks does not look' test $? -eq 66
for value in 10 12 0xa 012; do
        ok "NCCL_PROXY_DUMP_SIGNAL=$value" refuses 78 "^bert-trainer: NCCL_PROXY_DUMP_SIGNAL: $value is SIGUSR[12], " env NCCL_PROXY_DUMP_SIGNAL=$value $alone
done
# Whoever starts a run may have blocked the signals that ask it for something.
sed 's/ steps: 4/ steps: 100000/; s/every_steps: 2/every_steps: 0/' spec.yaml >long.yaml
env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT python3 -c 'import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.execv(sys.argv[1], sys.argv[1:])' "$TRAINER" pretrain long.yaml --run-dir blocked >blocked.log 2>&1 &
job=$!
wait_for 30 test -s blocked/metrics.jsonl
tr '\0' '\n' </proc/$job/environ >environ
ok 'threads that wait look a few times, then sleep' test "$(grep -cxE 'OMP_WAIT_POLICY=passive|GOMP_SPINCOUNT=300' environ)" -eq 2
kill -USR1 $job
wait_for 30 quietly not kill -0 $job || kill -9 $job
wait $job
ok 'SIGUSR1 that was blocked at the start is heard' test $? -eq 75
have_ranks 2 || finish

# two WORDS WORDS: of rank 0 and of rank 1, after the program's name
cat >two <<'SH'
#!/bin/sh
exec mpirun --oversubscribe --bind-to none -n 1 $TRAINER $1 : -n 1 ${OTHER_PROGRAM:-$TRAINER} $2
SH
chmod +x two
export TRAINER
differs() { # DESCRIPTION PATTERN [SPEC]: rank 1 has other.yaml, or SPEC, and says so
        rm -rf run
        ok "$1" refuses_after_progress 65 "rank 1 on $host: .*$2" ./two "$kind spec.yaml --run-dir run" "$kind ${3:-other.yaml} --run-dir run"
}
spec() { sed "$1" spec.yaml >other.yaml; }

spec 's/steps: 4/steps: 3/' && differs 'fewer steps' 'train.steps: 3, but rank 0 .* has 4'
spec 's/steps: 4/steps: 4, seed: 43/' && differs 'another seed' 'train.seed: 43, but rank 0 .* has 42'
spec 's/steps: 4/steps: 4, precision: fp64/' && differs 'another precision' 'train.precision: fp64'
spec 's/sequence_length: 32/sequence_length: 32, objective: mlm+sop/' && differs 'another objective' 'data.objective: mlm+sop, but rank 0 .* has mlm+nsp'
spec 's/validation: \[corpus-validation\], //; s/evaluate_every: 4, //' && differs 'no validation' 'data.validation: 0, but rank 0 .* has 1'
spec 's/every_steps: 2/every_steps: 1/' && differs 'checkpoints at other steps' 'checkpoint.every_steps'
sed '/^train:/d; /sequence_length/d' spec.yaml >stages.yaml
cat >>stages.yaml <<'SPEC'
data: {train: [corpus], sequence_length: 32}
train: {global_batch: 7, micro_batch: 2}
stages:
- {data: {sequence_length: 16}, train: {steps: 2}}
- {data: {sequence_length: 32}, train: {steps: 2}}
SPEC
differs 'stages' 'stages: 2, but rank 0 .* has 1' stages.yaml
sed 's/"hidden_size": 16/"hidden_size": 32/' tiny.json >wide.json
spec 's/tiny.json/wide.json/' && differs 'another model' 'model.config hidden_size: 32, but rank 0 .* has 16'
sed 's/"hidden_dropout_prob": 0.1/"hidden_dropout_prob": 0.3/' tiny.json >dropout.json
spec 's/tiny.json/dropout.json/' && differs 'another dropout' 'model.config hidden_dropout_prob: 0.3, but rank 0 .* has 0.1: all ranks need the same, copy it from there'
{ cat vocab.txt; echo zebra; } >longer.txt
for f in bin idx; do cp corpus.$f bare.$f; cp corpus-validation.$f bare-validation.$f; done # without sidecars: of any vocabulary
spec 's/vocab.txt/longer.txt/; s/corpus/bare/g' && differs 'another vocabulary' 'model.vocab: .*longer.txt'
other() { for f in bin idx json; do cp "$1.$f" "$2.$f"; done; }
other corpus swapped
python3 - <<'PY'
data = bytearray(open("swapped.bin", "rb").read())  # the same sentences and lengths, in the wrong order of words
data[0:2], data[2:4] = data[2:4], data[0:2]
data[40:44] = data[44:48]
open("swapped.bin", "wb").write(data)
PY
spec 's/\[corpus\]/[swapped]/' && differs 'ids that differ under one index' 'data.train: .*swapped'
other corpus-validation wrong && printf '\007' | dd of=wrong.bin bs=1 seek=20 conv=notrunc 2>/dev/null
spec 's/\[corpus-validation\]/[wrong]/' && differs 'another corpus for validation' 'data.validation: .*wrong'
cp spec.yaml one.yaml
sed 's/\[corpus\]/[corpus, corpus-validation], train_weights: [1, 2]/' one.yaml >spec.yaml
spec 's/\[corpus, corpus-validation\]/[corpus, swapped]/' && differs 'one corpus of a mixture' 'data.train: .*swapped'
spec 's/train_weights: \[1, 2\]/train_weights: [1, 3]/' && differs 'the weights of a mixture' 'data.train_weights: 3'
cp one.yaml spec.yaml

# The same things at other places are no difference; nor is what rank 0 alone reads.
mkdir there
cp corpus.* corpus-validation.* vocab.txt tiny.json there/
sed 's/name: tiny/name: other/' spec.yaml >there/other.yaml
sed 's/steps: 4/steps: 4, seed: 43/' spec.yaml >stale.yaml
train 1 stale.yaml --run-dir there/run >stale.log 2>&1 && rm -r there/run/checkpoints # whose window maps are of another seed
rm -rf run
ok 'the same files elsewhere are the same' ./two 'pretrain spec.yaml --run-dir run' 'pretrain there/other.yaml --run-dir there/run'
ok 'rank 0 alone writes' no_file there/run '*.ckpt'
train 2 spec.yaml --run-dir common >common.log 2>&1 && "$TRAINER" diff "$(ckpt run 4)" "$(ckpt common 4)" >/dev/null
ok 'and sends its window map: the same bits' test $? -eq 0
cp "$(ckpt run 4)" begin.ckpt
cp "$(ckpt run 2)" begun.ckpt
sed 's/vocab: vocab.txt/vocab: vocab.txt, init: begin.ckpt/' one.yaml >spec.yaml
spec 's/begin.ckpt/begun.ckpt/' && differs 'other weights to begin with' 'model.init: .*begun.ckpt'
differs 'no weights to begin with' 'model.init: none, but rank 0' one.yaml
spec 's/begin.ckpt/absent.ckpt/'
rm -rf run
ok 'a rank that lacks the weights takes those of rank 0' ./two 'pretrain spec.yaml --run-dir run' 'pretrain other.yaml --run-dir run'
cp one.yaml spec.yaml
ok 'another checkpoint to resume' refuses_after_progress 65 "rank 1 on $host: --resume: .*begin.ckpt" \
        ./two 'pretrain spec.yaml --run-dir new --resume begun.ckpt' 'pretrain spec.yaml --run-dir new --resume begin.ckpt'
ok 'one that another rank was not given' refuses_after_progress 65 "rank 1 on $host: --resume: given, but rank 0 on .* has none" \
        ./two 'pretrain spec.yaml --run-dir new' 'pretrain spec.yaml --run-dir new --resume begin.ckpt'

# What was compared at the start may have changed when its stage begins.
other corpus late
sed 's/name: tiny/name: late/; /^data:/d; /^train:/d; s/every_steps: 2/every_steps: 0/' spec.yaml >late.yaml
cat >>late.yaml <<'SPEC'
data: {train: [corpus], sequence_length: 16}
train: {global_batch: 2, micro_batch: 1}
stages:
- {train: {steps: 4000}}
- {data: {train: [corpus]}, train: {steps: 2}}
SPEC
sed 's/{data: {train: \[corpus\]}/{data: {train: [late]}/' late.yaml >other.yaml
refuses_after_progress 65 "stage 1: rank 1 on $host: data.train: .*late" ./two 'pretrain late.yaml --run-dir late' 'pretrain other.yaml --run-dir late' >late.said 2>&1 &
job=$!
wait_for 30 test -s late/metrics.jsonl
printf '\007' | dd of=late.bin bs=1 seek=20 conv=notrunc 2>/dev/null
wait $job
ok 'a corpus that changed before its stage' test $? -eq 0

# Versions of the program, whose first words are the same for ever: a copy whose version's text is another.
version=$("$TRAINER" version | sed 's/.* //')
python3 - "$TRAINER" "$version" <<'PY'
import sys
data, old = open(sys.argv[1], "rb").read(), (sys.argv[2] + "/").encode()
assert old in data
open("newer", "wb").write(data.replace(old, b"9" + old[1:]))
open("older", "wb").write(data.replace(old, b"\0" + old[1:]))  # the first versions said none
PY
chmod +x newer older
export OTHER_PROGRAM=./newer
differs 'another version of the program' "program version: 9${version#?}/.*rank 0 on $host runs $version/" spec.yaml
export OTHER_PROGRAM=./older
differs 'a version from before versions were compared' "program version: an older version, but rank 0 on $host runs $version/" spec.yaml
ok 'rank 0 of such a version' refuses_after_progress 65 "rank 1 on $host: program version: $version/.*rank 0 on $host runs an older version" \
        env TRAINER=./older OTHER_PROGRAM="$TRAINER" ./two 'pretrain spec.yaml --run-dir run' 'pretrain spec.yaml --run-dir run'
unset OTHER_PROGRAM

# How many ranks a spec says.
sed '1i resources: {ranks: 1}' spec.yaml >ranks.yaml
ok 'two ranks where the spec says one' refuses_after_progress 78 'resources.ranks: 1, but 2 were started' ./two 'pretrain ranks.yaml --run-dir new' 'pretrain ranks.yaml --run-dir new'
sed -i 's/ranks: 1/ranks: 2/' ranks.yaml
train 1 ranks.yaml --run-dir fewer >out 2>err && grep -q 'resources.ranks: 2, but 1 started on this host: continuing with 1' err
ok 'one rank where the spec says two: said' test $? -eq 0

# A rank that has no sample in a step adds nothing, whatever LAMB left in its gradients.
sed 's/global_batch: 7, micro_batch: 2/global_batch: 1, micro_batch: 1/' one.yaml >idle.yaml
quietly train 1 idle.yaml --run-dir idle1 && quietly train 2 idle.yaml --run-dir idle2 &&
        "$TRAINER" diff "$(ckpt idle1 4)" "$(ckpt idle2 4)" >out
ok 'a rank without a sample changes nothing' test $? -eq 0

# Texts
kind=finetune
awk 'BEGIN { print "label,text"; for (i = 0; i < 24; i++) print i % 2 ? "core,the kernel maps the page" : "net,the socket sends a packet" }' >texts.csv
cat >spec.yaml <<'SPEC'
kind: finetune
checkpoint: {every_sec: 0}
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [texts.csv], sequence_length: 16}
train: {global_batch: 4, micro_batch: 2, epochs: 1}
SPEC
sed '3s/page/file/' texts.csv >changed.csv
spec 's/texts.csv/changed.csv/' && differs 'another file of texts' 'data.train: .*changed.csv'
spec 's/sequence_length: 16/sequence_length: 16, labels: [net, core]/' && differs 'classes in another order' 'data.labels: 2, but rank 0 .* has 0'
spec 's/sequence_length: 16/sequence_length: 16, lowercase: false/' && differs 'text folded otherwise' 'data.lowercase: false'
ok 'nothing was written' test ! -e run
sed '/^data:/d; /^train:/d' spec.yaml >further.yaml
cat >>further.yaml <<'SPEC'
data: {train: [texts.csv], sequence_length: 16}
train: {global_batch: 4, micro_batch: 2, steps: 2}
stages:
- {data: {objective: mlm}}
- {data: {objective: classify}}
SPEC
mkdir tmp
TMPDIR=$work/tmp
export TMPDIR
ok 'a corpus of texts, made by rank 0' ./two 'finetune further.yaml --run-dir run' 'finetune further.yaml --run-dir there/none'
train_two() { timeout 120 mpirun --oversubscribe -n 2 "$TRAINER" finetune further.yaml --run-dir common-texts >common.log 2>&1; }
train_two && "$TRAINER" diff "$(ckpt run 4)" "$(ckpt common-texts 4)" >/dev/null
ok 'a rank that does not see it makes the same' test $? -eq 0
ok 'and leaves none of it' no_file tmp 'bert-trainer.*'
finish
