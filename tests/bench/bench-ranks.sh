#!/bin/bash
# Two ranks of one thread beside one rank of two, alternated, and what a checkpoint of this model costs the step loop. Prints Markdown.
. "$(dirname "$0")/../e2e/lib.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
bertd_pid= # no daemon
steps=${STEPS:-8}
spec() { # NAME RANKS THREADS
  make_spec "$1" "$2" "$steps"
  sed -i -e 's/every_steps: 20/every_steps: 4, every_sec: 0/' -e 's/sequence_length: 32/sequence_length: 128/' -e 's/micro_batch: 8/micro_batch: 16/' \
    -e "s/threads: 1/threads: $3/" "$work/$1.yaml"
}
rate() { # NAME RANKS THREADS ROUND: the median step's samples/s, and the longest wait for a checkpoint in ms
  OMP_WAIT_POLICY=passive OMP_NUM_THREADS=$3 mpirun --oversubscribe --bind-to none -n "$2" -x OMP_NUM_THREADS -x OMP_WAIT_POLICY "$BERT_TRAINER" \
    pretrain "$work/$1.yaml" --run-dir "$work/$1-$4" >/dev/null 2>&1 || return 1
  jq -rs 'map(select(.loss != null)) | "\(map(.samples_per_sec) | sort | .[length / 2 | floor]) \(map(.checkpoint_sec) | max * 1000)"' \
    "$work/$1-$4/metrics.jsonl"
  rm -rf "${home:?}/$1-$4"
}
make_corpus >/dev/null || exit 1
cp "$source_dir/examples/configs/${CONFIG:-bert-small.json}" "$work/config.json"
sed -i "s/\"vocab_size\": [0-9]*/\"vocab_size\": $(wc -l <"$work/vocab.txt")/" "$work/config.json"
spec one 1 2
spec two 2 1
echo '| round | one rank of two threads, samples/s | two ranks of one | longest wait for a checkpoint, ms: one, two |'
echo '|---|---|---|---|'
for round in $(seq "${ROUNDS:-3}"); do
  read -r a wait_a < <(rate one 1 2 "$round")
  read -r b wait_b < <(rate two 2 1 "$round")
  printf '| %d | %.2f | %.2f | %.0f, %.0f |\n' "$round" "$a" "$b" "$wait_a" "$wait_b"
done
tap_finished=1 # no points: figures
