#!/bin/sh
# scripts/gpu-check run, with a GPU, compilers and programs that are scripts: what fails is named and fails it, what is not installed is said,
# and no step costs another. tests/gpu/test_rehearsal.sh does it with the real programs.
. "${SOURCE_DIR:-$(dirname "$0")/../..}/tests/lib.sh"
tap_start
diagnose() { cat "$work/said"; }
program() { # program PATH: a script from standard input that fails where FAIL names it
        mkdir -p "$(dirname "$1")"
        { printf '#!/bin/sh\ncase " $FAIL " in *" %s "*) echo "it fails" >&2; exit 1 ;; esac\n' "$(basename "$1")"; cat; } >"$1"
        chmod +x "$1"
}
checks() { # checks CODE tests|speed FAIL: runs it with these failing; what it prints is in $work/said, its logs in $work/logs
        code=$1
        rm -rf "$work/tree/out" "$work/logs"
        FAIL=$3 GPU_CHECK_PATIENCE=10 PATH=$work/bin:/usr/bin:/bin PYTHONPATH=$work/python "$work/tree/scripts/gpu-check" run "$2" out >"$work/said" 2>&1
        [ $? -eq "$code" ] && tar -C "$work" -xzf "$work/tree/out/gpu-$2-logs.tar.gz"
}
last_line() { # last_line FILE PATTERN
        tail -n 1 "$1" | grep -q -x -e "$2"
}

mkdir -p "$work/tree/scripts" "$work/tree/trainer/ops/cuda" "$work/tree/tests/bench" "$work/python"
cp "$source_dir/scripts/gpu-check" "$work/tree/scripts"
touch "$work/tree/trainer/ops/cuda/flat.cu" "$work/python/torch.py"
carry=$work/tree/build-gpu/carry
cat >"$work/tree/tests/bench/bench_torch_gpu.py" <<'END'
import os, sys
if "bench_torch" in os.environ["FAIL"]: sys.exit("it fails")
print(f"| {sys.argv[1]}-{sys.argv[2]} | {sys.argv[3]} | 1 |")
END
echo 'case $* in *lms*) echo head; echo "now, 1500 MHz, 2 MHz, 650.5 W, 40, 99 %"; exec sleep 20 ;; *) echo 9.0 ;; esac' | program "$work/bin/nvidia-smi"
cat <<'END' | program "$work/bin/nvcc"
while [ $# -gt 0 ]; do
        if [ "$1" = -o ]; then : >"$2"; fi
        shift
done
END
echo 'echo "ERROR SUMMARY: 0 errors"; case " $FAIL " in *" $2 "*) exit 9 ;; esac' | program "$work/bin/compute-sanitizer"
echo '[ "$GPU_PRECISION" != none ] || { [ -e "$BERTD_CUDA_MODULE" ] && ! grep -q bad "$BERTD_CUDA_MODULE"; exit; }; echo "[  PASSED  ] $CUDA_LAUNCH_BLOCKING"' | program "$carry/bin/gpu_ops"
echo 'echo "[  PASSED  ]"' | program "$carry/bin/gpu_model"
echo 'echo floors' | program "$carry/bin/bench_ops"
program "$carry/bin/bert-trainer" <<'END'
case $1 in
--version) echo "bert-trainer 1"; exit ;;
diff) cmp "$2" "$3"; exit ;;
esac
name=$(basename "$2" .yaml)
case " $FAIL " in *" $name "*) echo "out of memory" >&2; exit 1 ;; esac
mkdir -p "$4/checkpoints"
steps=$(sed -n 's/.* steps: \([0-9]*\),.*/\1/p' "$2")
[ "$steps" -lt 70 ] || steps=70
for i in $(seq "$steps"); do echo '{"samples_per_sec": 2, "tokens_per_sec": 250, "flops_per_sec": 1e12, "loss": 7.5}'; done >"$4/metrics.jsonl"
case $name in large-512) echo '{"samples_per' >>"$4/metrics.jsonl" ;; esac
if [ "$name" = resume ]; then
        touch "$4/checkpoints/step-000001000.ckpt"
        case $4 in *killed) [ -e "$4/once" ] || { touch "$4/once"; exec sleep 30; } ;; esac
        case " $FAIL " in *" bits "*) echo "$4" >"$4/checkpoints/step-000002000.ckpt" ;; *) touch "$4/checkpoints/step-000002000.ckpt" ;; esac
fi
case $name in large-*) exec sleep 30 ;; esac
END
mkdir -p "$carry/bin/ops/cuda"
touch "$carry/bin/ops/cuda/bert-trainer-cuda.so"
echo abc1234 >"$carry/commit"

ok "all is well: exit code 0" checks 0 tests ""
ok "and the last line says so" last_line "$work/said" 'gpu-check: every step passed'
ok "the report has it, and the commit" grep -q 'at commit abc1234' "$work/tree/out/gpu-tests.md"
ok "the packed module is used" grep -q '^The packed module loads' "$work/said"
ok "a run was killed and gave the same bits" grep -q 'resumed after kill -9: the same bits' "$work/said"
for name in gpu_ops gpu_model memcheck racecheck; do
        ok "$name fails: exit code 1" checks 1 tests "$name"
        [ "$name" != gpu_ops ] || name="CUDA module, gpu_ops" # which also sees whether the module loads
        ok "and the last line names it" last_line "$work/said" "gpu-check: failed: $name"
done
ok "what failed is run again, launch by launch, and its log comes back" test -s "$work/logs/racecheck-again.log"
ok "other bits after kill -9: exit code 1" checks 1 tests bits
ok "and the last line names it" last_line "$work/said" 'gpu-check: failed: resume'
echo bad >"$carry/bin/ops/cuda/bert-trainer-cuda.so"
ok "a packed module that does not load is built there" checks 0 tests ""
echo bad >"$carry/bin/ops/cuda/bert-trainer-cuda.so"
ok "the module does not compile: exit code 1" checks 1 tests nvcc
ok "and the last line names it" last_line "$work/said" 'gpu-check: failed: CUDA module.*'
ok "and why it does not is said" grep -q 'it fails' "$work/said"
: >"$carry/bin/ops/cuda/bert-trainer-cuda.so"

ok "speed: exit code 0" checks 0 speed ""
ok "and the last line says so" last_line "$work/said" 'gpu-check: every step passed'
ok "a run is over when it has logged enough" grep -q '^| large-128 x 128 | 70 | 2.0 | 125 | 1.0 |' "$work/said"
ok "a line that was cut off is no step" grep -q '^| large-512 x 24 | 70 |' "$work/said"
ok "PyTorch's rows stand beside" grep -q '^| large-512 | 24 | 1 |' "$work/said"
ok "clocks and power are said" grep -q 'Clocks, power: 1500 MHz on average under load, at most 1500 MHz and 650 W' "$work/said"
ok "a training run fails: exit code 1" checks 1 speed large-512
ok "and the last line names it" last_line "$work/said" 'gpu-check: failed: training large-512 x 24'
ok "its row has the trainer's message" grep -q '^| large-512 x 24 | failed: out of memory' "$work/said"
ok "two fail: exit code 1" checks 1 speed "bench_torch bench_ops"
ok "and all that came after the first ran, too" last_line "$work/said" \
        'gpu-check: failed: PyTorch large-128 x 128, PyTorch large-512 x 24, bench_ops bert-large-uncased 128, bench_ops bert-large-uncased 512, PyTorch large-128 x 256'
echo 'raise ImportError' >"$work/python/torch.py"
ok "without PyTorch: exit code 0" checks 0 speed ""
ok "and the last line says what was left out" last_line "$work/said" "gpu-check: every step passed; left out: PyTorch"
rm "$work/bin/nvidia-smi"
if command -v nvidia-smi >/dev/null; then
        skip "without a driver: exit code 77" "this host has one"
else
        FAIL="" PATH=$work/bin:/usr/bin:/bin "$work/tree/scripts/gpu-check" run tests out >"$work/said" 2>&1
        ok "without a driver: exit code 77" test $? -eq 77
fi
finish
