#!/bin/bash
# Two ranks of one thread beside one rank of two, alternated, and what a checkpoint of this model costs the step loop. Prints Markdown.
. "$(dirname "$0")/lib.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
bertd_pid= # no daemon
steps=${STEPS:-8} rounds=${ROUNDS:-5}
spec() { # NAME RANKS THREADS MICRO_BATCH
  make_spec "$1" "$2" "$steps"
  sed -i -e 's/every_steps: 20/every_steps: 4, every_sec: 0/' -e 's/sequence_length: 32/sequence_length: 128/' \
    -e "s/global_batch: 32, micro_batch: 8/global_batch: $((2 * $4)), micro_batch: $4/" -e "s/threads: 1/threads: $3/" "$work/$1.yaml"
}
run() { # NAME RANKS THREADS: the median step's samples/s, and the longest wait for a checkpoint in ms, to $work/NAME.rounds
  OMP_WAIT_POLICY=passive OMP_NUM_THREADS=$3 mpirun --oversubscribe --bind-to none -n "$2" -x OMP_NUM_THREADS -x OMP_WAIT_POLICY "$BERT_TRAINER" \
    pretrain "$work/$1.yaml" --run-dir "$work/$1" >"$work/$1.log" 2>&1 || give_up "$1: $(tail -n 1 "$work/$1.log")"
  jq -rs 'map(select(.loss != null)) | "\(map(.samples_per_sec) | sort | .[length / 2 | floor]) \(map(.checkpoint_sec) | max * 1000)"' \
    "$work/$1/metrics.jsonl" >>"$work/$1.rounds"
  rm -rf "${work:?}/$1"
}
rate() { sort -n "$work/$1.rounds" | awk '{v[NR] = $1} END {printf "%.2f", v[int((NR + 1) / 2)]}'; } # NAME: the rounds' median
wait_of() { awk '$2 > most {most = $2} END {printf "%.0f", most}' "$work/$1.rounds"; } # NAME
measure() { # NAME CONFIG MICRO_BATCH
  cp "$source_dir/examples/configs/$2" "$work/config.json"
  sed -i "s/\"vocab_size\": [0-9]*/\"vocab_size\": $(wc -l <"$work/vocab.txt")/" "$work/config.json"
  spec one 1 2 "$3"
  spec two 2 1 "$3"
  rm -f "$work"/*.rounds
  for ((i = 0; i < rounds; i++)); do
    run one 1 2
    run two 2 1
  done
  echo "| $1, $((2 * $3)) × 128, $rounds rounds | $(rate one) | $(rate two) | $(wait_of one), $(wait_of two) |"
}
make_corpus >/dev/null || give_up 'no corpus'
echo '| model | one rank of two threads, samples/s | two ranks of one | longest wait for a checkpoint, ms: one, two |'
echo '|---|---|---|---|'
measure small bert-small.json 16
measure base bert-base-uncased.json 4
