#!/bin/sh
# import and export of Hugging Face folders: round trips, what a run begins with, and what is refused.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
out() { "$TRAINER" "$@" >out 2>err </dev/null; }
# header FOLDER: tensors of its model.safetensors, a name a line
names() { python3 -c "
import json, struct, sys
f = open(sys.argv[1] + '/model.safetensors', 'rb'); n = struct.unpack('<Q', f.read(8))[0]
print('\n'.join(sorted(k for k in json.loads(f.read(n)) if k != '__metadata__')))" "$1"; }

train 1 spec.yaml --run-dir run >/dev/null 2>&1
out export "$(ckpt run 20)" --output hf
ok "a run's checkpoint is exported" test $? -eq 0
cmp -s vocab.txt hf/vocab.txt && grep -q '"do_lower_case": true' hf/tokenizer_config.json && grep -q BertForPreTraining hf/config.json
ok "with its vocabulary, the tokenizer's settings and its config" test $? -eq 0
[ "$(names hf | wc -l)" -eq 46 ] && ! names hf | grep -q decoder
ok "with Hugging Face's tensors, the tied decoder once" test $? -eq 0
out import hf --output a.ckpt && out export a.ckpt -o hf2 && cmp -s hf/model.safetensors hf2/model.safetensors && cmp -s hf/config.json hf2/config.json
ok "in and out again: the same bytes" test $? -eq 0

for sharing in none attention ffn all; do
        cat >albert.json <<END
{"model_type": "albert", "vocab_size": 256, "embedding_size": 16, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
 "intermediate_size": 32, "max_position_embeddings": 64, "cross_layer_sharing": "$sharing", "embedding_mapping": false}
END
        sed 's/tiny.json/albert.json/; s/objective: [a-z+]*//; s/sequence_length: 32/sequence_length: 32, objective: mlm+sop/' spec.yaml >albert.yaml
        rm -rf albert hfa hfb
        train 1 albert.yaml --run-dir albert >err 2>&1 && out export "$(ckpt albert 20)" -o hfa && out import hfa -o b.ckpt && out export b.ckpt -o hfb &&
                cmp -s hfa/model.safetensors hfb/model.safetensors
        ok "ALBERT that shares $sharing: out, in and out" test $? -eq 0
        case $sharing in all) layers=1 ;; *) layers=3 ;; esac
        [ "$(names hfa | grep -c '\.ffn\.weight$')" -eq $layers ] && [ "$(names hfa | grep -c '\.query\.weight$')" -eq $layers ] && names hfa | grep -q embedding_hidden_mapping_in
        ok "in Hugging Face's layers, with a map" test $? -eq 0
done

# A run that begins with weights.
sed 's/vocab: vocab.txt}/vocab: vocab.txt, init: a.ckpt}/' spec.yaml >init.yaml
train 1 init.yaml --run-dir init >out 2>&1 && grep -q "beginning with the weights of.*a.ckpt" out
ok "model.init: a run begins with them" test $? -eq 0
first() { sed -n 's/.*"step": *1,.*"loss": *\([0-9.]*\).*/\1/p' "$1/metrics.jsonl" | head -n 1; }
awk "BEGIN {exit !($(first init) < $(first run))}"
ok "and knows what they have learnt ($(first init) against $(first run) from nothing)" test $? -eq 0
"$TRAINER" diff "$(ckpt run 20)" "$(ckpt init 20)" >/dev/null
[ $? -eq 1 ]
ok "it ends elsewhere" test $? -eq 0
rm "$(ckpt init 20)"
mv a.ckpt gone.ckpt
train 1 init.yaml --run-dir init >out 2>&1 && ! grep -q "beginning" out
ok "resumed, it does not need them any more" test $? -eq 0
mv gone.ckpt a.ckpt
if have_ranks 2; then
        train 2 init.yaml --run-dir two >out 2>&1
        ok "two ranks begin with them" test $? -eq 0
        # Sums in another order: by 1.3e-8 of a loss.
        jq -n --slurpfile one init/metrics.jsonl --slurpfile two two/metrics.jsonl '[$one, $two | map(select(.loss))] | transpose |
                length == 20 and all(.[]; .[0].sample_hash == .[1].sample_hash and (.[0].loss - .[1].loss | fabs) <= 1e-6 * .[0].loss)' >same
        ok "and train as one does, but for rounding" grep -qx true same
fi

out fill-mask a.ckpt "the old kernel [MASK] the small [MASK] ."
ok "fill-mask" test $? -eq 0
[ "$(grep -cE '^  [12]: [^ ]+ 0\.[0-9]{3}(  [^ ]+ 0\.[0-9]{3}){4}$' out)" -eq 2 ]
ok "names five tokens for each mask" test $? -eq 0
echo "a [MASK]" | "$TRAINER" fill-mask --top 1 a.ckpt >out 2>err && [ "$(wc -l <out)" -eq 2 ]
ok "reads standard input" test $? -eq 0
is "lines of every kind, without a mark" "$(printf '\357\273\277a [MASK]\r\rb\377 [MASK]%200s\r' | "$TRAINER" fill-mask --top 1 a.ckpt 2>err | grep -v '^  ' | sed 's/ *$//' | tr '\n' '|')" "a [MASK]|b [MASK]|"
is "and in Latin-1" "$(printf 'b\351 [MASK]\n' | "$TRAINER" fill-mask --encoding latin-1 --top 1 a.ckpt | head -n 1)" "bé [MASK]"
ok "and wants a mask" refuses 65 "no .MASK. in" "$TRAINER" fill-mask a.ckpt "no mask"
ok "in UTF-8" refuses 65 "byte 0xe9: not UTF-8" "$TRAINER" fill-mask a.ckpt "$(printf 'b\351 [MASK]')"
printf 'the\n\342\200\213\na [MASK]\n' | "$TRAINER" fill-mask --top 1 a.ckpt >out 2>err
is "a line without one keeps no other from its answer" "$? $(grep -c . out) $(sed -n 3p out) $(cat err)" "65 4 a [MASK] bert-trainer: standard input:1: no [MASK] in 'the'"

ok "weights alone are no run to resume" refuses 78 "name it as model.init" "$TRAINER" pretrain spec.yaml --run-dir other --resume a.ckpt
ok "import without --output is a usage error" exits 2 "$TRAINER" import hf
mkdir pickle sharded
cp hf/config.json pickle
cp hf/config.json sharded
: >pickle/pytorch_model.bin
: >sharded/model.safetensors.index.json
ok "pytorch_model.bin is refused with advice" refuses 66 "save_pretrained" "$TRAINER" import pickle -o x.ckpt
ok "an index of shards that lists none" refuses 65 "model.safetensors.index.json:" "$TRAINER" import sharded -o x.ckpt
ok "so is a folder that is not there" refuses 66 "config.json" "$TRAINER" import nowhere -o x.ckpt
cp -r hf wide
sed -i 's/"hidden_size": 16/"hidden_size": 32/' wide/config.json
ok "a tensor of another shape is named" refuses 65 "bert.embeddings.word_embeddings.weight has shape .*, expected" "$TRAINER" import wide -o x.ckpt
cp -r hf deep
sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 3/' deep/config.json
ok "a tensor that is missing is named" refuses 65 "tensor bert.encoder.layer.2.attention.self.query.weight is missing" "$TRAINER" import deep -o x.ckpt
cp -r hf cut
head -c 5000 hf/model.safetensors >cut/model.safetensors
ok "a file that is cut is refused" refuses 65 "cut/model.safetensors" "$TRAINER" import cut -o x.ckpt

# Tokenizers as others write them; test_tokenizer_files and tests/parity have their ids.
n=$(wc -l <vocab.txt)
cp -r hf more
printf '{"[NEW]": %d, "old kernel": %d}\n' "$n" $((n + 1)) >more/added_tokens.json
sed 's/"model_max_length": [0-9]*/"model_max_length": 1000000000000000019884624838656/' hf/tokenizer_config.json >more/tokenizer_config.json
ids() { echo "the Old Kernel[NEW]" | "$TRAINER" tokenize --ids "$@"; }
plain=$(echo "the" | "$TRAINER" tokenize --ids --vocab vocab.txt)
out import more --output more.ckpt && [ "$(ids --checkpoint more.ckpt)" = "$plain $((n + 1)) $n" ]
ok "added tokens are in the checkpoint" test $? -eq 0
out export more.ckpt -o more2 && [ "$(ids --vocab more2)" = "$plain $((n + 1)) $n" ] && cmp -s vocab.txt more2/vocab.txt
ok "and in the folder that is exported" test $? -eq 0
[ "$(ids --vocab more)" = "$plain $((n + 1)) $n" ] && [ "$(ids --vocab vocab.txt)" != "$(ids --vocab more)" ]
ok "tokenize takes the folder as its vocabulary" test $? -eq 0
out fill-mask more.ckpt "the [NEW] [MASK] ."
ok "fill-mask knows them" test $? -eq 0
out prepare --vocab more --output more-corpus text.txt && out prepare --checkpoint more.ckpt --output same-corpus text.txt && cmp -s more-corpus.bin same-corpus.bin
ok "prepare takes folder or checkpoint alike" test $? -eq 0
out prepare --vocab vocab.txt --output without text.txt
[ "$(wc -c <more-corpus.bin)" -lt "$(wc -c <without.bin)" ]
ok "and knows added tokens" test $? -eq 0
sed 's/"\[NEW\]": [0-9]*/"[NEW]": 250/' more/added_tokens.json >changed && mv changed more/added_tokens.json
out import more --output more.ckpt && grep -q "'old kernel' has id $((n + 1)) in its file; as in transformers, it is $n (2 such)" err
ok "an id that transformers would not give is told" test $? -eq 0
jq -n --argjson n "$n" '[range(100)] | map({("<t\(.)>"): (. + $n)}) | add' >more/added_tokens.json
ok "more of them than the model has rows are refused" refuses 65 "vocab_size" "$TRAINER" import more -o x.ckpt
mv hf/vocab.txt away.txt
out import hf -o none.ckpt && out import hf --vocab away.txt -o with.ckpt && "$TRAINER" diff a.ckpt with.ckpt >out && [ "$(ids --checkpoint with.ckpt)" = "$(ids --vocab vocab.txt)" ]
ok "import --vocab" test $? -eq 0
mv away.txt hf/vocab.txt
sed '9,10s/^/x/' vocab.txt >other.txt
ok "of another vocabulary than the folder's is refused" refuses 65 "other.txt: not the vocabulary of hf" "$TRAINER" import hf --vocab other.txt -o x.ckpt
cp -r hf pointer
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n' >pointer/model.safetensors
ok "a Git LFS pointer is named" refuses 65 "model.safetensors: a Git LFS pointer.*git lfs pull" "$TRAINER" import pointer -o x.ckpt
[ ! -e x.ckpt ] && [ ! -e x.ckpt.tmp ]
ok "and nothing is left behind" test $? -eq 0
echo extra >>vocab.txt
ok "export with another vocabulary is refused" refuses 65 "vocab.txt: not the vocabulary" "$TRAINER" export --vocab vocab.txt "$(ckpt run 20)" -o hf3
ok "export of what is no checkpoint is refused" refuses 76 "config.json: not a readable checkpoint" "$TRAINER" export hf/config.json -o hf3
finish
