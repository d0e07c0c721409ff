#!/bin/bash
# Folders as others write them: weights in every file and under every name, heads and classes however config.json tells of them, lengths;
# what export writes and where; a head that is trained on keeps its classes by name. tests/parity/folders.py holds more of them against transformers.
. "$(dirname "$0")/trainer-lib.sh"
out() { "$TRAINER" "$@" >out 2>err </dev/null; }

# `plain`, a classifier of three classes, and what is made of it
cat >make.py <<'PY'
import json, os, random, struct
random.seed(5)
V, H, F, P = 24, 8, 16, 32
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrs"]
CONFIG = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": V, "hidden_size": H, "num_hidden_layers": 2,
          "num_attention_heads": 2, "intermediate_size": F, "max_position_embeddings": P, "type_vocab_size": 2, "hidden_act": "gelu",
          "id2label": {"0": "low", "1": "mid", "2": "top"}, "label2id": {"low": 0, "mid": 1, "top": 2}}
SHAPES = {"bert.embeddings.word_embeddings.weight": [V, H], "bert.embeddings.position_embeddings.weight": [P, H],
          "bert.embeddings.token_type_embeddings.weight": [2, H], "bert.embeddings.LayerNorm.weight": [H], "bert.embeddings.LayerNorm.bias": [H],
          "bert.pooler.dense.weight": [H, H], "bert.pooler.dense.bias": [H], "classifier.weight": [3, H], "classifier.bias": [3]}
for layer in range(2):
    for name, shape in (("attention.self.query", [H, H]), ("attention.self.key", [H, H]), ("attention.self.value", [H, H]), ("attention.output.dense", [H, H]),
                        ("attention.output.LayerNorm", [H]), ("intermediate.dense", [F, H]), ("output.dense", [H, F]), ("output.LayerNorm", [H])):
        SHAPES |= {f"bert.encoder.layer.{layer}.{name}.weight": shape, f"bert.encoder.layer.{layer}.{name}.bias": shape[:1]}
def size(shape):
    n = 1
    for d in shape: n *= d
    return n
TENSORS = {n: (s, struct.pack(f"<{size(s)}f", *(random.gauss(0, 0.6) for _ in range(size(s))))) for n, s in SHAPES.items()}

def write(path, tensors):
    header, at = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(d for _, d in tensors.values()))
def folder(name, tensors=TENSORS, tokenizer={}, **keys):
    os.mkdir(name)
    if tensors: write(name + "/model.safetensors", tensors)
    json.dump({k: v for k, v in (CONFIG | keys).items() if v is not None}, open(name + "/config.json", "w"))
    open(name + "/vocab.txt", "w").write("".join(w + "\n" for w in WORDS))
    json.dump({"do_lower_case": True} | tokenizer, open(name + "/tokenizer_config.json", "w"))
def renamed(f): return {f(n): t for n, t in TENSORS.items()}

folder("plain")
folder("module", renamed(lambda n: "module." + n))
folder("model", renamed(lambda n: "model." + n))
folder("bare", renamed(lambda n: n.removeprefix("bert.")))
folder("gamma", renamed(lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")))
folder("both", TENSORS | {"embeddings.LayerNorm.bias": TENSORS["bert.embeddings.LayerNorm.bias"]})
folder("nameless", architectures=None)
folder("headless", {n: t for n, t in TENSORS.items() if not n.startswith("classifier")})
folder("tokens", {n: t for n, t in TENSORS.items() if "pooler" not in n}, architectures=["BertForTokenClassification"])
folder("other", architectures=["BertModel"])
unnamed = dict(id2label=None, label2id=None)
folder("number", num_labels=3, **unnamed)
folder("rows", **unnamed)
folder("ids", id2label=None)
folder("wrong-number", num_labels=2, **unnamed)
folder("two-numbers", num_labels=2)
folder("wrong-names", id2label={"0": "low", "1": "mid"}, label2id=None)
folder("wrong-ids", label2id={"low": 1, "mid": 0, "top": 2})
folder("regression", {n: ([1, *t[0][1:]], t[1][:len(t[1]) // 3]) if "classifier" in n else t for n, t in TENSORS.items()}, num_labels=1, **unnamed)
folder("gelu_python", hidden_act="gelu_python")
folder("gelu_new", hidden_act="gelu_new")
folder("gelu_fast", hidden_act="gelu_fast")
folder("gelu_pytorch_tanh", hidden_act="gelu_pytorch_tanh")
folder("quick_gelu", hidden_act="quick_gelu")
folder("pruned", pruned_heads={"0": [1]})
one = lambda n, t: ([1, H], t[1][:4 * H]) if "token_type" in n else t
folder("one-type", {n: one(n, t) for n, t in TENSORS.items()}, type_vocab_size=1)
folder("padded", vocab_size=V + 1)
folder("short", tokenizer={"model_max_length": 10, "truncation_side": "left"})
folder("old", tokenizer={"max_len": 10, "truncation_side": "left"})
folder("dropout", classifier_dropout=1.0)
folder("endless", tokenizer={"model_max_length": int(1e30)})
folder("tiny", tokenizer={"model_max_length": 3})
folder("side", tokenizer={"truncation_side": "middle"})

def shards(name, change):
    folder(name, None)
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    place = {n: files[i % 2] for i, n in enumerate(TENSORS)}
    parts = {f: {n: t for n, t in TENSORS.items() if place[n] == f} for f in files}
    change(place, parts, *files)
    for file, part in parts.items():
        write(f"{name}/{file}", part)
    json.dump({"metadata": {"total_size": 1}, "weight_map": place}, open(name + "/model.safetensors.index.json", "w"))
first = "bert.embeddings.word_embeddings.weight"
shards("shards", lambda place, parts, a, b: None)
shards("shard-missing", lambda place, parts, a, b: parts.pop(b))
shards("shard-twice", lambda place, parts, a, b: parts[b].update({first: TENSORS[first]}))
shards("shard-unlisted", lambda place, parts, a, b: place.pop(first))
shards("shard-lacking", lambda place, parts, a, b: parts[a].pop(first))
PY
python3 make.py || exit 99
said() { # FOLDER [TEXT]: what predict makes of it, imported
        "$TRAINER" import "$1" --output "$1.ckpt" >imported 2>&1 && echo "${2:-a b c d e}" | "$TRAINER" predict "$1.ckpt" 2>&1 || cat imported
}
numbers() { sed 's/.*probabilities":{//; s/"[^"]*"://g' <<<"$1"; }
plain=$(said plain)
[[ $plain == *'"probabilities":{"low":'*'"mid":'*'"top":'* ]]
ok "a classifier" test $? -eq 0
for folder in module model bare gamma nameless other ids shards gelu_python; do
        is "$folder: the same" "$(said $folder)" "$plain"
done
is "num_labels without names: its rows, LABEL_0 and so on" "$(numbers "$(said number)")" "$(numbers "$plain")"
is "neither: the head's rows" "$(said rows)" "$(said number)"
[[ $(said rows) == *'"LABEL_2":'* ]]
ok "are named as transformers does" test $? -eq 0
new=$(said gelu_new)
[ "$new" != "$plain" ] && [ "$(said gelu_fast)" = "$new" ] && [ "$(said gelu_pytorch_tanh)" = "$new" ]
ok "gelu_fast and gelu_pytorch_tanh are gelu_new" test $? -eq 0
is "one type of tokens" "$(said one-type)" "$plain"

imports_not() { refuses "$1" "$2" "$TRAINER" import "$3" --output no.ckpt; }
ok "one tensor under two names" imports_not 65 "embeddings.LayerNorm.bias and bert.embeddings.LayerNorm.bias are both\|bert.embeddings.LayerNorm.bias and embeddings.LayerNorm.bias are both" both
ok "fewer classes than rows, by num_labels" imports_not 65 "num_labels has 2 classes, but the head (classifier.weight) has 3 rows" wrong-number
ok "num_labels beside other names" imports_not 65 "num_labels is 2, but id2label has 3 classes" two-numbers
ok "by id2label" imports_not 65 "id2label has 2 classes, but the head" wrong-names
[[ $(said regression) =~ ^\{\"label\":-?[0-9.e-]+\}$ ]]
ok "one class is a regression: it predicts a number" test $? -eq 0
ok "label2id that contradicts id2label" imports_not 65 "label2id: 'low' is class 1, but id2label has another name there" wrong-ids
ok "another activation" imports_not 78 "hidden_act is 'quick_gelu', expected gelu" quick_gelu
ok "pruned heads" imports_not 78 "pruned_heads" pruned
ok "another vocab_size: both shapes are named" imports_not 65 "word_embeddings.weight has shape .24, 8., expected .25, 8." padded
ok "a shard that is missing" imports_not 66 "model-00002-of-00002.safetensors: missing, but model.safetensors.index.json lists it" shard-missing
ok "a tensor in two shards" imports_not 65 "model-00002-of-00002.safetensors: holds tensor bert.embeddings.word_embeddings.weight, which .* places in model-00001" shard-twice
ok "a tensor that the index does not have" imports_not 65 "word_embeddings.weight is not in model.safetensors.index.json" shard-unlisted
ok "a tensor that the shard does not have" imports_not 65 "model-00001-of-00002.safetensors: tensor bert.embeddings.word_embeddings.weight is missing" shard-lacking
ok "a dropout that is none" imports_not 78 "classifier_dropout is not at least 0 and below 1" dropout
ok "a length that no text fits in" imports_not 65 "model_max_length: expected a number of tokens, 8 or more" tiny
ok "a side that is none" imports_not 65 "truncation_side: expected left or right" side
ok "and nothing is left behind" test ! -e no.ckpt

out import headless -o headless.ckpt
ok "a classifier without its head" grep -q "classifier.weight is not in the folder: initialised randomly" err
ok "tells nothing yet" refuses 76 "never trained" "$TRAINER" predict headless.ckpt vocab.txt
out import tokens -o tokens.ckpt
ok "a classifier of tokens: its head is left out, and it is said" grep -q "classifier.weight is not a tensor of this model: left out" err
ok "it is none of texts" refuses 65 "no classifier" "$TRAINER" predict tokens.ckpt vocab.txt

mkdir wordless
cp plain/config.json plain/model.safetensors wordless
out import wordless -o wordless.ckpt
ok "a folder without a vocabulary: said" grep -q "wordless: no vocabulary in it" err
out import wordless -o wordless.ckpt --vocab plain
is "--vocab takes a folder" "$(echo "a b c d e" | "$TRAINER" predict wordless.ckpt)" "$plain"

cp -r plain cut-off
rm cut-off/tokenizer_config.json
ln -s blobs/gone cut-off/tokenizer_config.json
ok "a link that leads nowhere is no missing file" imports_not 66 "tokenizer_config.json: No such file" cut-off

# How long a text may be
long="a b c d e f g h i j k l m n o p q r s a b c d"
is "a text is cut as the tokenizer says: its last 8 tokens" "$(said short "$long")" "$(said plain "p q r s a b c d")"
is "as its older name, max_len, says" "$(said old "$long")" "$(said short "$long")"
is "transformers' endless length says nothing" "$(said endless "$long")" "$(said plain "$long")"
out export short.ckpt --output short.out
is "export says the length and the side" "$(jq -c '[.model_max_length, .truncation_side]' short.out/tokenizer_config.json)" '[10,"left"]'
is "and import reads them again" "$(said short.out "$long")" "$(said short "$long")"
out export short.ckpt --output flags --sequence-length 12 --truncation head
is "flags say otherwise" "$(jq -c '[.model_max_length, .truncation_side]' flags/tokenizer_config.json)" '[12,null]'
out export plain.ckpt --output plain.out
is "where nothing is said, what the model takes" "$(jq -c '[.model_max_length, .truncation_side]' plain.out/tokenizer_config.json)" '[32,null]'
ok "more than the model takes" refuses 65 "sequence-length" "$TRAINER" export plain.ckpt --output no --sequence-length 33
ok "another side" refuses 2 "truncation: 'middle', expected head or tail" "$TRAINER" export plain.ckpt --output no --truncation middle

# Where export writes
listing() { (cd "$1" && find . ! -type d -exec sha256sum {} + | sort); }
before=$(listing plain.out)
ok "a folder that is not empty is refused" refuses 65 "plain.out: not empty: .*--force" "$TRAINER" export gelu_new.ckpt --output plain.out
is "and is as it was" "$(listing plain.out)" "$before"
mkdir -p there/sub/deep outside
echo mine | tee there/notes.txt there/sub/vocab.txt there/model-old.safetensors there/pytorch_model.bin outside/kept >/dev/null
echo old | tee there/model-00001-of-00002.safetensors there/model.safetensors.index.json there/tokenizer.json there/special_tokens_map.json there/added_tokens.json >/dev/null
ln -s ../outside/kept there/vocab.txt
ln -s ../outside there/config.json
out export plain.ckpt --output there --force
ok "--force writes there" test $? -eq 0
is "a model's files are gone, others are not" "$(cd there && find . ! -type d | sort | tr '\n' ' ')" \
        "./config.json ./model-old.safetensors ./model.safetensors ./notes.txt ./pytorch_model.bin ./sub/vocab.txt ./tokenizer_config.json ./vocab.txt "
[ "$(cat outside/kept there/notes.txt there/sub/vocab.txt)" = "$(printf 'mine\nmine\nmine')" ] && [ ! -L there/config.json ] && [ ! -L there/vocab.txt ]
ok "nothing outside is touched" test $? -eq 0
is "it is the model" "$(said there)" "$plain"
out export plain.ckpt --output there --force
ok "again" test $? -eq 0
mkdir kinds kinds/vocab.txt
: >kinds/config.json
ok "a folder of a model file's name" refuses 65 "kinds/vocab.txt: a folder" "$TRAINER" export plain.ckpt --output kinds --force
ok "is seen before anything is removed" test -e kinds/config.json
: >file
ok "an output that is a file" refuses 74 "file: cannot be written: Not a directory" "$TRAINER" export plain.ckpt --output file
if command -v prlimit >/dev/null; then
        cp -r plain.out killed
        bash -c 'ulimit -c 0; prlimit --fsize=2048 "$0" export gelu_new.ckpt --output killed --force; true' "$TRAINER" >out 2>err
        [ ! -e killed/config.json ] && [ ! -e killed/model.safetensors ]
        ok "killed in the middle: no model is left" test $? -eq 0
        ok "that would load" refuses 66 "killed/config.json" "$TRAINER" import killed -o no.ckpt
        cp -r there full
        (trap '' XFSZ; prlimit --fsize=2048 "$TRAINER" export gelu_new.ckpt --output full --force) >out 2>err
        [ $? -eq 74 ] && grep -q "full/model.safetensors: " err
        ok "a write that fails" test $? -eq 0
        is "and no model is left that is half one, half the other" "$(cd full && find . ! -type d | sort | tr '\n' ' ')" \
                "./model-old.safetensors ./notes.txt ./pytorch_model.bin ./sub/vocab.txt "
fi

# A head is trained on by its classes' names: no step changes anything here
tune() { # NAME INIT DATA KEYS: a fine-tuning of rate 0
        cat >"$1.yaml" <<SPEC
kind: finetune
checkpoint: {every_sec: 0}
model: {init: $2}
data: {train: [data.tsv], text: [2], label: 1, $3}
optimizer: {learning_rate: 0}
train: {global_batch: 3, steps: 1}
SPEC
        timeout 120 "$TRAINER" finetune "$1.yaml" --run-dir "$1" >"$1.log" 2>&1
}
by_name() { echo "a b c d e" | "$TRAINER" predict "$(ckpt "$1" 1)" 2>&1 | jq -Sc .probabilities; }
wanted=$(jq -Sc .probabilities <<<"$plain")
printf 'top\ta b\nlow\tc d\nmid\te f\n' >data.tsv
for init in plain plain.ckpt; do
        tune "order-$init" $init "labels: [top, low, mid]"
        is "of $init: each class keeps its row in another order" "$(by_name "order-$init")" "$wanted"
done
tune same plain.ckpt "sequence_length: 16"
is "sorted" "$(by_name same)" "$wanted"
tune further "$(ckpt order-plain 1)" "labels: [mid, top, low]"
is "of a run's checkpoint, too" "$(by_name further)" "$wanted"
tune some plain "labels: [low, mid, top, new]"
ok "some of the classes: refused, with the cure" grep -q "^bert-trainer: .*model.init: .*plain: some of its 3 classes .* it does not have 'new'; model.head: fresh" some.log
sed -i '/^mid/d' data.tsv
tune part plain "sequence_length: 16"
ok "a part of them: all can be named" grep -q "training does not have 'mid'; name all of its classes in data.labels to keep its head, or model.head: fresh" part.log
printf 'top\ta b\nnew\tc d\nmid\te f\n' >data.tsv
tune fewer plain "labels: [mid, top, new]"
ok "and the other way round" grep -q "it does not have 'new', and training does not have 'low'" fewer.log
sed 's/init: plain/init: plain, head: fresh/' fewer.yaml >fresh.yaml
timeout 120 "$TRAINER" finetune fresh.yaml --run-dir fresh >fresh.log 2>&1 && grep -q "model.head: fresh: the classifier's head is initialised randomly" fresh.log
ok "model.head: fresh begins anew" test $? -eq 0
printf 'x\ta b\ny\tc d\nz\te f\n' >data.tsv
tune none plain "sequence_length: 16" && grep -q "no class of training ('x', 'y', 'z') is one of model.init ('low', 'mid', 'top')" none.log
ok "none of them: it is said" test $? -eq 0
printf '2\ta b\n0\tc d\n1\te f\n' >data.tsv
tune numbered rows "labels: [2, 0, 1]"
is "LABEL_0 is class 0" "$(by_name numbered | tr -d '"LABEL_')" "$(jq -Sc .probabilities <<<"$(said rows)" | tr -d '"LABEL_')"
tune length short "labels: [2, 0, 1]"
is "length and side of the folder are a fine-tuning's" "$("$TRAINER" inspect --json "$(ckpt length 1)" | jq -c '[.meta.sequence_length, .meta.truncation]')" '["10","tail 0 4"]'
ok "which is said" grep -qx "as recorded there, the tail of a text is kept, at most 10 tokens" length.log
tune body regression "labels: [2, 0, 1]"
ok "a fine-tuning of classes begins with the body of a regression: its head cannot be kept" grep -qx "bert-trainer: the head of model.init is for numbers, training is for classes: the head is initialised randomly" body.log
sed 's/init: regression/init: regression, head: fresh/' body.yaml >anew.yaml
ok "as it does unasked" quietly timeout 120 "$TRAINER" finetune anew.yaml --run-dir anew
tune tagger tokens "labels: [2, 0, 1]" && grep -q "classifier.weight of the folder is not kept: initialised randomly" tagger.log
ok "a head of tokens is not kept, and that is said" test $? -eq 0
printf 'text\tlabel\na b\t2\nc d\tLABEL_0\n' >both.tsv
"$TRAINER" evaluate --json rows.ckpt both.tsv 2>err | jq -e '.texts == 2' >/dev/null
ok "evaluate takes 2 and LABEL_2 for the same class" test $? -eq 0
finish
