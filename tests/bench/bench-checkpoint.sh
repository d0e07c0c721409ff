#!/bin/bash
# What checkpoints at every 50 steps cost a run: the share of step time in which training waits for one. Prints Markdown.
. "$(dirname "$0")/lib.sh"
measure() { # NAME CONFIG STEPS THREADS
  cp "$source_dir/examples/configs/$2" "$work/config.json"
  sed -i "s/\"vocab_size\": [0-9]*/\"vocab_size\": $(wc -l <"$work/vocab.txt")/" "$work/config.json"
  make_spec "$1" 1 "$3"
  sed -i -e 's/every_steps: 20/every_steps: 50, every_sec: 0/' -e 's/sequence_length: 32/sequence_length: 64/' \
    -e "s/threads: 1/threads: $4/" "$work/$1.yaml"
  "$BERT_TRAINER" pretrain "$work/$1.yaml" --run-dir "$work/$1" >"$work/log" 2>&1 || give_up "$1: $(tail -n 1 "$work/log")"
  jq -rs --arg name "$1" --arg mb "$(du -m "$work/$1/checkpoints" | awk '{print $1}')" '
    map(select(.loss != null)) | (map(.checkpoint_sec) | add) as $c |
    (map(.data_sec + .forward_sec + .backward_sec + .exchange_sec + .update_sec + .checkpoint_sec) | add) as $all |
    "| \($name) | \(length) | \($c / $all * 10000 | round / 100) % | \(map(.samples_per_sec) | sort | .[length / 2 | floor] | round) |"' "$work/$1/metrics.jsonl"
}
make_corpus >/dev/null || give_up 'no corpus'
echo '| model, batch 32 × 64 tokens, 2 threads | steps | share of step time on checkpoints at every 50 steps | samples/s (median) |'
echo '|---|---|---|---|'
measure bert-tiny bert-tiny.json 400 2
measure bert-small bert-small.json 150 2
