# For the trainer's shell tests: TAP in a temporary folder, a tiny corpus, vocabulary, model and spec. Sourced, not run.
. "${SOURCE_DIR:-$(dirname "$0")/../..}/tests/lib.sh"
TRAINER=${BERT_TRAINER:?BERT_TRAINER is the path of bert-trainer}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
export OMPI_MCA_btl_base_warn_component_unused=0 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
unset BERTD_RUN_DIR BERTD_RESUME NOTIFY_SOCKET
# MPI keeps memory until the process ends; leaks of ours are looked for in the unit tests.
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
tap_start
cd "$work" || exit 99

# English-like text with structure to learn: documents of topics, sentences of a topic's words.
make_text() {
        awk 'BEGIN { srand(7); split("kernel memory page driver device network socket packet file inode block lock thread signal timer clock", noun)
                split("reads writes frees maps locks sends wakes drops checks holds", verb); split("old new fast slow large small shared private", adj)
                for (d = 0; d < 60; d++) { t = int(rand() * 12) + 1
                        for (s = 0; s < 4 + int(rand() * 12); s++) { line = "the"
                                for (w = 0; w < 1 + int(rand() * 4); w++) line = line " " adj[int(rand() * 8) + 1] " " noun[t + int(rand() * 5)] " " verb[int(rand() * 10) + 1] " the " noun[t + int(rand() * 5)]
                                print line " ." }
                        print "" } }'
}

write_spec() { # FILE STEPS EVERY
        cat >"$1" <<SPEC
name: tiny
kind: pretrain
checkpoint: {every_steps: $3, every_sec: 0, keep: 100}
model: {config: tiny.json, vocab: vocab.txt}
data: {train: [corpus], validation: [corpus-validation], sequence_length: 32}
optimizer: {learning_rate: 2.0e-3, warmup_ratio: 0.1}
train: {global_batch: 7, micro_batch: 2, steps: $2, evaluate_every: 4, evaluate_samples: 9}
SPEC
}

make_inputs() {
        make_text >text.txt
        "$TRAINER" vocab --size 200 --output vocab.txt text.txt >/dev/null 2>&1 || exit 99
        "$TRAINER" prepare --vocab vocab.txt --output corpus --validation 0.1 text.txt >/dev/null 2>&1 || exit 99
        cat >tiny.json <<'JSON'
{"vocab_size": 256, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
 "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
 "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12}
JSON
        write_spec spec.yaml 20 10
}

# train RANKS ARGUMENT…: one rank alone, more under mpirun.
train() {
        ranks=$1
        shift
        if [ "$ranks" -eq 1 ]; then timeout 120 "$TRAINER" pretrain "$@"; else
                timeout 120 mpirun --oversubscribe --bind-to none -n "$ranks" "$TRAINER" pretrain "$@"
        fi
}

# refuses_after_progress CODE PATTERN COMMAND...: as refuses, but beside its one line of error stands what mpirun or the run said before.
refuses_after_progress() {
        want=$1 pattern=$2 got=0
        shift 2
        timeout $((60 * patience)) "$@" >out 2>err </dev/null || got=$?
        [ $got -eq "$want" ] && [ "$(grep -c '^bert-trainer: ' err)" -eq 1 ] && grep '^bert-trainer: ' err | grep -q -e "$pattern" && for_people err || {
                echo "exit $got, expected $want and one line with /$pattern/:"
                cat err
                return 1
        }
}

have_ranks() { [ "$1" -eq 1 ] || command -v mpirun >/dev/null || { skip "$1 ranks" "no mpirun"; return 1; }; }
kernel() { sqlite3 "$1" "select value from meta where key = 'kernel'"; }
# same_end OLDER RUN WHOLE STEP: RUN went on from OLDER to the end of WHOLE, a run that was never stopped: the same bits where the kernels of OLDER
# are those of today on this CPU, else the same loss but for rounding.
same_end() {
        if [ "$(kernel "$1")" = "$(kernel "$(ckpt "$3" "$4")")" ]; then "$TRAINER" diff "$(ckpt "$2" "$4")" "$(ckpt "$3" "$4")" >/dev/null; else
                jq -se "map(select(.step == $4 and .loss).loss) | length == 2 and (.[0] - .[1] | fabs) < 1e-4 * .[0]" "$2/metrics.jsonl" "$3/metrics.jsonl" >/dev/null
        fi
}
ckpt() { printf '%s/checkpoints/step-%09d.ckpt' "$1" "$2"; }

# kill_run KIND SPEC DIR STEP LAST: a pretrain or finetune of one rank dies of kill -9 once STEP is logged; again where it was quicker, and
# wrote its LAST step. Fails where it always was.
kill_run() {
        for _ in $(seq 20); do
                rm -rf "$3"
                timeout 120 "$TRAINER" "$1" "$2" --run-dir "$3" >"$3.log" 2>&1 &
                job=$! pid=
                while kill -0 $job 2>/dev/null && ! grep -q "^{\"step\": $4," "$3/metrics.jsonl" 2>/dev/null; do
                        [ -n "$pid" ] || pid=$(pgrep -P $job)
                        sleep 0.002
                done
                kill -9 $pid 2>/dev/null # nothing is looked for meanwhile: a few milliseconds later it may be done
                wait $job 2>/dev/null
                [ -e "$(ckpt "$3" "$5")" ] || return 0
        done
        return 1
}
