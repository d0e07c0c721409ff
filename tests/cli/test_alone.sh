#!/bin/bash
# A checkpoint moved alone: its folder, its vocabulary and its corpus are gone. What is combined with it is held against it, and a head that was
# never trained is refused. Checkpoints of older programs (checkpoints/) are used and resumed.
. "$(dirname "$0")/trainer-lib.sh"
older=$source_dir/tests/cli/checkpoints
. "$older/inputs.sh"
older_inputs
cp "$older/spiece.model" .
if "$TRAINER" prepare --vocab spiece.model --output pieces words.txt 2>/dev/null; then pieces=yes; else pieces=; fi
make() { timeout $((60 * patience)) "$TRAINER" "$@" >out 2>err; }
ask() { timeout $((60 * patience)) "$TRAINER" "$@" 2>&1; }
text="the kernel [MASK] the page"

# ---- alone ----
make pretrain bert.yaml --run-dir bert && make finetune classifier.yaml --run-dir classifier || { cat err; exit 99; }
mkdir home && cp "$(ckpt bert 8)" home/bert.ckpt && cp "$(ckpt classifier 8)" home/classifier.ckpt
fills=$(ask fill-mask home/bert.ckpt "$text") ids=$(ask tokenize --vocab vocab.txt --ids words.txt)
predicts=$(ask predict home/classifier.ckpt labelled.tsv)
mkdir gone away && cp vocab.txt kept.txt
mv vocab.txt bert classifier *.json corpus.bin corpus.idx gone && mv home/*.ckpt away
is "fill-mask needs nothing but the checkpoint" "$(ask fill-mask away/bert.ckpt "$text")" "$fills"
is "predict" "$(ask predict away/classifier.ckpt labelled.tsv)" "$predicts"
ok "evaluate" make evaluate away/classifier.ckpt labelled.tsv
is "tokenize" "$(ask tokenize --checkpoint away/bert.ckpt --ids words.txt)" "$ids"
ok "export" make export away/classifier.ckpt -o hf
ok "with the vocabulary as it was read" cmp kept.txt hf/vocab.txt
make prepare --checkpoint away/bert.ckpt --output again words.txt
ok "prepare" cmp again.bin gone/corpus.bin
more() { sed "s/config: [a-z.]*, vocab: [a-z.]*/init: $2/; s/corpus/again/" gone/$1.yaml >$1-more.yaml; }
mv bert.yaml classifier.yaml gone
more bert away.bert.ckpt && cp away/bert.ckpt away.bert.ckpt
more classifier away.bert.ckpt
ok "pretraining begins with it" make pretrain bert-more.yaml --run-dir bert-more
ok "finetune, too" make finetune classifier-more.yaml --run-dir classifier-more
holds() { # CKPT NAME FILE: byte for byte
        python3 -c 'import sqlite3, sys
sys.exit(sqlite3.connect(sys.argv[1]).execute("select data from asset where name = ?", (sys.argv[2],)).fetchone()[0] != open(sys.argv[3], "rb").read())' "$@"
}
ok "whose checkpoints hold the vocabulary again" holds "$(ckpt classifier-more 8)" vocab.txt kept.txt
make import hf -o imported.ckpt && rm -r hf
is "so does an import, whose folder is gone" "$("$TRAINER" predict imported.ckpt <labelled.tsv 2>/dev/null | cut -c 1-20 | tail -n 1)" "$(echo "$predicts" | cut -c 1-20 | tail -n 1)"
is "inspect shows it" "$(ask inspect away/bert.ckpt | sed -n 's/^asset *\([0-9]*\) .* /\1 /p')" "$(wc -c <kept.txt) vocab.txt"
if [ $pieces ]; then
        cp gone/albert.json . && make pretrain albert.yaml --run-dir albert
        mv "$(ckpt albert 8)" albert.ckpt && mv albert.json albert spiece.model pieces.bin pieces.idx gone
        ok "a SentencePiece model is held" holds albert.ckpt spiece.model "$older/spiece.model"
        ok "and masks are filled with it" quietly ask fill-mask albert.ckpt "$text"
        ok "a vocabulary of the other kind is refused" refuses 65 "kept.txt: not the vocabulary that albert.ckpt" "$TRAINER" fill-mask --vocab kept.txt albert.ckpt "$text"
else
        skip "ALBERT alone" "built without SentencePiece"
fi

# ---- damage ----
cp away/bert.ckpt bad.ckpt
python3 - <<'PY'
data = bytearray(open("bad.ckpt", "rb").read())
at = data.index(b"[PAD]\n[UNK]")
data[at + 1] ^= 1
open("bad.ckpt", "wb").write(data)
PY
ok "a damaged asset is named by fill-mask" refuses 76 "bad.ckpt: asset vocab.txt does not match its checksum" "$TRAINER" fill-mask bad.ckpt "$text"
ok "by inspect" refuses 76 "asset vocab.txt" "$TRAINER" inspect bad.ckpt
cp bad.ckpt bad8.ckpt && mkdir -p damaged/checkpoints && cp bad.ckpt damaged/checkpoints/step-000000008.ckpt && cp "$(ckpt gone/bert 4)" damaged/checkpoints/
cp gone/bert.json gone/corpus.* gone/*.yaml . && cp kept.txt vocab.txt
ok "a run passes over it" sh -c 'timeout 120 "$0" pretrain bert.yaml --run-dir damaged 2>&1 | grep -q "asset vocab.txt.*trying an older one"' "$TRAINER"
ok "and ends as the other did" quietly "$TRAINER" diff "$(ckpt damaged 8)" "$(ckpt gone/bert 8)"

# ---- what does not fit ----
make export away/bert.ckpt -o hf && make export away/classifier.ckpt -o hf2 && rm hf/vocab.txt hf2/vocab.txt
make import hf -o plain.ckpt && make import hf2 -o plain2.ckpt
ok "an import without a vocabulary says so" refuses 2 "plain.ckpt contains neither a vocabulary.*--vocab FILE" "$TRAINER" fill-mask plain.ckpt "$text"
is "and takes one" "$(ask fill-mask plain.ckpt --vocab kept.txt "$text" | tail -n 1)" "$(echo "$fills" | tail -n 1)"
(cat kept.txt; echo more; echo most) >larger.txt
head -n 11 kept.txt >smaller.txt
ok "a larger one is refused by fill-mask" refuses 65 "larger.txt: 25 tokens, but plain.ckpt has a vocab_size of 24" "$TRAINER" fill-mask plain.ckpt --vocab larger.txt "more [MASK]"
ok "by predict" refuses 65 "larger.txt: 25 tokens" "$TRAINER" predict plain2.ckpt --vocab larger.txt labelled.tsv
ok "by export" refuses 65 "larger.txt: 25 tokens" "$TRAINER" export plain2.ckpt --vocab larger.txt -o hf3
ok "by a run" refuses 65 "larger.txt: 25 tokens" "$TRAINER" finetune <(sed 's/model: .*/model: {init: plain2.ckpt, vocab: larger.txt}/' classifier.yaml) --run-dir no
ok "which has to name one" refuses 66 "model.init: .*contains neither a vocabulary.*give model.vocab" "$TRAINER" finetune <(sed 's/away.bert/plain2/' classifier-more.yaml) --run-dir no
ok "one of less than half as many tokens" refuses 65 "smaller.txt: 11 tokens" "$TRAINER" fill-mask plain.ckpt --vocab smaller.txt "the [MASK]"
sed -i 's/kernel/colonel/' vocab.txt
ok "another than the checkpoint's is refused by predict" refuses 65 "vocab.txt: not the vocabulary that away/classifier.ckpt" "$TRAINER" predict --vocab vocab.txt away/classifier.ckpt labelled.tsv
ok "by a pretraining that begins with it" refuses 65 "vocab.txt: not the vocabulary" "$TRAINER" pretrain <(sed 's/model: .*/model: {init: away.bert.ckpt, config: bert.json, vocab: vocab.txt}/' bert.yaml) --run-dir no
sed 's/_heads": 2/_heads": 4/' bert.json >heads.json
ok "so is another configuration" refuses 78 "heads.json: num_attention_heads is not that of .*away.bert.ckpt" "$TRAINER" pretrain <(sed "s/model: .*/model: {init: away.bert.ckpt, config: heads.json}/" bert.yaml) --run-dir no
ok "sequences longer than the model takes" refuses 78 "data.sequence_length: 32, but .*away.bert.ckpt has max_position_embeddings 16" "$TRAINER" pretrain <(sed 's/16/32/' bert-more.yaml) --run-dir no
ok "cased text for a model of lower case" refuses 78 "data.lowercase: false, but .*away.bert.ckpt" "$TRAINER" finetune <(sed 's/truncation/lowercase: false, truncation/' classifier-more.yaml) --run-dir no
ok "a checkpoint for a vocabulary" refuses 65 "a checkpoint, expected a vocabulary; .*--checkpoint" "$TRAINER" tokenize --vocab away/bert.ckpt words.txt
ok "a corpus whose text was folded otherwise" sh -c '"$0" prepare --vocab kept.txt --no-lowercase --output cased words.txt 2>/dev/null' "$TRAINER"
ok "is refused by a pretraining that begins with a checkpoint" refuses 65 "cased: prepared with other settings.*than the model" "$TRAINER" pretrain <(sed 's/again/cased/' bert-more.yaml) --run-dir no

# ---- which command can ----
ok "fill-mask on a classifier" refuses 65 "no MLM head.*bert-trainer predict" "$TRAINER" fill-mask away/classifier.ckpt "$text"
ok "predict on a pretraining" refuses 65 "holds no classifier.*bert-trainer fill-mask" "$TRAINER" predict away/bert.ckpt labelled.tsv
ok "a pretraining that begins with a classifier" refuses 65 "model.init: .*no MLM head" "$TRAINER" pretrain <(sed 's/away.bert/imported/' bert-more.yaml) --run-dir no
ok "a folder for a checkpoint" refuses 76 "hf: a folder.*bert-trainer import" "$TRAINER" predict hf labelled.tsv
ok "a checkpoint for a folder" refuses 65 "away/bert.ckpt: a file.*needs no import" "$TRAINER" import away/bert.ckpt -o x.ckpt
ok "a checkpoint for a configuration" refuses 78 "away/bert.ckpt: a checkpoint.*bert-trainer inspect" "$TRAINER" params away/bert.ckpt
ln -s nowhere.ckpt link.ckpt
ok "a link that was moved alone" refuses 66 "link.ckpt: a link to a missing checkpoint; .*cp -L" "$TRAINER" inspect link.ckpt
ok "a spec of the other kind" refuses 78 "kind: expected finetune; bert-trainer pretrain runs it" "$TRAINER" finetune bert.yaml --run-dir no

# ---- heads that nobody trained ----
# strip FOLDER PATTERN: the folder without the tensors of that name
cat >strip.py <<'PY'
import json, re, struct, sys
path = sys.argv[1] + "/model.safetensors"
data = open(path, "rb").read()
n = struct.unpack("<Q", data[:8])[0]
header, body, out, parts, at = json.loads(data[8:8 + n]), data[8 + n:], {}, [], 0
for key, t in header.items():
    if key != "__metadata__" and not re.search(sys.argv[2], key):
        begin, end = t["data_offsets"]
        out[key] = dict(t, data_offsets=[at, at + end - begin])
        parts.append(body[begin:end])
        at += end - begin
text = json.dumps(out).encode()
open(path, "wb").write(struct.pack("<Q", len(text)) + text + b"".join(parts))
PY
fresh() { sqlite3 "$1" "select value from meta where key = 'fresh_heads'"; }
cp kept.txt hf/vocab.txt && cp kept.txt hf2/vocab.txt
cp -r hf body && python3 strip.py body '^cls|pooler' && make import body -o body.ckpt
is "what a folder lacks is remembered" "$(fresh body.ckpt)" "pooler mlm_head sentence_head"
"$TRAINER" export body.ckpt -o body-out >out 2>&1 && "$TRAINER" import body-out -o body-back.ckpt >out 2>&1
is "through export and import, too" "$(fresh body-back.ckpt)" "pooler mlm_head sentence_head"
ok "fill-mask refuses it" refuses 76 "body.ckpt: never trained: MLM head; train it with bert-trainer pretrain" "$TRAINER" fill-mask body.ckpt "$text"
ok "export says it" sh -c '"$0" export body.ckpt -o body2 2>&1 | grep -q "never trained, and random in body2: pooler, MLM head, NSP/SOP head"' "$TRAINER"
sed 's/away.bert/body/; s/mlm+nsp/mlm/' bert-more.yaml >mlm.yaml
make pretrain mlm.yaml --run-dir mlm
is "a pretraining of words alone trains that head alone" "$(fresh "$(ckpt mlm 8)")" "pooler sentence_head"
ok "fill-mask takes it" make fill-mask "$(ckpt mlm 8)" "$text"
sed -i 's/steps: 8/steps: 12/' mlm.yaml && cp -r mlm mlm12
make pretrain mlm.yaml --run-dir mlm12
is "as a resumed one remembers" "$(fresh "$(ckpt mlm12 12)")" "pooler sentence_head"
sed 's/mlm+nsp/mlm/' bert-more.yaml >words.yaml && make pretrain words.yaml --run-dir words && sed -i 's/steps: 8/steps: 12/' words.yaml && make pretrain words.yaml --run-dir words
is "and that nothing is fresh" "$(fresh "$(ckpt words 12)")" "none"
sed 's/away.bert/body/' bert-more.yaml >nsp.yaml && make pretrain nsp.yaml --run-dir nsp
is "one of pairs trains them all" "$(fresh "$(ckpt nsp 8)")" "none"
sed 's/mlm+nsp/mlm/' bert.yaml | sed 's/vocab.txt/kept.txt/' >scratch.yaml && make pretrain scratch.yaml --run-dir scratch
is "one that began with nothing, too, has what it did not train" "$(fresh "$(ckpt scratch 8)")" "pooler sentence_head"
for part in classifier pooler; do
        cp -r hf2 no-$part && python3 strip.py no-$part $part && make import no-$part -o no-$part.ckpt
        ok "predict refuses a fresh $part" refuses 76 "never trained: $part; train it with bert-trainer finetune" "$TRAINER" predict no-$part.ckpt labelled.tsv
        ok "so does evaluate" refuses 76 "never trained: $part" "$TRAINER" evaluate no-$part.ckpt labelled.tsv
done
sed 's/away.bert/no-classifier/' classifier-more.yaml >tuned.yaml && make finetune tuned.yaml --run-dir tuned
ok "once it is trained it predicts" make predict "$(ckpt tuned 8)" labelled.tsv
is "and has forgotten" "$(fresh "$(ckpt tuned 8)")" "none"

# ---- checkpoints of older programs ----
rm -rf vocab.txt spiece.model older && mkdir older && for name in bert albert classifier; do gzip -dc "$older/$name.ckpt.gz" >older/$name.ckpt; done
ok "an older one needs its vocabulary, which it named" refuses 66 "--vocab FILE: /tmp/made/vocab.txt: No such file" "$TRAINER" fill-mask older/bert.ckpt "$text"
is "and fills masks as then" "$(ask fill-mask --vocab kept.txt older/bert.ckpt "$text")" "$(cat "$older/bert.said")"
short() { sed 's/\(0\.[0-9]\{5\}\)[0-9]*/\1/g' "$@"; }
is "an older classifier predicts as then" "$(ask predict --vocab kept.txt older/classifier.ckpt labelled.tsv | head -n 3 | short)" "$(short "$older/classifier.said")"
[ -z $pieces ] || is "an older ALBERT fills masks as then" "$(ask fill-mask --vocab "$older/spiece.model" older/albert.ckpt "$text")" "$(cat "$older/albert.said")"
cp kept.txt vocab.txt && cp "$older/spiece.model" . && cp gone/pieces.* gone/albert.json . 2>/dev/null
# resumes KIND NAME: the older run's end is that of one that was never stopped
resumes() {
        make "$1" $2.yaml --run-dir resumed-$2 --resume older/$2.ckpt && make "$1" $2.yaml --run-dir whole-$2 || { cat err; return 1; }
        same_end older/$2.ckpt resumed-$2 whole-$2 8
}
ok "an older run is resumed" resumes pretrain bert
ok "and holds its vocabulary from then on" holds "$(ckpt resumed-bert 8)" vocab.txt kept.txt
ok "an older finetune" resumes finetune classifier
[ -z $pieces ] || ok "an older ALBERT's" resumes pretrain albert
finish
