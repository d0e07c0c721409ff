#!/bin/sh
# What a run does with signals, BERTD_RUN_DIR and BERTD_RESUME, device, precision and log_every.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
pid=
cleanup() { [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null; }
steps_of() { sed -n 's/^{"step": \([0-9]*\), "loss".*/\1/p' "$1/metrics.jsonl" | xargs; }

# Signals, alone: a shell's background ignores Ctrl-C, which counts as the user's wish.
write_spec long.yaml 100000000 0
sed -i 's/evaluate_every: 4/evaluate_every: 0/' long.yaml
begin() { # NAME [OPTION OF env]: trains from here on
        name=$1
        shift
        env "$@" "$TRAINER" pretrain "${spec:-long.yaml}" --run-dir "$name" >"$name.log" 2>&1 &
        pid=$!
        wait_for 30 logged 3
}
logged() { [ "$(wc -l 2>/dev/null <"$name/metrics.jsonl")" -ge "$1" ] 2>/dev/null; }
ended() { # CODE
        status=0
        wait "$pid" || status=$?
        pid=
        equal "$status" "$1"
}
for signal in INT HUP TERM USR1; do
        begin $signal --default-signal=INT,HUP
        kill -$signal "$pid"
        ok "SIG$signal: exit 75" ended 75
        last=$(steps_of $signal | sed 's/.* //')
        ok "with a checkpoint of the last step" test -s "$(ckpt $signal "$last")"
done
begin nohup --ignore-signal=HUP,INT
kill -HUP "$pid"
kill -INT "$pid"
n=$(wc -l <nohup/metrics.jsonl)
ok "SIGHUP and SIGINT that were ignored stay so" wait_for 30 logged $((n + 20))
kill -TERM "$pid"
ok "SIGTERM ends it" ended 75
# Steps that take a second: the first Ctrl-C, which takes its handler away, waits for the end of one; the second does not.
sed 's/"hidden_size": 16/"hidden_size": 256/; s/"intermediate_size": 32/"intermediate_size": 1024/' tiny.json >large.json
sed 's/tiny.json/large.json/; s/global_batch: 7, micro_batch: 2/global_batch: 256, micro_batch: 256/' long.yaml >slow.yaml
name=twice
env --default-signal=INT "$TRAINER" pretrain slow.yaml --run-dir twice >twice.log 2>&1 &
pid=$!
wait_for 60 logged 1
sleep 0.2
kill -INT "$pid"
taken() { [ $((0x0$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) & 2)) -eq 0 ]; }
for _ in $(seq 1000); do ! taken || break; done
kill -INT "$pid"
ok "a second SIGINT ends it at once" ended 130
ok "without a checkpoint" test -z "$(find twice/checkpoints -name 'step-*')"

# The environment stands in for the options.
write_spec short.yaml 6 3
BERTD_RUN_DIR=env train 1 short.yaml >env.log 2>&1
ok "BERTD_RUN_DIR names the run folder" test -s "$(ckpt env 6)"
BERTD_RUN_DIR=env train 1 short.yaml --run-dir option >option.log 2>&1
ok "unless --run-dir does" test -s "$(ckpt option 6)"
export BERTD_RESUME="$(ckpt env 3)"
train 1 short.yaml --run-dir resumed >resumed.log 2>&1
ok "BERTD_RESUME names the checkpoint" grep -q "^resuming from env/checkpoints/step-000000003.ckpt, step 3 of 6" resumed.log
ok "with the same bits at the end" quietly "$TRAINER" diff "$(ckpt env 6)" "$(ckpt resumed 6)"
train 1 short.yaml --run-dir resumed2 --resume "$(ckpt env 6)" >resumed2.log 2>&1
ok "unless --resume does" grep -q "^resuming from env/checkpoints/step-000000006.ckpt" resumed2.log
unset BERTD_RESUME
cp -r env newer
train 1 short.yaml --run-dir newer --resume "$(ckpt newer 3)" --abandon-newer >newer.log 2>&1
ok "--abandon-newer moves later checkpoints away" cmp "$(ckpt env 6)" newer/checkpoints/abandoned/step-000000006.ckpt
ok "and goes on from the one that was named" grep -q "^resuming from newer/checkpoints/step-000000003.ckpt" newer.log

# Rows of the metrics.
sed 's/evaluate_every: 4/evaluate_every: 0, log_every: 5/; s/steps: 6/steps: 13/' short.yaml >rows.yaml
train 1 rows.yaml --run-dir rows >rows.log 2>&1
is "log_every: 5: a row every five steps, and one of the last" "$(steps_of rows)" "5 10 13"

# The reference precision.
sed 's/steps: 6/steps: 12, precision: fp64/; s/every_steps: 3/every_steps: 5/' short.yaml >fp64.yaml
sed 's/, precision: fp64//' fp64.yaml >fp32.yaml
train 1 fp32.yaml --run-dir fp32 >fp32.log 2>&1
train 1 fp64.yaml --run-dir fp64 >fp64.log 2>&1
losses() { sed -n 's/^{"step": [0-9]*, "loss": \([0-9.]*\).*/\1/p' "$1/metrics.jsonl"; }
losses fp32 >a
losses fp64 >b
near() { paste a b | awk '{ d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > worst) worst = d } END { print NR, worst; exit !(NR == 12 && worst < 1e-5) }'; }
ok "precision: fp64 has the losses of fp32, to five digits" near
ok "and not its bits" exits 1 quietly "$TRAINER" diff "$(ckpt fp32 12)" "$(ckpt fp64 12)"
train 1 fp64.yaml --run-dir fp64b --resume "$(ckpt fp64 5)" >fp64b.log 2>&1
ok "resumed it ends with the same bits" quietly "$TRAINER" diff "$(ckpt fp64 12)" "$(ckpt fp64b 12)"
sed 's/fp64/bf16/; $adevice: cpu' fp64.yaml >bf16.yaml
ok "bf16 is no precision of a CPU" refuses 78 "train.precision: bf16 needs a GPU" "$TRAINER" pretrain bf16.yaml --run-dir new

# device: cuda, by a copy of the program, whose module is looked for beside it.
{ cat short.yaml; echo "device: cuda"; } >cuda.yaml
mkdir bin
cp "$TRAINER" bin/
if [ -e /usr/local/libexec/bertd/bert-trainer-cuda.so ]; then skip "without the module" "it is installed"; else
        ok "device: cuda without the CUDA module: 78" refuses 78 "device: cuda: built without the CUDA module" bin/bert-trainer pretrain cuda.yaml --run-dir new
fi
mkdir -p bin/ops/cuda
: >bin/ops/cuda/bert-trainer-cuda.so
if python3 -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null; then skip "without a driver" "there is one"; else
        ok "with it but without a driver: 1" refuses 1 "device: cuda: no NVIDIA driver on this host" bin/bert-trainer pretrain cuda.yaml --run-dir new
        sed -i 's/device: cuda/device: auto/' cuda.yaml
        train 1 cuda.yaml --run-dir auto >auto.log 2>&1
        ok "device: auto computes on the CPU then" test -s "$(ckpt auto 6)"
fi
finish
