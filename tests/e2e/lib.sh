# For the end-to-end tests: a daemon of its own in a temporary folder, real jobs. Sourced, not run.
# Needs BERTD, BERTCTL and BERT_TRAINER (meson sets them).
set -uo pipefail
: "${BERTD:?}" "${BERTCTL:?}" "${BERT_TRAINER:?}"
. "${SOURCE_DIR:-$(dirname "${BASH_SOURCE[0]}")/../..}/tests/lib.sh"
tap_start
export BERTD_STATE_DIR=$work/state BERTD_SOCKET=$work/bertd.sock
unset NOTIFY_SOCKET XDG_RUNTIME_DIR
# Open MPI's own leaks end in modules that are unloaded, which no suppression can name: leaks are looked for in bertd, not in the ranks.
leak_check=${ASAN_OPTIONS:-}
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0

diagnose() {
  "$BERTCTL" list
  [[ -z ${job:-} ]] || { "$BERTCTL" status "$job"; "$BERTCTL" events "$job"; "$BERTCTL" logs -n 15 "$job"; }
  tail -n 15 "$work/bertd.log"
}

start_bertd() { # [OPTION...]: in the foreground under setsid, its messages in $work/bertd.log
  ASAN_OPTIONS=$leak_check setsid "$BERTD" --slots 8 --launcher fork "$@" >>"$work/bertd.log" 2>&1 </dev/null &
  bertd_pid=$!
  wait_for 20 answers
}
answers() { "$BERTCTL" status >/dev/null 2>&1; }
kill_bertd() { [[ -z ${bertd_pid:-} ]] || { kill -KILL "$bertd_pid"; wait "$bertd_pid"; } 2>/dev/null; true; }
cleanup() {
  kill_bertd
  pkill -KILL -f -- "$work/" 2>/dev/null
  for p in $(grep -lsz "^BERTD_RUN_DIR=$work/" /proc/[0-9]*/environ | cut -d/ -f3); do kill -KILL "$p" 2>/dev/null; done
  sleep 0.2
}

of_job() { # JOB COMM: pids of its processes of that name
  grep -lsz "^BERTD_JOB_ID=$1\$" /proc/[0-9]*/environ | cut -d/ -f3 | while read -r p; do
    lives "$p" || continue
    grep -qsz "^BERTD_RUN_DIR=$work/" "/proc/$p/environ" || continue
    [[ $(cat "/proc/$p/comm" 2>/dev/null) == "$2" ]] && echo "$p"
  done
  true
}
# A zombie is dead: a container's first process may be slow to reap it.
lives() { [[ $(awk '/^State:/ {print $2}' "/proc/$1/status" 2>/dev/null) == [!Z]* ]]; }
shim_of() { pgrep -f -- "bertd-shim --job $1 .*$work/" | head -n 1; }

# A small corpus of real text and a spec of a run of STEPS updates: make_corpus; make_spec NAME RANKS STEPS [EXTRA LINE...]
make_corpus() {
  local text
  mapfile -t text < <(find /usr/share/doc/linux-doc-6.1/ -name '*.rst.txt' -size -60k 2>/dev/null | LC_ALL=C sort | awk 'NR % 40 == 0')
  ((${#text[@]} > 20)) || text=("$source_dir"/README.md "$source_dir"/docs/*.md "$source_dir"/LICENSE)
  "$BERT_TRAINER" vocab --size 2000 --output "$work/vocab.txt" "${text[@]}" 2>>"$work/prepare.log" &&
    "$BERT_TRAINER" prepare --vocab "$work/vocab.txt" --format prose --output "$work/corpus" "${text[@]}" 2>>"$work/prepare.log" || {
      sed 's/^/# /' "$work/prepare.log"; return 1; }
  cat >"$work/config.json" <<EOF
{"vocab_size": $(wc -l <"$work/vocab.txt"), "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
 "intermediate_size": 128, "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu",
 "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
 "model_type": "bert"}
EOF
}
make_spec() {
  local name=$1 ranks=$2 steps=$3
  shift 3
  cat >"$work/$name.yaml" <<EOF
name: $name
kind: pretrain
resources: {ranks: $ranks, threads: 1}
restart: {backoff_sec: [1, 4], grace_sec: 30}
checkpoint: {every_steps: 20, keep: 3}
model: {config: config.json, vocab: vocab.txt}
data: {train: [corpus], sequence_length: 32}
optimizer: {name: adamw, learning_rate: 1.0e-3, warmup_ratio: 0.1}
train: {global_batch: 32, micro_batch: 8, steps: $steps, seed: 7}
EOF
  printf '%s\n' "$@" >>"$work/$name.yaml"
}
