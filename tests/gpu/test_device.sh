#!/bin/sh
# The whole trainer with device: cuda, its module emulated: losses beside the CPU's, exact resume after kill -9, loss scaling, a classifier,
# two ranks, a checkpoint that the CPU goes on with. Rates are high enough for the losses to show what an update did: one that is a quarter
# off moves them by 5 % in pretraining, 4 % in a classifier, ten times what rounding does. TAP.
. "$SOURCE_DIR/tests/cli/trainer-lib.sh"
mkdir -p bin/ops/cuda
cp "$TRAINER" bin/bert-trainer
cp "$EMULATED_MODULE" bin/ops/cuda/bert-trainer-cuda.so
cp "$EMULATED_DRIVER" bin/libcuda.so.1
cp "$EMULATED_NCCL" bin/libnccl.so.2
make_inputs
TRAINER=$work/bin/bert-trainer
export LD_LIBRARY_PATH="$work/bin${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
spec() { # spec FILE DEVICE PRECISION [RATE]
        write_spec "$1" 6 2
        sed -i "s/^train: {global_batch: 7, micro_batch: 2/device: $2\ntrain: {precision: $3, global_batch: 4, micro_batch: 2/
                s/learning_rate: 2.0e-3/learning_rate: ${4:-2.0e-2}/" "$1"
}
losses() { sed -n 's/^{"step": [0-9]*, "loss": \([0-9.]*\),.*"learning_rate".*/\1/p' "$1/metrics.jsonl"; }
apart() { # apart A B CONDITION: how far the losses of two runs of six steps are apart at most, relative
        losses "$1" >a
        losses "$2" >b
        [ "$(wc -l <a)" -eq 6 ] && [ "$(wc -l <b)" -eq 6 ] && paste -d ' ' a b | awk '{ d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > worst) worst = d }
                END { printf "# '"$1 and $2"': %.2g apart\n", worst; exit !(worst '"$3"') }'
}
bound_of() { # bound_of PRECISION: measured 1.3e-7; 9.0e-4, of a classifier 1.2e-3; 1.4e-4, of a classifier 2.4e-4
        case $1 in fp32) echo 0.000001 ;; bf16) echo 0.005 ;; fp16) echo 0.001 ;; esac
}

spec cpu.yaml cpu fp32
train 1 cpu.yaml --run-dir cpu >cpu.log 2>&1
ok "the CPU" test $? -eq 0
spec slower.yaml cpu fp32 1.5e-2
train 1 slower.yaml --run-dir slower >slower.log 2>&1 && apart slower cpu "> 4 * $(bound_of bf16)"
ok "a rate a quarter off is out of bounds" test $? -eq 0
for precision in fp32 bf16 fp16; do
        spec $precision.yaml cuda $precision
        train 1 $precision.yaml --run-dir $precision >$precision.log 2>&1
        ok "$precision on the device" test $? -eq 0
        apart $precision cpu "<= $(bound_of $precision)"
        ok "$precision: losses are the CPU's" test $? -eq 0
        kill_run pretrain $precision.yaml killed 3 6 && train 1 $precision.yaml --run-dir killed >>killed.log 2>&1 && "$TRAINER" diff "$(ckpt $precision 6)" "$(ckpt killed 6)" >/dev/null
        ok "$precision: killed after step 3 and resumed, same bits" test $? -eq 0
done
# the step's parts by the device's clock: all there from the second step on, and none is made up
for run in fp32 bf16; do
        jq -se '[.[] | select(.forward_sec)] | length == 6 and all(.[]; .forward_sec > 0 and .backward_sec > 0 and .exchange_sec >= 0 and
                (.forward_sec + .backward_sec) * .steps_per_sec < 1) and all(.[1:][]; .update_sec > 0)' $run/metrics.jsonl >/dev/null
        ok "$run: how the device spent its steps" test $? -eq 0
done
"$TRAINER" inspect "$(ckpt fp16 6)" | grep -q '"\?loss_scale"\?[: ]' && "$TRAINER" inspect "$(ckpt fp16 6)" | grep -q "backend.*cuda"
ok "a checkpoint says its loss scale and its backend" test $? -eq 0
cp -r fp32 moved
rm "$(ckpt moved 6)"
train 1 cpu.yaml --run-dir moved >moved.log 2>&1 && grep -q "resuming with another backend: cpu, was cuda" moved.log && apart moved cpu "<= $(bound_of fp32)"
ok "the CPU goes on with the device's checkpoint, and says so" test $? -eq 0
if have_ranks 2; then
        spec two.yaml cuda bf16
        sed -i 's/global_batch: 4, micro_batch: 2/global_batch: 4, micro_batch: 1/' two.yaml
        train 2 two.yaml --run-dir two >two.log 2>&1 && apart two cpu "<= $(bound_of bf16)"
        ok "two ranks, each a device: gradients are summed beside backward" test $? -eq 0
        cp -r two again
        rm "$(ckpt again 4)" "$(ckpt again 6)"
        train 2 two.yaml --run-dir again >again.log 2>&1 && "$TRAINER" diff "$(ckpt two 6)" "$(ckpt again 6)" >/dev/null
        ok "two ranks go on from step 2 with the same bits" test $? -eq 0
        sed 's/ steps: 6/ steps: 100000/; s/evaluate_every: 4/evaluate_every: 0/' two.yaml >long.yaml
        train 2 long.yaml --run-dir stopped >stopped.log 2>&1 &
        job=$!
        wait_for 30 test -s stopped/metrics.jsonl
        kill -USR1 "$(pgrep -P "$(pgrep -P $job)")" # mpirun, which timeout started
        wait $job
        ok "two ranks: SIGUSR1 still asks for a stop once NCCL is there" test $? -eq 75
        train 3 two.yaml --run-dir three >three.log 2>&1
        [ $? -ne 0 ] && grep -q "no GPU for rank 2 of this host, 2 are visible" three.log
        ok "a third has none" test $? -eq 0
        mv bin/libnccl.so.2 bin/elsewhere
        : >bin/libnccl.so.2 # found before any that this host has
        train 2 two.yaml --run-dir no-nccl >no-nccl.log 2>&1
        [ $? -ne 0 ] && grep -q "NCCL, which sums over ranks, cannot be loaded: .*file too short; install it or use one rank" no-nccl.log
        ok "two ranks without NCCL" test $? -eq 0
        train 1 bf16.yaml --run-dir no-nccl-one >no-nccl-one.log 2>&1
        ok "one rank needs no NCCL" test $? -eq 0
        mv bin/elsewhere bin/libnccl.so.2
fi
spec fast.yaml cuda bf16
sed -i 's/^train: {/train: {fast_gelu: true, /' fast.yaml
train 1 fast.yaml --run-dir fast >fast.log 2>&1 && apart fast cpu "<= $(bound_of bf16)"
ok "fast_gelu: losses are nearly the CPU's gelu's" test $? -eq 0
rm "$(ckpt fast 6)"
cp -r fast slow
train 1 bf16.yaml --run-dir slow >slow.log 2>&1
[ $? -eq 78 ] && grep -q "made with gelu tanh, the spec (train.fast_gelu) now gives none: this may not change on resume" slow.log
ok "a checkpoint of fast_gelu without it" test $? -eq 0
train 1 fast.yaml --run-dir fast >fast-again.log 2>&1
ok "and with it" test $? -eq 0
EMULATED_FAIL=cublasLtMatmul:20:14 train 1 bf16.yaml --run-dir broken >broken.log 2>&1
[ $? -ne 0 ] && grep -q "CUDA: cuBLASLt: emulated status 14: (.*), bf16" broken.log
ok "a product that breaks ends the run, and which it was is said" test $? -eq 0

awk 'BEGIN { srand(3); split("kernel memory page device", a); split("network socket packet signal", b)
        for (i = 0; i < 40; i++) { w = int(rand() * 4) + 1; printf "%s\tthe old %s reads it\n", i % 2 ? "core" : "net", i % 2 ? a[w] : b[w] } }' >parts.tsv
sed 's/"initializer_range": 0.02/"initializer_range": 0.2/' tiny.json >tune.json
tune_spec() { # tune_spec FILE DEVICE PRECISION [RATE]
        cat >"$1" <<SPEC
kind: finetune
device: $2
checkpoint: {every_steps: 2, every_sec: 0, keep: 100}
model: {config: tune.json, vocab: vocab.txt}
data: {train: [parts.tsv], validation: [parts.tsv], text: [2], label: 1, sequence_length: 32}
optimizer: {learning_rate: ${4:-5.0e-3}}
train: {global_batch: 8, micro_batch: 4, steps: 6, precision: $3}
SPEC
}

# train.precision: auto, which is what a spec that names none has
auto() { # auto SM RUN_DIR: two more steps on a GPU of that compute capability
        EMULATED_SM=$1 train 1 auto.yaml --run-dir "$2" >auto.log 2>&1
}
made_in() { "$TRAINER" inspect "$(ckpt "$1" 6)" | sed -n 's/^precision *//p'; }
spec auto.yaml cuda auto
sed -i 's/precision: auto, //' auto.yaml
auto 70 old
[ $? -eq 0 ] && [ "$(made_in old)" = fp16 ] && grep -q "^bert-trainer: train.precision: auto: fp16, as this GPU has no bf16 (rank 0 has emulated/sm_70/" auto.log && apart old cpu "<= $(bound_of fp16)"
ok "a GPU without bf16 computes in fp16 unless it is told otherwise" test $? -eq 0
auto 90 new
[ $? -eq 0 ] && [ "$(made_in new)" = fp32 ] && ! grep -q "train.precision" auto.log
ok "another in fp32" test $? -eq 0
rm "$(ckpt old 6)" "$(ckpt new 6)"
auto 90 old && [ "$(made_in old)" = fp16 ] && auto 70 new && [ "$(made_in new)" = fp32 ] && "$TRAINER" diff "$(ckpt new 6)" "$(ckpt fp32 6)" >/dev/null
ok "a run that continues keeps what it was begun in, on any GPU" test $? -eq 0
rm "$(ckpt old 6)"
truncate -s 100 "$(ckpt old 4)"
auto 90 old && grep -q "trying an older one" auto.log && [ "$(made_in old)" = fp16 ]
ok "its newest checkpoint is torn: all the same" test $? -eq 0
rm "$(ckpt old 6)"
sed 's/device: cuda/device: cpu/' auto.yaml >auto-cpu.yaml
train 1 auto-cpu.yaml --run-dir old >auto.log 2>&1
[ $? -eq 78 ] && grep -q "auto-cpu.yaml: the run was begun in fp16 (a new one can take its weights: model.init): train.precision: fp16 needs a GPU$" auto.log
ok "and is not continued on the CPU" test $? -eq 0
if have_ranks 2; then
        sed 's/micro_batch: 2/micro_batch: 1/' auto.yaml >mixed.yaml
        CUDA_VISIBLE_DEVICES=MIG-a,MIG-b mpirun --oversubscribe -n 1 -x EMULATED_SM=70 "$TRAINER" pretrain mixed.yaml --run-dir mixed : -n 1 -x EMULATED_SM=90 "$TRAINER" pretrain mixed.yaml --run-dir mixed >mixed.log 2>&1
        [ $? -eq 0 ] && [ "$(made_in mixed)" = fp16 ] && grep -q "auto: fp16, as a GPU has no bf16 (rank 0 has emulated/sm_70/" mixed.log && apart mixed cpu "<= $(bound_of fp16)"
        ok "where one of two GPUs has no bf16 both compute in fp16" test $? -eq 0
fi
tune_spec prices.yaml cuda auto 1.0e-2
awk 'BEGIN { for (i = 0; i < 40; i++) printf "%d\tthe old %s reads it\n", 100000 + 12345 * i, i % 2 ? "kernel" : "socket" }' >prices.tsv
sed -i 's/parts.tsv/prices.tsv/g; s/label: 1,/label: 1, labels: number,/; s/, precision: auto//; s/steps: 6/steps: 400/' prices.yaml
EMULATED_SM=70 timeout 120 "$TRAINER" finetune prices.yaml --run-dir prices >prices.log 2>&1
[ $? -eq 77 ] && grep -q "not finite.*; a new run with train.precision: fp32 has more range$" prices.log
ok "what fp16 cannot hold ends with what can" test $? -eq 0
for precision in bf16 tf32; do
        spec refused.yaml cuda $precision
        EMULATED_SM=70 train 1 refused.yaml --run-dir refused >refused.log 2>&1
        [ $? -eq 78 ] && grep -q "train.precision: $precision needs compute capability 8.0, emulated has 7.0; use fp16 there$" refused.log
        ok "a GPU without $precision refuses it, with what to use" test $? -eq 0
        sed "s/device: cuda/device: auto/" refused.yaml >refused-auto.yaml
        EMULATED_SM=70 train 1 refused-auto.yaml --run-dir refused >refused.log 2>&1
        [ $? -eq 78 ] && [ "$(grep -c . refused.log)" -eq 1 ] && grep -q "train.precision: $precision needs a GPU; train.precision: $precision needs compute capability 8.0, " refused.log
        ok "also where the device is left open" test $? -eq 0
done

# memory: told before anything is allocated, with what fits, which then does; and not more
spec full.yaml cuda bf16
sed -i 's/micro_batch: 2/micro_batch: 9000/' full.yaml
full() { # full ALL[:OTHERS] MICRO_BATCH [KEYS]: two steps with a batch of 4
        sed "s/micro_batch: 9000/micro_batch: $2${3:+, $3}/; s/ steps: 6/ steps: 2/; s/evaluate_every: 4/evaluate_every: 0/" full.yaml >full-$2.yaml
        rm -rf full
        EMULATED_MEMORY=$1 train 1 full-$2.yaml --run-dir full >full.log 2>&1
}
card=314572800
full $card 9000
[ $? -eq 78 ] && [ "$(grep -c . full.log)" -eq 1 ] &&
        grep -q "^bert-trainer: full-9000.yaml: train.micro_batch: 9000: needs [0-9]* MiB of GPU memory, but 252 of 300 MiB are free (emulated); at most [0-9]* fit, or [0-9]* with train.recompute_activations: true$" full.log
ok "a run that does not fit is refused, with what does" test $? -eq 0
fit=$(sed -n 's/.* at most \([0-9]*\) fit, .*/\1/p' full.log) again=$(sed -n 's/.* or \([0-9]*\) with .*/\1/p' full.log)
full $card "$fit"
ok "what fits does" test $? -eq 0
full $card $((fit + 1))
[ $? -eq 78 ] && grep -q "at most $fit fit, or $((fit + 1)) with train.recompute_activations: true$" full.log
ok "one more does not" test $? -eq 0
full $card "$again" "recompute_activations: true"
ok "what fits if activations are recomputed does" test $? -eq 0
full 1073741824:876609536 "$fit"
[ $? -eq 71 ] && grep -q "but 140 of 1024 MiB are free (emulated): other processes use it, nvidia-smi names them; at most [0-9]* fit, or [0-9]* with " full.log
ok "memory that others use may come back: exit 71" test $? -eq 0
full 140000000 1
[ $? -eq 78 ] && grep -q "; even 1 does not fit with train.recompute_activations: true: use a GPU with more memory, or a smaller model$" full.log
ok "nothing fits" test $? -eq 0
if have_ranks 2; then
        sed 's/micro_batch: 9000/micro_batch: 2/' full.yaml >full-2.yaml
        EMULATED_MEMORY=1000000000 train 2 full-2.yaml --run-dir full-ranks >full.log 2>&1
        [ $? -eq 78 ] && grep -q "rank 0.*: needs [0-9]* MiB of GPU memory, but 905 of 953 MiB are free" full.log && EMULATED_MEMORY=1000000000 train 1 full-2.yaml --run-dir full-rank >full.log 2>&1
        ok "two ranks need buffers to sum in, one does not" test $? -eq 0
fi

# CPUs: those next to a rank's GPU, by files of the kernel that are not this machine's, within what the run may use
mask() { sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "/proc/$1/status"; }
cpus=$(mask self)
first=${cpus%%[-,]*}
second=$(taskset -cp $$ >/dev/null 2>&1 && python3 -c 'import os; print((sorted(os.sched_getaffinity(0)) + [""])[1])')
near() { # near ADDRESS LIST: the CPUs next to the GPU there
        mkdir -p "sysfs/bus/pci/devices/$1"
        echo "$2" >"sysfs/bus/pci/devices/$1/local_cpulist"
}
export BERTD_SYSFS=$work/sysfs EMULATED_PCI=0000:3B:00.0,0001:AF:00.1
sed 's/ steps: 6/ steps: 100000/; s/evaluate_every: 4/evaluate_every: 0/' bf16.yaml >bound.yaml
bound() { # bound RANKS [COMMAND…]: runs until its first step; the masks of its ranks in `masks`, in order
        ranks=$1
        shift
        rm -rf bound masks
        if [ "$ranks" -eq 1 ]; then
                "$@" "$TRAINER" pretrain bound.yaml --run-dir bound >bound.log 2>&1 &
        else
                "$@" mpirun --oversubscribe --bind-to none -n "$ranks" "$TRAINER" pretrain bound.yaml --run-dir bound >bound.log 2>&1 &
        fi
        job=$!
        wait_for 60 test -s bound/metrics.jsonl || sed 's/^/# /' bound.log
        for pid in $(pgrep -f "^$TRAINER pretrain bound.yaml"); do
                echo "$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p') $(mask "$pid")"
                for task in "/proc/$pid/task"/*; do mask "$pid/task/${task##*/}"; done | sort -u | grep -c . >threads
        done | sort >masks
        kill $job
        wait $job
}
if [ -n "$second" ]; then
        near 0000:3b:00.0 "$first"
        bound 1
        [ "$(cat masks)" = " $first" ] && grep -q "^bert-trainer: rank 0 runs on CPUs $first, next to its GPU (0000:3b:00.0)$" bound.log && [ "$(cat threads)" -eq 1 ]
        ok "a run is on the CPUs next to its GPU, with all of its threads" test $? -eq 0
        near 0000:3b:00.0 "$first,8000"
        bound 1 taskset -c "$second"
        [ "$(cat masks)" = " $second" ] && ! grep -q "runs on CPUs" bound.log
        ok "it stays within the mask that it was given" test $? -eq 0
        bound 1 taskset -c "$first,$second"
        ok "and on what both have in common" grep -q "runs on CPUs $first, next to" bound.log
        for list in "" nonsense; do
                near 0000:3b:00.0 "$list"
                bound 1
                [ "$(cat masks)" = " $cpus" ] && ! grep -q "runs on CPUs" bound.log
                ok "the kernel says '$list': as it was" test $? -eq 0
        done
        rm -r sysfs
        bound 1
        ok "the kernel says nothing: as it was" test "$(cat masks)" = " $cpus"
        if have_ranks 2; then
                near 0000:3b:00.0 "$first,$second"
                near 0001:af:00.1 "$first,$second"
                bound 2
                ok "two ranks divide the CPUs next to both" test "$(cat masks)" = "$(printf '0 %s\n1 %s' "$first" "$second")"
                near 0001:af:00.1 "$second"
                near 0000:3b:00.0 "$first"
                bound 2
                ok "or have their own" test "$(cat masks)" = "$(printf '0 %s\n1 %s' "$first" "$second")"
                bound 2 taskset -c "$second"
                ok "one that could use none of them stays as it was" test "$(cat masks)" = "$(printf '0 %s\n1 %s' "$second" "$second")"
        fi
        near 0000:3b:00.0 "$first"
        sed 's/^device: cuda$/device: cpu/; s/precision: bf16/precision: fp32/' bound.yaml >cpu-bound.yaml && mv cpu-bound.yaml bound.yaml
        bound 1
        ok "without a GPU nothing changes" test "$(cat masks)" = " $cpus"
else
        skip "CPUs next to a GPU" "one CPU"
fi
unset BERTD_SYSFS EMULATED_PCI

# MIG: of MIG devices a process sees one, so each rank leaves itself its own; NCCL takes no two of one GPU
mig() { CUDA_VISIBLE_DEVICES=$1 train "$2" "$3" --run-dir mig >mig.log 2>&1; }
seen() { sed -n 's/^emulation: .*visible: //p' mig.log | sort | paste -sd ' '; }
export EMULATED_VISIBLE=yes
mig "MIG-a, MIG-GPU-b/7/0" 1 bf16.yaml
ok "a rank sees its own MIG device alone" test $? -eq 0 -a "$(seen)" = MIG-a
rm -rf mig
mig GPU-a,GPU-b 1 bf16.yaml
ok "of GPUs that are whole all are seen" test $? -eq 0 -a "$(seen)" = GPU-a,GPU-b
rm -rf mig
if have_ranks 2; then
        mig "MIG-a, MIG-GPU-b/7/0" 2 two.yaml
        ok "two ranks, each its own" test $? -eq 0 -a "$(seen)" = "MIG-GPU-b/7/0 MIG-a"
        rm -rf mig
        mig MIG-a 2 two.yaml
        [ $? -ne 0 ] && grep -q "no GPU for rank 1 of this host, CUDA_VISIBLE_DEVICES has 1$" mig.log
        ok "a second rank has none" test $? -eq 0
        rm -rf mig
        EMULATED_PCI=0000:3b:00.0,0000:3b:00.0 EMULATED_FAIL=ncclCommInitRank:1:5 mig MIG-a,MIG-b 2 two.yaml
        [ $? -ne 0 ] && grep -q "NCCL: .*; ranks 0 and 1 share a GPU (0000:3b:00.0), which NCCL refuses$" mig.log
        ok "two MIG devices of one GPU: why NCCL refuses is said" test $? -eq 0
fi
unset EMULATED_VISIBLE

tune_spec tune-cpu.yaml cpu fp32
timeout 120 "$TRAINER" finetune tune-cpu.yaml --run-dir tune-cpu >tune-cpu.log 2>&1
ok "a classifier on the CPU" test $? -eq 0
tune_spec slower.yaml cpu fp32 3.75e-3
timeout 120 "$TRAINER" finetune slower.yaml --run-dir tune-slower >slower.log 2>&1 && apart tune-slower tune-cpu "> 4 * $(bound_of bf16)"
ok "a classifier: a rate a quarter off is out of bounds" test $? -eq 0
for precision in bf16 fp16; do
        tune_spec tune.yaml cuda $precision
        rm -rf whole
        timeout 120 "$TRAINER" finetune tune.yaml --run-dir whole >whole.log 2>&1 && apart whole tune-cpu "<= $(bound_of $precision)"
        ok "a classifier in $precision: losses are the CPU's" test $? -eq 0
        kill_run finetune tune.yaml killed 3 6 && timeout 120 "$TRAINER" finetune tune.yaml --run-dir killed >>killed.log 2>&1 && "$TRAINER" diff "$(ckpt whole 6)" "$(ckpt killed 6)" >/dev/null
        ok "a classifier in $precision: killed after step 3 and resumed, same bits" test $? -eq 0
done
sed 's/^[a-z]*\t//' parts.tsv >parts.txt
for device in cpu cuda; do
        "$TRAINER" evaluate --device $device whole/best.ckpt parts.tsv >$device.figures 2>err && grep -q "^texts     40" $device.figures &&
                "$TRAINER" predict --device $device whole/best.ckpt parts.txt >$device.json
        ok "evaluate and predict: $device" test $? -eq 0
done
cmp -s cpu.figures cuda.figures && jq -c '[.label, (.probabilities.core * 10000 | round)]' cpu.json >a && jq -c '[.label, (.probabilities.core * 10000 | round)]' cuda.json >b && cmp -s a b
ok "they agree" test $? -eq 0
ok "a device of another kind" refuses 2 "^bert-trainer: --device: 'tpu', expected auto, cpu or cuda: did you mean cpu?$" "$TRAINER" predict --device tpu whole/best.ckpt parts.txt
finish
