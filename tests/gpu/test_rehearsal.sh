#!/bin/sh
# scripts/gpu-check run from end to end with the real programs, on an emulated GPU: what it asks of them, what it reads of what they say, and
# that all of it passes. Shapes and steps are small (GPU_CHECK_SMALL); nvidia-smi and compute-sanitizer are scripts. TAP.
. "$SOURCE_DIR/tests/cli/trainer-lib.sh"
diagnose() { cat said logs/*again.log 2>/dev/null; }
make_inputs
mkdir -p tree/scripts tree/build-gpu/carry/bin/ops/cuda tree/build-gpu/carry/lib tree/build-gpu/carry/configs bin
cp "$SOURCE_DIR/scripts/gpu-check" tree/scripts
carry=tree/build-gpu/carry
cp "$TRAINER" "$BUILD_DIR/tests/gpu/gpu_ops" "$BUILD_DIR/tests/gpu/gpu_model" "$BUILD_DIR/tests/bench_ops" $carry/bin
cp "$EMULATED_MODULE" $carry/bin/ops/cuda/bert-trainer-cuda.so
cp "$EMULATED_DRIVER" $carry/lib/libcuda.so.1
for name in bert-tiny bert-base-uncased bert-large-uncased bert-large-tanh albert-base-v1; do cp tiny.json $carry/configs/$name.json; done
cp vocab.txt $carry
cp corpus.* $carry
echo rehearsal >$carry/commit
printf '#!/bin/sh\ncase $* in *lms*) echo head; exec sleep 600 ;; esac\necho "emulated, 0"\n' >bin/nvidia-smi
printf '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift 2; done\n"$@" && echo "ERROR SUMMARY: 0 errors"\n' >bin/compute-sanitizer
chmod +x bin/nvidia-smi bin/compute-sanitizer
mkdir python
echo 'raise ImportError' >python/torch.py # one that finds no GPU would fail
rehearse() { # rehearse tests|speed
        GPU_CHECK_SMALL=1 GPU_CHECK_PATIENCE=10 GPU_PRECISION=bf16 GPU_SHAPES=few PYTHONPATH=$work/python GPU_DEVICE=/dev/null PATH=$work/bin:$PATH "$work/tree/scripts/gpu-check" run "$1" out >said 2>&1
}
loss_of() { # loss_of ROW: of the last step
        sed -n "s/^| $1 | .*, \([0-9.]*\) |\$/\1/p" said
}
ok "tests: every step passes" rehearse tests
ok "the last line says so" sh -c 'tail -n 1 said | grep -q "^gpu-check: every step passed"'
ok "all operations have passed" grep -q 'PASSED.*7 test' said
ok "gpu_model ran" grep -q 'products by cuBLASLt' said
for row in tiny-fp32 tiny-bf16 tiny-fp16; do
        ok "$row: its loss is the CPU's" awk -v a="$(loss_of tiny-cpu)" -v b="$(loss_of $row)" 'BEGIN { exit !(a > 1 && b > 1 && (a - b) ^ 2 < 0.0025 * a ^ 2) }'
done
ok "the report and the logs are there" sh -c 'test -s tree/out/gpu-tests.md && tar -tzf tree/out/gpu-tests-logs.tar.gz | grep -q memcheck.log'
ok "speed: every step passes" rehearse speed
ok "a row has its figures" grep -q '^| large-512 x 2 | [0-9]* | [0-9.]* | 3[0-2] | ' said
ok "bench_ops' table is whole" test "$(grep -c '^| all | |' said)" -eq 2
ok "no checkpoint was written" sh -c '! tar -tzf tree/out/gpu-speed-logs.tar.gz | grep -q ckpt'
finish
