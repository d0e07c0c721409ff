#!/bin/bash
# A fine-tuning job under bertd: submitted, killed with -9, resumed by itself, done with the weights of an undisturbed one; a sweep as an
# array of jobs with its table.
. "$(dirname "$0")/lib.sh"
command -v mpirun >/dev/null || skip_all "no mpirun"
ok "vocabulary and config" make_corpus
awk 'BEGIN { srand(5); split("kernel memory page device", a); split("network socket packet signal", b)
  for (i = 0; i < 400; i++) { w = int(rand() * 4) + 1; printf "%s\tthe old %s reads the file\n", i % 2 ? "core" : "net", i % 2 ? a[w] : b[w] } }' >"$work/train.tsv"
spec() { # NAME STEPS
  cat >"$work/$1.yaml" <<SPEC
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
steps=250
spec calm $steps
spec hit $steps
start_bertd
job=$("$BERTCTL" submit "$work/calm.yaml")
ok "the undisturbed job is done" wait_job "$job"
calm=$(field "$job" checkpoint_path)
is "it is of its kind" "$(field "$job" kind)" finetune
job=$("$BERTCTL" submit "$work/hit.yaml")
ok "it trains" wait_for 60 step_past "$job" 25
kill -KILL "$(of_job "$job" bert-trainer | tail -n 1)"
ok "a rank killed: a second attempt runs" wait_for 30 attempt_past "$job" 2
ok "the job is done" wait_job "$job"
ok "with bit-identical weights" quietly "$BERT_TRAINER" diff "$calm" "$(field "$job" checkpoint_path)"
sed 's/train.tsv/absent.tsv/' "$work/hit.yaml" >"$work/bad.yaml"
ok "a file that is not there is told at once" refuses 2 'data.train: .*absent.tsv: No such file' "$BERTCTL" submit "$work/bad.yaml"

# ---- pairs of texts, numbers ----
awk 'BEGIN { srand(6); split("kernel memory page device", a); print "sentence1,sentence2,score"
  for (i = 0; i < 200; i++) { w = int(rand() * 4) + 1; printf "the %s reads,\"the %s, old\",%.2f\n", a[w], a[i % 2 ? w : w % 4 + 1], i % 2 ? 4.5 : 0.5 } }' >"$work/sts.csv"
spec sts 60
sed -i 's/^data: .*/data: {train: [sts.csv], split: 0.1, text: [sentence1, sentence2], label: score, labels: number, sequence_length: 32}/; s/evaluate_every: 200/evaluate_every: 20/' "$work/sts.yaml"
job=$("$BERTCTL" submit "$work/sts.yaml")
ok "a regression of pairs is done" wait_job "$job"
"$BERT_TRAINER" evaluate --json "$(field "$job" checkpoint_path)" "$work/sts.csv" >"$work/sts.json" 2>"$work/err"
is "and evaluated" "$(jq -r 'keys_unsorted | join(" ")' "$work/sts.json") $(jq .texts "$work/sts.json")" "texts mse pearson spearman 200"
ok "bertctl metrics has its loss" eval '"$BERTCTL" metrics "$job" >"$work/rows" && grep -q " 60 " "$work/rows"'

# ---- arrays ----
spec sweep 30
sed -i -e 's/ranks: 2/ranks: 1/' -e "s|^checkpoint: .*|&\nrun_dir: $work/sweep|" "$work/sweep.yaml"
is "one wrong value: no job at all, one line" "$("$BERTCTL" submit --array optimizer.learning_rate=1e-3,fast "$work/sweep.yaml" 2>&1)" \
  "bertctl: --array optimizer.learning_rate: 'fast' is not a number"
ok "an unknown key" refuses 2 "'optimizer.lr=1': expected KEY=VALUE with a key of a spec" "$BERTCTL" submit --set optimizer.lr=1 "$work/sweep.yaml"
before=$("$BERTCTL" list --json | jq length)
mapfile -t ids < <("$BERTCTL" submit --array optimizer.learning_rate=1e-3,1e-5 --array train.seed=1,2 "$work/sweep.yaml")
is "a job for each combination" "${#ids[@]} $(("$("$BERTCTL" list --json | jq length)" - before))" "4 4"
is "named by its keys" "$(field "${ids[1]}" name)" "sweep[learning_rate=1e-3,seed=2]"
for id in "${ids[@]}"; do wait_job "$id" >/dev/null; done
is "in a folder of its own" "$(find "$work/sweep" -name metrics.jsonl | wc -l)" 4
"$BERTCTL" results sweep >"$work/table"
is "results has a line a job, and means over seeds" "$(grep -c ' done ' "$work/table") $(grep -c ' ± ' "$work/table")" "4 3"
"$BERTCTL" results --json sweep >"$work/results.json"
want=$(jq -s '[.[] | select(.validation) | .validation.accuracy] | max' "$work/sweep/learning_rate=1e-5,seed=2/metrics.jsonl")
is "the best validation of each" "$(jq '.jobs[3].accuracy' "$work/results.json")" "$want"
is "the mean of two seeds" "$(jq '.seeds[0] | .seeds, (.accuracy.mean * 1e6 | round)' "$work/results.json" | xargs)" \
  "2 $(jq '(.jobs[0].accuracy + .jobs[1].accuracy) / 2 * 1e6 | round' "$work/results.json")"
finish
