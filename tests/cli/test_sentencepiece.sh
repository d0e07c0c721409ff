#!/bin/sh
# tokenize and prepare with a SentencePiece model, beside spm_encode: TAP. BERT_TRAINER names the program.
. "$(dirname "$0")/text-lib.sh"
command -v spm_train >/dev/null && command -v spm_encode >/dev/null || skip_all "no spm_train and spm_encode here"
as_spm_encode() { # as_spm_encode FORMAT MODEL TEXT EXPECTED-TEXT OPTION...: our lines for TEXT are spm_encode's for EXPECTED-TEXT
        format=$1 model=$2 text=$3 plain=$4
        shift 4
        spm_encode --model="$model" --output_format="$format" <"$plain" >theirs 2>/dev/null || return 1
        ids=
        [ "$format" = piece ] || ids=--ids
        "$BERT_TRAINER" tokenize --vocab "$model" $ids "$@" "$text" >ours || return 1
        diff ours theirs
}

i=0
while [ $i -lt 400 ]; do
        echo "The quick brown fox number $i jumps over the lazy dog at $((i * 7 % 31)) o'clock, and nobody (but $i) saw it!"
        i=$((i + 1))
done >text
spm_train --input=text --model_prefix=small --vocab_size=120 --pad_id=0 --unk_id=1 --bos_id=-1 --eos_id=-1 \
        --control_symbols='[CLS],[SEP],[MASK]' >/dev/null 2>&1
printf '%b\n' "The FOX said \`\`no'' at 5,000" '' "na\303\257ve \357\254\201x \342\205\247" "\316\221\316\243 \316\243\316\221 \304\260" \
        "[MASK] o'clock 北" '   two  spaces ' >raw
printf '%b\n' 'the fox said "no" at 5,000' '' 'naive fix viii' "\316\261\317\202 \317\203\316\261 i" \
        "[mask] o'clock 北" '   two  spaces ' >albert
off='--no-quotes --no-nfkd --no-strip-accents --no-lowercase'
ok "pieces as spm_encode after ALBERT's preprocessing" as_spm_encode piece small.model raw albert
ok "ids, too" as_spm_encode id small.model raw albert
ok "all switched off: spm_encode itself, pieces" as_spm_encode piece small.model raw raw $off
ok "and ids" as_spm_encode id small.model raw raw $off
sed "s/\`\`/\"/; s/''/\"/" raw >quotes
ok "quotes alone" as_spm_encode piece small.model raw quotes --no-nfkd --no-strip-accents --no-lowercase
ok "long text, on all threads" as_spm_encode id small.model text text --no-lowercase

ok "prepare takes the model" "$BERT_TRAINER" prepare --vocab small.model --output corpus text
ok "the sidecar says how" grep -q '"nfkd": true' corpus.json
ok "as many tokens as spm_encode gives" sh -c 'tr A-Z a-z <text | spm_encode --model=small.model --output_format=id 2>/dev/null | wc -w |
        xargs -I{} grep "\"tokens\": {}," corpus.json'
ok "--chinese is not for it" refuses 2 "not with a SentencePiece model" "$BERT_TRAINER" tokenize --vocab small.model --chinese
printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' hello >words.txt
ok "--nfkd is not for WordPiece" refuses 2 "only with a SentencePiece model" "$BERT_TRAINER" tokenize --vocab words.txt --nfkd
head -c 2000 small.model >cut.model
ok "a model cut short is refused" refuses 65 "cut.model: not a readable SentencePiece model: cut short" "$BERT_TRAINER" tokenize --vocab cut.model
spm_train --input=text --model_prefix=plain --vocab_size=100 >/dev/null 2>&1
ok "a model without ALBERT's special tokens is refused" refuses 65 "plain.model: no token" "$BERT_TRAINER" tokenize --vocab plain.model

# A run on such a vocabulary, out and in again.
cat >albert.json <<'JSON'
{"model_type": "albert", "vocab_size": 128, "embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
 "intermediate_size": 32, "max_position_embeddings": 64}
JSON
cat >spec.yaml <<'SPEC'
kind: pretrain
model: {config: albert.json, vocab: small.model}
data: {train: [corpus], sequence_length: 32, objective: mlm, mask_unit: ngram}
train: {global_batch: 4, micro_batch: 4, steps: 4}
SPEC
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
ok "a run trains on it, with n-gram masking" "$BERT_TRAINER" pretrain spec.yaml --run-dir run
checkpoint=run/checkpoints/step-000000004.ckpt
ok "export" "$BERT_TRAINER" export $checkpoint --output hf
ok "gives the folder the model and ALBERT's tokenizer" sh -c 'cmp small.model hf/spiece.model && [ ! -e hf/vocab.txt ] && grep AlbertTokenizer hf/tokenizer_config.json'
ok "import takes it" "$BERT_TRAINER" import hf --output again.ckpt
fills() { "$BERT_TRAINER" fill-mask --top 3 "$1" 'The fox [MASK] the "dog"' >filled && grep -cE '^  1: ([^ ]+ [01]\.[0-9]{3}(  |$)){3}' filled; }
ok "fill-mask" fills $checkpoint
cp filled before
ok "after export and import, too" fills again.ckpt
ok "and says the same" cmp before filled

model=${SOURCE_DIR:-.}/../shared/data/vocab/albert-german-30k.model
wiki=${SOURCE_DIR:-.}/../shared/data/wikitext2/valid.txt
if [ -r "$model" ] && [ -r "$wiki" ]; then
        ok "a published model on WikiText-2" as_spm_encode id "$model" "$wiki" "$wiki" $off
else
        skip "a published model on WikiText-2" "../shared/data is not there"
fi
# A folder as AlbertTokenizer has it: added tokens, and special tokens in a text are the tokens.
mkdir folder && cp small.model folder/spiece.model
echo '{"tokenizer_class": "AlbertTokenizer", "additional_special_tokens": ["<e1>"], "added_tokens_decoder": {"120": {"content": "[NEW]", "normalized": false}}}' >folder/tokenizer_config.json
ids() { printf '%s\n' "$2" | "$BERT_TRAINER" tokenize --ids --vocab "$1"; }
the=$(ids small.model the) fox=$(ids small.model fox)
[ "$(ids folder 'the [NEW] <e1>fox')" = "$the 120 121 $fox" ]
ok "a folder's added tokens" test $? -eq 0
[ "$(ids folder 'the [SEP] fox')" = "$the 3 $fox" ] && [ "$(ids small.model 'the [SEP] fox')" != "$(ids folder 'the [SEP] fox')" ]
ok "and special tokens" test $? -eq 0
cut -f 1 small.vocab | jq -Rn '{model: {type: "Unigram", vocab: [inputs | [., 0]]}}' >folder/tokenizer.json
[ "$(ids folder 'the [NEW]')" = "$the 120" ]
ok "tokenizer.json beside its model" test $? -eq 0
sed -i 's/"the"/"thee"/; s/"▁"/"_"/' folder/tokenizer.json
ok "beside another model is refused" refuses 65 "tokenizer.json and spiece.model differ from id" "$BERT_TRAINER" tokenize --vocab folder
rm folder/spiece.model
ok "alone it names what is missing" refuses 66 "copy spiece.model" "$BERT_TRAINER" tokenize --vocab folder
finish
