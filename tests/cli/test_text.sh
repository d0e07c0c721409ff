#!/bin/sh
# vocab, tokenize and prepare as a user runs them: TAP. BERT_TRAINER names the program.
. "$(dirname "$0")/text-lib.sh"
says() { # says EXPECTED ARGUMENT...: stdout for the input in file "in"
        expected=$1
        shift
        "$BERT_TRAINER" "$@" <in >out 2>err || { cat err; return 1; }
        [ "$(cat out)" = "$expected" ] || { cat out; return 1; }
}
same_bytes() { cmp "$1.bin" "$2.bin" && cmp "$1.idx" "$2.idx"; }
no_leftovers() { no_file "$1" '*.tmp'; }
counts() { # counts PREFIX DOCUMENTS SENTENCES
        cat "$1.json"
        grep -q "\"documents\": $2," "$1.json" && grep -q "\"sentences\": $3," "$1.json"
}

numbered_text 400 >text

ok "vocab learns" "$BERT_TRAINER" vocab --size 200 --output vocab.txt text
ok "special tokens come first" test "$(head -n 5 vocab.txt | tr '\n' ' ')" = "[PAD] [UNK] [CLS] [SEP] [MASK] "
ok "no more tokens than asked for" test "$(wc -l <vocab.txt)" -le 200
OMP_NUM_THREADS=3 "$BERT_TRAINER" vocab --size 200 --output vocab3.txt text 2>/dev/null
ok "vocab is the same at another number of threads" cmp vocab.txt vocab3.txt
ok "vocab refuses a text without words" refuses 65 "no word" "$BERT_TRAINER" vocab --size 100 --output v /dev/null
ok "vocab refuses a missing text" refuses 66 "nothing.txt: No such file" "$BERT_TRAINER" vocab --size 100 --output v nothing.txt
ok "vocab refuses a size of 3" refuses 2 "--size 3" "$BERT_TRAINER" vocab --size 3 --output v text

printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' hello wor '##ld' '!' >small.txt
printf 'Hello, w\303\266rld!\n\n[MASK]hello' >in
ok "tokenize: a line out for each line in" says "hello [UNK] wor ##ld !

[MASK] hello" tokenize --vocab small.txt
ok "tokenize --ids" says "5 1 6 7 8

4 5" tokenize --vocab small.txt --ids
ok "tokenize --no-lowercase" says "[UNK] [UNK] [UNK] !

[MASK] hello" tokenize --vocab small.txt --no-lowercase
spaces() { head -c 1000 /dev/zero | tr '\0' ' '; }
{ printf 'hel\377lo \300\200w\000orld'; spaces; } >in
ok "tokenize leaves out what is not UTF-8" says "hello wor ##ld" tokenize --vocab small.txt
ok "and says how many bytes, and where first" grep -q '^bert-trainer: standard input:1: byte 0xff: not UTF-8; left out, with 4 such bytes in all' err
# refused NAME PATTERN COMMAND...: tokenize, vocab and prepare alike
refused() {
        for command in "tokenize --vocab small.txt" "vocab --size 100 --output bad" "prepare --vocab small.txt --output bad"; do
                ok "${command%% *} refuses $1" refuses 65 "$2" "$BERT_TRAINER" $command odd
        done
}
{ printf 'hello\nw\366rld'; head -c 89 /dev/zero | tr '\0' ' '; } >odd
ok "1 % of a text may be no UTF-8" "$BERT_TRAINER" tokenize --vocab small.txt odd
printf 'hello\nw\366rld' >odd
refused "what is Latin-1" 'odd:2: byte 0xf6: not UTF-8, as are 1 of 11 bytes'
cp odd in
ok "--encoding latin-1 reads it" says "hello
wor ##ld" tokenize --vocab small.txt --encoding latin-1
printf 'w\303\266rld\n' >in
says "[UNK]" tokenize --vocab small.txt --encoding latin-1 --no-strip-accents >/dev/null
ok "UTF-8 that is read as Latin-1 is said" grep -q '^bert-trainer: standard input: read as latin-1, but is UTF-8' err
ok "an unknown encoding is refused" refuses 2 "gb18030.*iconv" "$BERT_TRAINER" tokenize --vocab small.txt --encoding gb18030 odd
for kind in UTF-16 UTF-16LE UTF-16BE UTF-32LE UTF-32BE; do
        printf 'hello world\nhello\n' | iconv -f UTF-8 -t $kind >odd
        refused $kind "odd: UTF-[0-9]*[BL]E, expected UTF-8; convert it: iconv -f $kind -t UTF-8"
done
echo 上海上海上海 | iconv -f UTF-8 -t UTF-16 >odd
ok "UTF-16 is known by its mark alone" refuses 65 "odd: UTF-16LE" "$BERT_TRAINER" tokenize --vocab small.txt odd
printf hello | iconv -f UTF-8 -t UTF-16BE >odd
ok "and by its zero bytes" refuses 65 "odd: UTF-16BE" "$BERT_TRAINER" tokenize --vocab small.txt odd
for _ in 1 2 3 4; do echo 上海城市; done | iconv -f UTF-8 -t UTF-16LE >odd
ok "so is Chinese in it" refuses 65 "odd: UTF-16LE" "$BERT_TRAINER" tokenize --vocab small.txt odd
for _ in 1 2 3 4; do echo Привет, мир; done | iconv -f UTF-8 -t UTF-16BE >odd
ok "and Russian" refuses 65 "odd: UTF-16BE" "$BERT_TRAINER" tokenize --vocab small.txt odd
for kind in UTF-16LE UTF-16BE; do
        printf '上海\n' | iconv -f UTF-8 -t $kind >odd
        refused "a short text in $kind" "odd:[0-9]:.*; is it $kind? iconv -f $kind -t UTF-8 converts it"
done
for kind in UTF-16 UTF-16LE; do
        printf 'ગુજરાતી ભાષા\n' | iconv -f UTF-8 -t $kind >odd
        ok "a script whose high byte is LF, in $kind" refuses 65 "is it UTF-16LE?" "$BERT_TRAINER" tokenize --vocab small.txt odd
done
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 12345\n' 7 >odd
refused "a Git LFS pointer" "odd: a Git LFS pointer"
cp odd pointer.json
ok "so is one for a tokenizer.json" refuses 65 "pointer.json: a Git LFS pointer" "$BERT_TRAINER" tokenize --vocab pointer.json odd
ok "and for a checkpoint" refuses 76 "odd: a Git LFS pointer" "$BERT_TRAINER" inspect odd
printf 'PK\003\004\024' >odd
ok "a workbook is compressed" refuses 65 "odd: compressed with zip" "$BERT_TRAINER" tokenize --vocab small.txt odd
for _ in 1 2 3 4; do printf 'hi hello\000\n'; done >odd
ok "lines that end in NUL are no UTF-16" refuses 65 "odd:1: byte 0x00: not text" "$BERT_TRAINER" tokenize --vocab small.txt odd
printf '%s\000\n' 上海城市の路地を歩く上海城市の路地を >odd
ok "nor in another script" refuses 65 "odd:1: byte 0x00: not text" "$BERT_TRAINER" tokenize --vocab small.txt odd
printf '\357\273\277hello\n' | tee in >marked
ok "a byte order mark is dropped, of every file" says "5
5
5" tokenize --vocab small.txt --ids marked - marked
printf 'hello\rworld\r\rhello' >in
ok "CRs are line ends where nothing else is" says "hello
wor ##ld

hello" tokenize --vocab small.txt
ok "which is said" grep -q '^bert-trainer: standard input: its lines end in CR alone' err
printf 'hello\rworld\nhello\r\n' >in
ok "else they are white space" says "hello wor ##ld
hello" tokenize --vocab small.txt
mkfifo fed.pipe
(printf 'hello\r'; sleep 0.2; printf '\nhello\rworld\n') >fed.pipe &
is "a CRLF that comes in two pieces is one line end" "$("$BERT_TRAINER" tokenize --vocab small.txt <fed.pipe | tr '\n' '|')" "hello|hello wor ##ld|"
(printf 'hello\r'; sleep 0.2; printf 'world') >fed.pipe &
is "CRs that come in two pieces" "$("$BERT_TRAINER" tokenize --vocab small.txt <fed.pipe 2>/dev/null | tr '\n' '|')" "hello|wor ##ld|"
wait
grep -v MASK small.txt >no-mask.txt
ok "a vocabulary without [MASK] is refused" refuses 65 "no-mask.txt: no token \[MASK\]" "$BERT_TRAINER" tokenize --vocab no-mask.txt
ok "an unknown option is refused" exits 2 "$BERT_TRAINER" tokenize --frobnicate

ok "prepare prose" "$BERT_TRAINER" prepare --vocab vocab.txt --format prose --output prose text
ok "two blank lines part documents, sentences are split" counts prose 40 800
OMP_NUM_THREADS=1 "$BERT_TRAINER" prepare --vocab vocab.txt --format prose --output one text 2>/dev/null
ok "prepare is the same on one thread" same_bytes prose one
ok "prepare --validation" "$BERT_TRAINER" prepare --vocab vocab.txt --format prose --validation 0.2 --output split text
ok "held-out documents are a corpus of their own" test -s split-validation.idx
ok "no temporary file is left" no_leftovers .

printf 'one fox\ntwo dogs\n\nthree foxes\n\n\n' >lines
"$BERT_TRAINER" prepare --vocab vocab.txt --output lines lines 2>/dev/null
ok "prepare lines" counts lines 2 3
printf ' = Title = \n \n The fox . The <unk> dog . \n = = Part = = \n Well @-@ known . \n = Next = \n A fox . \n' >wiki
"$BERT_TRAINER" prepare --vocab vocab.txt --format wikitext --output wiki wiki 2>/dev/null
ok "prepare wikitext: titles part documents, headings are left out" counts wiki 2 4
printf '{"text": "A fox. The dog."}\n\n{"text": "One\\n\\n\\nparagraph", "id": 3}\n' >json
"$BERT_TRAINER" prepare --vocab vocab.txt --format jsonl --output json json 2>/dev/null
ok "prepare jsonl: an object is a document" counts json 2 4
printf '{"text": "fine"}\n{"text": 7}\n' >json
ok "prepare names the line of a bad object" refuses 65 'json:2: no string "text"' "$BERT_TRAINER" prepare --vocab vocab.txt --format jsonl --output bad json
ok "prepare refuses an empty text" refuses 65 "no sentence" "$BERT_TRAINER" prepare --vocab vocab.txt --output bad /dev/null
ok "prepare refuses a compressed text" sh -c 'gzip -c text >text.gz; "$BERT_TRAINER" prepare --vocab vocab.txt --output bad text.gz; test $? -eq 65'
ok "nothing is left of what was refused" no_file . 'bad*'

head -c 3000000 /dev/zero | tr '\0' 'x' | fold -w 7 | tr '\n' ' ' >long
{ echo; echo fox; } >>long
"$BERT_TRAINER" prepare --vocab vocab.txt --output long long 2>/dev/null
ok "a line of 3 MB is one sentence" counts long 1 2
is "and one line" "$("$BERT_TRAINER" tokenize --vocab small.txt long | wc -l)" 2
head -c 34000000 /dev/zero | tr '\0' 'x' >odd
refused "a line of more than 32 MiB" "odd:1: a line of more than 32 MiB"

ok "a full disk is one line and exit code 74" sh -c 'ulimit -f 8; trap "" XFSZ
        "$BERT_TRAINER" prepare --vocab vocab.txt --format prose --output full text text text text text text text text; test $? -eq 74'
ok "so is a full disk below tokenize" sh -c '"$BERT_TRAINER" tokenize --vocab vocab.txt text >/dev/full; test $? -eq 74'
ok "nothing is left of it" no_file . 'full*'

data=${SOURCE_DIR:-.}/../shared/data
if [ -r "$data/vocab/bert-base-uncased.txt" ]; then
        printf 'unaffable na\303\257ve \345\214\227\344\272\254 \342\211\256 \304\260stanbul\n' >in
        ok "the published vocabulary" says "una ##ffa ##ble naive 北 京 < istanbul" tokenize --vocab "$data/vocab/bert-base-uncased.txt"
else
        skip "the published vocabulary" "../shared/data is not there"
fi
finish
