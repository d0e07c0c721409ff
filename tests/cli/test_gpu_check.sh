#!/bin/sh
# scripts/gpu-check run, with a GPU, compilers and programs that are scripts: what fails is named and fails it, what is not installed is said.
. "${SOURCE_DIR:-$(dirname "$0")/../..}/tests/lib.sh"
tap_start
diagnose() { cat "$work/said"; }
program() { # program PATH: a script from standard input that fails where FAIL names it
        mkdir -p "$(dirname "$1")"
        { printf '#!/bin/sh\ncase " $FAIL " in *" %s "*) echo "it fails" >&2; exit 1 ;; esac\n' "$(basename "$1")"; cat; } >"$1"
        chmod +x "$1"
}
checks() { # checks CODE FAIL: runs it with these failing; what it prints is in $work/said
        code=$1
        rm -f "$work/tree/out/gpu-run.md"
        FAIL=$2 PATH=$work/bin:/usr/bin:/bin PYTHONPATH=$work/python "$work/tree/scripts/gpu-check" run out >"$work/said" 2>&1
        [ $? -eq "$code" ]
}
last_line() { # last_line FILE PATTERN
        tail -n 1 "$1" | grep -q -x -e "$2"
}

mkdir -p "$work/tree/scripts" "$work/tree/trainer/cuda" "$work/tree/tests/gpu" "$work/tree/tests/bench" "$work/tree/examples" "$work/python"
cp "$source_dir/scripts/gpu-check" "$work/tree/scripts"
cp -r "$source_dir/examples/configs" "$work/tree/examples"
touch "$work/tree/trainer/cuda/flat.cu" "$work/python/torch.py"
carry=$work/tree/build-gpu/carry
echo 'import os, sys; sys.exit("torch_errors" in os.environ["FAIL"])' >"$work/tree/tests/gpu/torch_errors.py"
echo 'import os, sys; sys.exit("bench_torch" in os.environ["FAIL"])' >"$work/tree/tests/bench/bench_torch_gpu.py"
echo 'echo 9.0' | program "$work/bin/nvidia-smi"
echo 'echo "Used 40 registers" >&2; [ "$1" != --version ] || printf "a\nrelease 13\nb\n"' | program "$work/bin/nvcc"
echo 'echo "PASSED"' | program "$work/bin/compute-sanitizer"
for name in gpu_ops gpu_model; do echo 'echo "[  PASSED  ]"' | program "$carry/bin/$name"; done
echo 'echo floors' | program "$carry/bin/bench_ops"
program "$carry/bin/bert-trainer" <<'END'
case $1 in --version) echo "bert-trainer 1"; exit ;; esac
case " $FAIL " in *" $(basename "$2" .yaml) "*) echo "out of memory" >&2; exit 1 ;; esac
mkdir -p "$4"
echo '{"samples_per_sec": 2, "flops_per_sec": 1e12, "loss": 7.5}' >"$4/metrics.jsonl"
END
echo abc1234 >"$carry/commit"

ok "all is well: exit code 0" checks 0 ""
ok "and the last line says so" last_line "$work/said" 'gpu-check: every step passed'
ok "the report has it, and the commit" grep -q 'at commit abc1234' "$work/tree/out/gpu-run.md"
for name in gpu_ops gpu_model torch_errors compute-sanitizer bench_torch_gpu; do
        ok "$name fails: exit code 1" checks 1 "$name"
        ok "and the last line names it" last_line "$work/said" "gpu-check: failed: $name"
done
ok "a training run fails: exit code 1" checks 1 large-512
ok "and the last line names it" last_line "$work/said" 'gpu-check: failed: training large-512'
ok "its row has the trainer's message" grep -q '^| large-512 | 24 | failed: out of memory' "$work/said"
ok "two fail: exit code 1" checks 1 "gpu_ops bench_ops"
ok "and all that came after the first ran, too" last_line "$work/said" \
        'gpu-check: failed: gpu_ops, bench_ops bert-large-uncased 128, bench_ops bert-large-uncased 512'
ok "the module does not compile: exit code 1" checks 1 nvcc
ok "and the last line names it" last_line "$work/said" 'gpu-check: failed: CUDA module.*'
echo 'raise ImportError' >"$work/python/torch.py"
left=PyTorch
[ -e /usr/local/cuda/bin/compute-sanitizer ] || { rm "$work/bin/compute-sanitizer"; left='compute-sanitizer, PyTorch'; }
ok "without $left: exit code 0" checks 0 ""
ok "and the last line says what was left out" last_line "$work/said" "gpu-check: every step passed; left out: $left"
rm "$work/bin/nvidia-smi"
if command -v nvidia-smi >/dev/null; then
        skip "without a driver: exit code 77" "this host has one"
else
        ok "without a driver: exit code 77" checks 77 ""
fi
finish
