#!/bin/sh
# What people are told: places that cannot be written are 74 and named, a corpus is asked for by its prefix, a text that is mostly unknown is
# said to be, with the words and the likely reason; no message has what only a programmer could read. TAP.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
write_spec spec.yaml 2 0
train 1 spec.yaml --run-dir run >run.log 2>&1 && "$TRAINER" export "$(ckpt run 2)" --output hf >run.log 2>&1 && cp "$(ckpt run 2)" some.ckpt ||
        { cat run.log; exit 99; }
awk 'BEGIN { for (i = 0; i < 12; i++) printf "%s\tthe %s reads\n", i % 2 ? "a" : "b", i % 2 ? "kernel" : "inode" }' >rows.tsv
cat >tune.yaml <<'SPEC'
kind: finetune
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [rows.tsv], text: [2], label: 1, sequence_length: 16}
train: {global_batch: 4, micro_batch: 4, steps: 2}
SPEC
"$TRAINER" finetune tune.yaml --run-dir tuned >run.log 2>&1 || { cat run.log; exit 99; }
tuned=$(ckpt tuned 2)

# Places that cannot be written, tried by every command that writes.
as=
if [ "$(id -u)" -eq 0 ]; then
        chmod a+rx . && mkdir bin && cp "$TRAINER" bin/bert-trainer && TRAINER=$PWD/bin/bert-trainer as='setpriv --reuid 65534 --regid 65534 --clear-groups'
fi
unwritable() { # WHY FOLDER: what is written into it is refused, named
        ok "vocab: $1" refuses 74 "$2/v.txt: cannot be written: $1" $as "$TRAINER" vocab --size 200 --output "$2/v.txt" text.txt
        ok "prepare: $1" refuses 74 "$2/c.idx: cannot be written: $1" $as "$TRAINER" prepare --vocab vocab.txt --output "$2/c" text.txt
        ok "import: $1" refuses 74 "$2/i.ckpt: cannot be written: $1" $as "$TRAINER" import hf --output "$2/i.ckpt"
}
unwritable_deep() { # WHY FOLDER: folders that are made on the way, too
        ok "export: $1" refuses 74 "$2.*: cannot be written: $1" $as "$TRAINER" export some.ckpt --output "$2/hf"
        ok "a run folder: $1" refuses 74 "$2.*: cannot be written: $1" $as "$TRAINER" pretrain spec.yaml --run-dir "$2/run"
}
mkdir theirs && echo >file
for f in Permission=theirs Not=file; do
        unwritable "${f%=*}" "${f#*=}"
        unwritable_deep "${f%=*}" "${f#*=}"
done
unwritable "no such folder" absent
ok "a folder in a vocabulary's place" refuses 74 "^bert-trainer: theirs: cannot be written: Is a directory" "$TRAINER" vocab --size 200 --output theirs text.txt
ok "in a checkpoint's" refuses 74 "^bert-trainer: theirs: cannot be written: Is a directory" "$TRAINER" import hf --output theirs
mkdir -p part/metrics.jsonl other/checkpoints && echo >other/tensorboard
ok "in the metrics'" refuses 74 "^bert-trainer: part/metrics.jsonl: cannot be written: Is a directory" "$TRAINER" pretrain spec.yaml --run-dir part
ok "a file in the place of TensorBoard's folder" refuses 74 "^bert-trainer: other/tensorboard: cannot be written: Not a directory" "$TRAINER" pretrain spec.yaml --run-dir other
no_learning() { # it is seen before anything is computed: standard input is not even read
        refuses 74 "absent/v.txt: cannot be written" "$TRAINER" vocab --size 200 --output absent/v.txt /dev/zero
}
ok "vocab sees it before it learns" no_learning
mkdir small
if mount -t tmpfs -o size=64k tmpfs small 2>/dev/null; then
        mkdir small/d
        mount -o remount,ro small
        unwritable Read-only small/d
        unwritable_deep Read-only small/d
        mount -o remount,rw small
        head -c 64k /dev/zero >small/fill 2>/dev/null
        for f in "vocab --size 200 --output small/v.txt text.txt" "prepare --vocab vocab.txt --output small/c text.txt" "import hf --output small/i.ckpt" "export some.ckpt --output small/hf"; do
                ok "${f%% *}: a full disk" refuses 74 "^bert-trainer: small/[^ ]*: .*\(No space left on device\|disk is full\)" "$TRAINER" $f
        done
        umount -l small
else
        skip "read only and full disks" "cannot mount a tmpfs"
fi
for i in $(seq 100); do cat rows.tsv; done >many.tsv # more than is kept until the end
for f in "tokenize --vocab vocab.txt text.txt" "inspect some.ckpt" "inspect --json some.ckpt" "evaluate $tuned rows.tsv" "evaluate --json $tuned rows.tsv" "predict $tuned rows.tsv" "predict $tuned many.tsv" "embed $tuned many.tsv" \
        "params tiny.json" "fill-mask some.ckpt [MASK]" "diff some.ckpt some.ckpt" --help "vocab --help"; do
        ok "standard output is full: $f" refuses 74 "standard output: No space left on device" sh -c "\"\$0\" $f >/dev/full" "$TRAINER"
done

# A corpus goes by its prefix.
echo >prefix.txt
for f in bin idx; do cp corpus.$f prefix.$f; done
mkdir folder && cp corpus.* folder
asked() { # GIVEN PATTERN
        sed "s|\[corpus\]|[$1]|" spec.yaml >bad.yaml
        ok "data.train: [$1]" refuses 66 "$2" "$TRAINER" pretrain bad.yaml --run-dir new
}
for f in prefix.bin prefix.idx prefix.txt prefix.; do asked $f "/$f: expected a corpus prefix: .*/prefix\$"; done
asked folder "/folder: a folder; expected a corpus prefix: .*/folder/corpus\$"
asked text.txt "/text.txt: a file; expected a corpus prefix, as written by bert-trainer prepare"
asked nowhere.bin "/nowhere.bin: expected a corpus prefix: .*/nowhere, for .*/nowhere.bin and .*/nowhere.idx"
asked nowhere "/nowhere.idx: No such file"
sed 's/corpus-validation/prefix.bin/' spec.yaml >bad.yaml
ok "so does validation" refuses 66 "/prefix.bin: expected a corpus prefix: .*/prefix\$" "$TRAINER" pretrain bad.yaml --run-dir new
for f in c.bin c.idx c. folder/ ""; do
        ok "prepare --output '$f'" refuses 2 "--output '$f': expected a prefix" "$TRAINER" prepare --vocab vocab.txt --output "$f" text.txt
done
ok "none of them left a file" no_file . 'c.*'

# A text of which the vocabulary knows little.
unknown() { # DESCRIPTION PATTERN COMMAND...: it is done, and one line says so
        description=$1 pattern=$2
        shift 2
        "$@" >out 2>err
        ok "$description" sh -c 'test $1 -eq 0 && test $(grep -c "are unknown to the vocabulary" err) -eq 1 && grep -q -e "$2" err || { cat err; false; }' sh $? "$pattern"
}
for i in $(seq 30); do printf 'мир, дом! мир и дом - мир. лес %s\n\n' "$i"; done >foreign
words="most often 'мир', 'дом', '\(и\|лес\)'"
unknown "prepare: too much is unknown, with the commonest words" "^bert-trainer: foreign-c: [0-9]* of [0-9]* tokens ([0-9]* %) are unknown to the vocabulary, $words: is it of another language?" \
        "$TRAINER" prepare --vocab vocab.txt --output foreign-c foreign
unknown "tokenize" "$words" "$TRAINER" tokenize --vocab vocab.txt foreign
tr a-z A-Z <text.txt >upper.txt
unknown "cased text and a vocabulary in lower case" "'THE', .* try --lowercase" "$TRAINER" prepare --vocab vocab.txt --no-lowercase --output upper upper.txt
"$TRAINER" vocab --no-lowercase --size 200 --output cased.txt upper.txt >/dev/null 2>&1
unknown "the other way" "'THE', .* try --no-lowercase" "$TRAINER" prepare --vocab cased.txt --output upper upper.txt
sed 's/e/é/g' text.txt >accents.txt
unknown "accents" "'thé', .* try --strip-accents" "$TRAINER" prepare --vocab vocab.txt --no-strip-accents --output accents accents.txt
awk 'NF { print (n++ % 2 ? "a" : "b") "\t" $0 }' foreign >foreign.tsv
sed 's/rows.tsv/foreign.tsv/' tune.yaml >foreign.yaml
unknown "finetune" "train: .*$words" "$TRAINER" finetune foreign.yaml --run-dir foreign-run
unknown "evaluate" "foreign.tsv: .*$words" "$TRAINER" evaluate "$tuned" foreign.tsv
unknown "predict" "foreign.tsv: .*$words" "$TRAINER" predict "$tuned" foreign.tsv
"$TRAINER" prepare --vocab vocab.txt --output known text.txt 2>err
ok "nothing is said of what is known" not grep -q "unknown" err

# What libraries say is passed on without where in their source they said it (refuses looks at every message).
sed "s/config: tiny.json, vocab: vocab.txt/init: some.ckpt/; s/sequence_length: 32/sequence_length: 128/" spec.yaml >bad.yaml
sed "s/config: tiny.json, vocab: vocab.txt/init: some.ckpt/; s/sequence_length: 16/sequence_length: 128/" tune.yaml >long.yaml
ok "a model without a config is named by what it begins with" refuses 78 "some.ckpt has max_position_embeddings 64" "$TRAINER" finetune long.yaml --run-dir new
for f in '{"vocab_size": }' '{"a": "\u0000"' '[1]' '' '{"vocab_size": 1e999}' '{"a": 1} b'; do
        printf '%s' "$f" >bad.json
        ok "config.json: $f" refuses 78 "^bert-trainer: bad.json:" "$TRAINER" params bad.json
done
for f in "DROP TABLE chunk" "DROP TABLE meta" "PRAGMA application_id = 7" "UPDATE tensor SET shape = 'x'"; do
        cp some.ckpt bad.ckpt && sqlite3 bad.ckpt "$f"
        ok "a checkpoint after $f" refuses 76 "^bert-trainer: bad.ckpt: " "$TRAINER" inspect bad.ckpt
done
for f in 5000 100; do
        head -c $f some.ckpt >bad.ckpt
        ok "$f bytes of a checkpoint" refuses 76 "^bert-trainer: bad.ckpt: " "$TRAINER" inspect bad.ckpt
done
finish
