#!/bin/sh
# metrics.jsonl and TensorBoard's event files of a run that is killed and resumed, read by a reader of our own.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
cat >read.py <<'PY'
import glob, json, struct, sys

def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    crc ^= 0xffffffff
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff

def records(path):
    data, at = open(path, "rb").read(), 0
    while at < len(data):
        head = data[at:at + 8]
        n = struct.unpack("<Q", head)[0]
        body = data[at + 12:at + 12 + n]
        assert struct.unpack("<I", data[at + 8:at + 12])[0] == crc32c(head), "length's checksum"
        assert struct.unpack("<I", data[at + 12 + n:at + 16 + n])[0] == crc32c(body), "checksum"
        yield body
        at += 16 + n

def fields(data):
    at = 0
    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]; at += 1
            value |= (byte & 127) << shift; shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0: value = varint()
        else:
            n = {1: 8, 5: 4}.get(kind) or varint()
            value = data[at:at + n]; at += n
        yield key >> 3, value

curves, starts = {}, []
for path in sorted(glob.glob(sys.argv[1] + "/tensorboard/events.out.tfevents.*")):
    for event in map(dict, map(fields, records(path))):
        if 7 in event:
            starts.append(event[2])
            for points in curves.values():
                for step in [s for s in points if s >= event[2]]:
                    del points[step]
        if 5 in event:
            point = dict(fields(dict(fields(event[5]))[1]))
            curves.setdefault(point[1].decode(), {})[event[2]] = struct.unpack("<f", point[2])[0]
rows = [json.loads(line) for line in open(sys.argv[1] + "/metrics.jsonl")]
steps = {r["step"]: r for r in rows if "loss" in r}
held = {r["step"]: r["validation"] for r in rows if "validation" in r}
assert sorted(steps) == list(range(1, 21)), sorted(steps)
for tag, key in (("train/loss", "loss"), ("train/mlm_accuracy", "mlm_accuracy"), ("train/nsp_loss", "nsp_loss"), ("speed/tokens_per_sec", "tokens_per_sec")):
    assert curves[tag].keys() == steps.keys(), tag
    for s, value in curves[tag].items():
        assert abs(value - steps[s][key]) <= 1e-6 * abs(value), (tag, s)
assert curves["validation/mlm_loss"].keys() == held.keys() and len(held) == 5
for r in steps.values():
    parts = sum(r[k] for k in ("data_sec", "forward_sec", "backward_sec", "exchange_sec", "update_sec", "checkpoint_sec"))
    assert parts * r["steps_per_sec"] < 1.01 and r["forward_sec"] > 0 and r["backward_sec"] > 0
    assert abs(r["samples_per_sec"] / r["steps_per_sec"] - 7) < 1e-6 and 0 < r["tokens_per_sec"] / r["samples_per_sec"] <= 32.001
print(len(starts), starts[-1])
PY
train 1 spec.yaml --run-dir run >/dev/null 2>&1
[ "$(python3 read.py run 2>err)" = "1 1" ]
ok "every step is in both, with the same figures" test $? -eq 0
rm "$(ckpt run 20)"
train 1 spec.yaml --run-dir run >/dev/null 2>&1
[ "$(python3 read.py run 2>err)" = "2 11" ]
ok "resumed from step 10, each step is there once" test $? -eq 0
cat err | sed 's/^/# /'

# Where every word is longer than what may be masked, no token is: then there is no loss, and none is shown.
mkdir rare
printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' a '##b' c >rare/vocab.txt
awk 'BEGIN { for (i = 0; i < 40; i++) print i % 4 ? "ab ab ab ab\nab ab ab ab ab\n" : "c c c c\nc c c c\n" }' >rare/some.txt
grep -v c rare/some.txt >rare/none.txt
for name in some none; do "$TRAINER" prepare --vocab rare/vocab.txt --output rare/$name rare/$name.txt >/dev/null 2>&1; done
cat >rare.yaml <<'SPEC'
kind: pretrain
checkpoint: {every_sec: 0}
model: {config: tiny.json, vocab: rare/vocab.txt}
data: {train: [rare/none], validation: [rare/none], sequence_length: 32, short_sequence_probability: 0, objective: mlm, mask_unit: whole_word, max_predictions: 1}
train: {global_batch: 4, micro_batch: 1, steps: 3, evaluate_every: 2}
SPEC
train 1 rare.yaml --run-dir none >none.log 2>&1
ok "no token is masked" test $? -eq 0
not grep -i -e nan -e 'loss 0' none.log && [ "$(grep -c '^step [13]/3  no token is masked: no loss ' none.log)" -eq 2 ] && [ "$(grep -c '^validation at step [23]: no token of the 30 samples is masked' none.log)" -eq 2 ]
ok "is said, of steps and of validation" test $? -eq 0
is "and there is no loss in the metrics" "$(jq -c '.loss, .validation.loss' none/metrics.jsonl | sort -u)" null
sed 's/objective: mlm/objective: mlm+nsp/' rare.yaml >sop.yaml
train 1 sop.yaml --run-dir sop >sop.log 2>&1 && not grep -i -e nan sop.log && [ "$(jq -c 'select(.learning_rate) | [.loss == .nsp_loss, .mlm_loss]' sop/metrics.jsonl | sort -u)" = "[true,null]" ] &&
        [ "$(grep -c '^validation at step [23]: loss 0.*, of the sentences alone: no token is masked' sop.log)" -eq 2 ]
ok "beside sentences the loss is theirs" test $? -eq 0
sed 's/train: .rare.none./train: [rare\/some]/' rare.yaml >some.yaml
for ranks in 1 2; do
        have_ranks $ranks || continue
        train $ranks some.yaml --run-dir some$ranks >some$ranks.log 2>&1
        ok "some steps and some ranks have one, $ranks ranks" test $? -eq 0
        is "their loss alone is there" "$(jq -c 'select(.learning_rate) | .loss == null' some$ranks/metrics.jsonl | sort -u | xargs)" "false true"
done
finish
