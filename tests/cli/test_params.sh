#!/bin/sh
# params: memory on the CPU and on GPUs that are not there, the largest micro-batch that fits one, and docs/gpu.md's table of them. TAP.
. "$(dirname "$0")/trainer-lib.sh"
large=$SOURCE_DIR/examples/configs/bert-large-uncased.json
params() { "$TRAINER" params --json "$@" "$large"; }
fit() { params --gpu-memory "$@" | jq -c '.largest_micro_batch | [.plain, .recompute, .plain_host_snapshot, .recompute_host_snapshot]'; }

params --precision fp16 | jq -e '.memory_bytes | .parameters == (.gradients * 1.5) and .moments == .gradients * 2 and .checkpoints == .gradients * 3 and
        .total == .parameters + .gradients + .moments + .activations + .communication and .communication == 1073741824' >/dev/null
ok "fp16: a rounded copy beside the parameters, none of it in a checkpoint" test $? -eq 0
params --precision fp32 >fp32.json
params --precision bf16 >bf16.json
params >cpu.json
ok "half of the activations in 16 bits" jq -es '.[0].memory_bytes as $s | .[1].memory_bytes as $h | $h.activations < $s.activations * 0.55 and $h.activations > $s.activations * 0.45' fp32.json bf16.json
ok "the CPU sums in no buffers" jq -e '.memory_bytes | (.communication == null) and .total == .parameters + .gradients + .moments + .activations' cpu.json
ok "nor does one GPU, but its code takes some" test "$(params --precision bf16 --ranks 1 | jq .memory_bytes.communication)" -eq 134217728
fits() { # fits MICRO_BATCH ROOM: what that takes is in it, one more is not
        [ "$(params --precision bf16 --micro-batch "$1" | jq .memory_bytes.total)" -le "$2" ] && [ "$(params --precision bf16 --micro-batch $(($1 + 1)) | jq .memory_bytes.total)" -gt "$2" ]
}
room=$((40 * 1024 * 1024 * 1024 * 63 / 64 - 688 * 1024 * 1024))
ok "the largest that fits" fits "$(params --gpu-memory 40G | jq .largest_micro_batch.plain_host_snapshot)" $room
ok "with room for the snapshot, too" fits "$(params --gpu-memory 40G | jq .largest_micro_batch.plain)" $((room - $(jq .memory_bytes.checkpoints bf16.json)))
[ "$(fit 16G --sequence-length 512 --precision bf16)" = "$(fit 16384M --sequence-length 512)" ] && [ "$(fit 16G --ranks 1)" != "$(fit 16G)" ]
ok "bf16 is meant; one GPU has more room" test $? -eq 0
ok "nothing fits" test "$(fit 4G)" = "[0,0,0,0]"
"$TRAINER" params --gpu-memory 8G "$large" | tail -n 4 >out
cat >expected <<'OUT'
^largest micro-batch that fits a GPU of 8.0 GiB$
^ {25}activations kept       recomputed$
^snapshot on the GPU {18}none             none$
^snapshot in host memory {12,17}[1-9][0-9]* {12,17}[1-9][0-9]*$
OUT
ok "a table for people" sh -c 'paste -d "\n" expected out | while IFS= read -r pattern && IFS= read -r line; do echo "$line" | grep -Eq "$pattern" || exit 1; done'
for bad in "--precision fp64" "--precision int8"; do
        # shellcheck disable=SC2086 # an option and its value
        ok "$bad" refuses 2 "^bert-trainer: $(echo "$bad" | sed "s/ \(.*\)/: '\1', expected fp32, tf32, bf16 or fp16$/")" "$TRAINER" params $bad "$large"
done
for bad in 16X 0 -1 1K 16M 16.5G 9999999T ""; do
        ok "--gpu-memory '$bad'" refuses 2 "^bert-trainer: --gpu-memory: '$bad', expected a whole number from 1G to 1024T$" "$TRAINER" params --gpu-memory "$bad" "$large"
done
ok "ranks of the CPU" refuses 2 "^bert-trainer: --ranks: requires --precision or --gpu-memory$" "$TRAINER" params --ranks 2 "$large"
ok "more masked tokens than there are" refuses 2 "^bert-trainer: --max-predictions: 129 is more than --sequence-length, 128$" "$TRAINER" params --max-predictions 129 "$large"
"$TRAINER" params --gpu-memory 1T "$large" | grep -Eq "^snapshot on the GPU +[0-9]+ +65536 or more$"
ok "more may fit than are tried" test $? -eq 0
ok "--ranks 0" refuses 2 "^bert-trainer: --ranks: '0', expected 1 to" "$TRAINER" params --ranks 0 "$large"
"$TRAINER" params "$SOURCE_DIR/examples/configs/bert-tiny.json" >/dev/null && sed 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 64/' "$large" >short.json && "$TRAINER" params short.json | grep -q "micro-batches of 32 x 64 tokens$"
ok "no longer than the model can read" test $? -eq 0
ok "longer than the model's positions" refuses 2 "^bert-trainer: --sequence-length: 513 is more than max_position_embeddings, 512$" "$TRAINER" params --sequence-length 513 "$large"
ok "docs/gpu.md says so" "$SOURCE_DIR/scripts/gpu-memory" --check "$BUILD_DIR"
finish
