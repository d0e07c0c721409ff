#!/bin/bash
# Seconds that two ranks of one thread exchange gradients for: bert-small, the same with twelve layers, bert-base. JSON for tests/bench/scaling.py.
. "$(dirname "$0")/lib.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
bertd_pid= # no daemon
steps=6
make_corpus >/dev/null || give_up 'no corpus'
measure() { # NAME CONFIG [LAYERS]
  cp "$source_dir/examples/configs/$2" "$work/config.json"
  [[ -z ${3:-} ]] || sed -i "s/\"num_hidden_layers\": [0-9]*/\"num_hidden_layers\": $3/" "$work/config.json"
  sed -i "s/\"vocab_size\": [0-9]*/\"vocab_size\": $(wc -l <"$work/vocab.txt")/" "$work/config.json"
  make_spec "$1" 2 $steps
  sed -i -e 's/global_batch: 32, micro_batch: 8/global_batch: 4, micro_batch: 2/' -e 's/every_steps: 20/every_sec: 0/' "$work/$1.yaml"
  mpirun --oversubscribe --bind-to none -n 2 -x OMP_NUM_THREADS -x OMP_WAIT_POLICY "$BERT_TRAINER" pretrain "$work/$1.yaml" --run-dir "$work/$1" >"$work/log" 2>&1 || { tail -n 1 "$work/log" >&2; return 1; }
  jq -s --argjson n "$("$BERT_TRAINER" params --json "$work/config.json" | jq .with_pretraining_heads)" \
    'map(select(.loss != null) | .exchange_sec) | sort | {parameters: $n, exchange: .[length / 2 | floor]}' "$work/$1/metrics.jsonl"
}
small=$(measure small bert-small.json) && deep=$(measure deep bert-small.json 12) && base=$(measure base bert-base-uncased.json) || give_up 'a run failed'
jq -n --argjson small "$small" --argjson deep "$deep" --argjson base "$base" --argjson steps $steps '{steps: $steps, small: $small, deep: $deep, base: $base}'
