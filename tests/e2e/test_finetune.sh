#!/bin/bash
# A fine-tuning job under bertd: submitted, killed with -9, resumed by itself, done with the weights of an undisturbed one.
. "$(dirname "$0")/lib.sh"
command -v mpirun >/dev/null || skip_all "no mpirun"
plan 8
ok "vocabulary and config" make_corpus
awk 'BEGIN { srand(5); split("kernel memory page device", a); split("network socket packet signal", b)
  for (i = 0; i < 400; i++) { w = int(rand() * 4) + 1; printf "%s\tthe old %s reads the file\n", i % 2 ? "core" : "net", i % 2 ? a[w] : b[w] } }' >"$home/train.tsv"
spec() { # NAME STEPS
  cat >"$home/$1.yaml" <<SPEC
name: $1
kind: finetune
resources: {ranks: 2, threads: 1}
restart: {backoff_sec: [1, 4], grace_sec: 30}
checkpoint: {every_steps: 20, keep: 3}
model: {config: config.json, vocab: vocab.txt}
data: {train: [train.tsv], split: 0.1, text: [2], label: 1, sequence_length: 32}
optimizer: {learning_rate: 1.0e-3, warmup_ratio: 0.1}
train: {global_batch: 32, micro_batch: 8, steps: $2, evaluate_every: 200}
SPEC
}
steps=500
((patience > 1)) && steps=300
spec calm $steps
spec hit $steps
start_bertd
job=$("$BERTCTL" submit "$home/calm.yaml")
ok "the undisturbed job is done" "$BERTCTL" wait "$job"
calm=$(field "$job" checkpoint_path)
is "it is of its kind" "$(field "$job" kind)" finetune
job=$("$BERTCTL" submit "$home/hit.yaml")
ok "it trains" wait_for 60 step_past "$job" 25
kill -KILL "$(of_job "$job" bert-trainer | tail -n 1)"
ok "a rank killed: a second attempt runs" wait_for 30 attempt_past "$job" 2
ok "the job is done" "$BERTCTL" wait "$job"
ok "with bit-identical weights" quietly "$BERT_TRAINER" diff "$calm" "$(field "$job" checkpoint_path)"
sed 's/train.tsv/absent.tsv/' "$home/hit.yaml" >"$home/bad.yaml"
is "a file that is not there is told at once" "$("$BERTCTL" submit "$home/bad.yaml" 2>&1 | grep -c 'data.train: .*absent.tsv: No such file')" 1
