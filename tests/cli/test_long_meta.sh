#!/bin/sh
# What a checkpoint says of itself is kept whole, however long: names of classes, tasks and columns, the path of the vocabulary: TAP.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
long() { printf '%0*d%s' "$1" 0 "$2"; } # a name of that many zeros, and an end
deep=$(long 230 a)/$(long 230 b)/$(long 230 c)/$(long 230 d)/$(long 230 e)
mkdir -p "$deep"
cp vocab.txt "$deep/"
awk -v long="$(long 990 '')" 'BEGIN { for (i = 0; i < 80; i++) printf "the kernel reads page %d\t%s%d\n", i % 40, long, i % 40 }' >many.tsv
column=$(long 1100 column)
printf '{"%s": "the old kernel", "mood": "calm"}\n{"%s": "the fast page", "mood": "busy"}\n' "$column" "$column" >moods.jsonl
cat >long.yaml <<SPEC
kind: finetune
checkpoint: {every_steps: 2, every_sec: 0}
model: {config: tiny.json, vocab: $deep/vocab.txt}
data: {train: [many.tsv], text: [1], label: 2, sequence_length: 16}
train: {global_batch: 8, micro_batch: 8, steps: 2}
stages:
- tasks:
  - {task: $(long 600 many)}
  - {task: $(long 600 moods), train: [moods.jsonl], text: [$column], label: mood}
SPEC
timeout 120 "$TRAINER" finetune long.yaml --run-dir long >long.log 2>&1
ok "long names of 40 classes, of tasks and columns, a long path" test $? -eq 0
last=$(ckpt long 2)
ok "the path is whole" equal "$("$TRAINER" inspect --json "$last" | jq -r .meta.vocab_path)" "$work/$deep/vocab.txt"
ok "so are the tasks" equal "$("$TRAINER" inspect --json "$last" | jq -r .meta.heads)" "$(long 600 many),$(long 600 moods)"
ok "and the classes" equal "$("$TRAINER" predict "$last" many.tsv --task "$(long 600 many)" | head -n 1 | jq -r '.probabilities | keys | length, .[39]' | tr '\n' ' ')" "40 $(long 990 9) "
"$TRAINER" predict "$last" moods.jsonl --task "$(long 600 moods)" >out 2>err && [ "$(wc -l <out)" -eq 2 ]
ok "a column's name, too" test $? -eq 0
sed 's/steps: 2}$/steps: 3}/' long.yaml >longer.yaml
timeout 120 "$TRAINER" finetune longer.yaml --run-dir long >longer.log 2>&1 && grep -q "^resuming from .*step 2 of 3" longer.log
ok "it resumes" test $? -eq 0
finish
