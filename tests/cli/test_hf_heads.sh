#!/bin/bash
# Folders of models without all heads, as BertModel and BertForMaskedLM save them: what they have is taken, what they lack is as in a fresh
# model. And --vocab of export and fill-mask.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
train 1 spec.yaml --run-dir run >/dev/null 2>&1
"$TRAINER" export "$(ckpt run 20)" --output whole 2>/dev/null || exit 99

# folder CLASS PREFIX PATTERN: the tensors of `whole` whose names have the pattern, with the prefix taken off
cat >folder.py <<'PY'
import json, os, re, shutil, struct, sys
name, prefix, pattern = sys.argv[1:]
data = open("whole/model.safetensors", "rb").read()
n = struct.unpack("<Q", data[:8])[0]
header, body, out, parts, at = json.loads(data[8:8 + n]), data[8 + n:], {}, [], 0
for key, t in header.items():
    if key == "__metadata__" or not re.search(pattern, key):
        continue
    begin, end = t["data_offsets"]
    out[key[len(prefix):] if key.startswith(prefix) else key] = dict(t, data_offsets=[at, at + end - begin])
    parts.append(body[begin:end])
    at += end - begin
os.mkdir(name)
text = json.dumps(dict(out, __metadata__={"format": "pt"})).encode()
open(name + "/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + b"".join(parts))
config = json.load(open("whole/config.json"))
config["architectures"] = [name]
json.dump(config, open(name + "/config.json", "w"))
shutil.copy("vocab.txt", name)
PY
# same A B PATTERN: names of tensors with the pattern, "=" where both checkpoints have the same, "~" where they differ
cat >same.py <<'PY'
import re, sqlite3, struct, sys
def weights(path):
    db = sqlite3.connect(path)
    return {name: b"".join(r[0] for r in db.execute("select data from chunk where tensor = ? order by seq", (key,)))
            for key, name in db.execute("select id, name from tensor where kind = 'param'")}
a, b = weights(sys.argv[1]), weights(sys.argv[2])
assert a.keys() == b.keys(), a.keys() ^ b.keys()
names = [n for n in sorted(a) if re.search(sys.argv[3], n)]
assert names
print("".join(sorted({"=" if a[n] == b[n] else "~" for n in names})))
if len(sys.argv) > 4: # as a fresh model has them: biases 0, LayerNorm 1, the rest N(0, 0.02)
    for n in names:
        v = struct.unpack("<%df" % (len(b[n]) // 4), b[n])
        if n.endswith("bias"): assert set(v) == {0.0}, n
        elif "LayerNorm" in n: assert set(v) == {1.0}, n
        else: assert max(map(abs, v)) < 0.1 and 0.005 < (sum(x * x for x in v) / len(v)) ** 0.5 < 0.04, n
PY
same() { python3 same.py whole.ckpt "$@"; }
"$TRAINER" import whole --output whole.ckpt 2>/dev/null

python3 folder.py BertModel bert. '^bert\.'
"$TRAINER" import BertModel --output model.ckpt 2>err
ok "BertModel, whose tensors have no prefix, is imported" test -s model.ckpt
is "encoder, embeddings and pooler are its own" "$(same model.ckpt '^bert\.')" "="
ok "the heads of words and of pairs are a fresh model's" same model.ckpt '^cls\.(predictions\.(transform|bias)|seq)' fresh
is "not those of another" "$(same model.ckpt '^cls\.(predictions\.transform\.dense|seq_relationship).weight')" "~"
ok "and are told of, by name" grep -q "^bert-trainer: cls.seq_relationship.weight is not in the folder: initialised randomly" err
"$TRAINER" import BertModel --output again.ckpt 2>/dev/null
ok "they are the same each time" quietly "$TRAINER" diff model.ckpt again.ckpt

python3 folder.py BertForMaskedLM "" '^(bert\.(embeddings|encoder)|cls\.predictions)'
"$TRAINER" import BertForMaskedLM --output masked.ckpt 2>err
ok "BertForMaskedLM is imported" test -s masked.ckpt
is "with its head of words" "$(same masked.ckpt '^(bert\.(embeddings|encoder)|cls\.predictions)')" "="
ok "pooler and head of pairs are a fresh model's" same masked.ckpt '^(bert.pooler|cls\.seq)' fresh
is "not those of another" "$(same masked.ckpt '^(bert.pooler.dense|cls.seq_relationship).weight')" "~"
fills() { "$TRAINER" fill-mask "$@" "the old kernel [MASK] the small [MASK] ." 2>&1; }
is "it fills masks as the whole model does" "$(fills masked.ckpt)" "$(fills whole.ckpt)"
sed 's/vocab: vocab.txt}/vocab: vocab.txt, init: masked.ckpt}/' spec.yaml >init.yaml
ok "a run begins with it" quietly train 1 init.yaml --run-dir init

said=$(fills whole.ckpt)
mv whole/vocab.txt moved.txt
is "a vocabulary that is gone is not missed" "$(fills whole.ckpt)" "$said"
is "nor is the same one needed" "$(fills --vocab moved.txt whole.ckpt)" "$said"
sed 's/kernel/colonel/' vocab.txt >other.txt
ok "another is refused" refuses 65 "other.txt: not the vocabulary" "$TRAINER" fill-mask --vocab other.txt whole.ckpt "the [MASK]"
"$TRAINER" export whole.ckpt --output out 2>/dev/null
ok "export writes it as it was read" cmp vocab.txt out/vocab.txt
ok "another is refused there, too" refuses 65 "other.txt: not the vocabulary" "$TRAINER" export --vocab other.txt whole.ckpt --output no
finish
