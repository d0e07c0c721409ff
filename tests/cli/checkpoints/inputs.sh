# What the checkpoints here were made of, the same on every machine: words.txt, labelled.tsv, specs of three runs. Sourced in an empty folder, by
# `make` and by the test that resumes them. TRAINER is the program.
older_inputs() {
        awk 'function draw(n) { seed = (seed * 1103 + 12345) % 65536; return int(seed / 256) % n + 1 }
                BEGIN { n = split("kernel page driver network packet file block lock thread timer", noun); m = split("reads writes frees maps sends drops", verb)
                for (d = 0; d < 12; d++) { for (s = 0; s < 6; s++) print "the " noun[draw(n)] " " verb[draw(m)] " the " noun[draw(n)] " ."; print "" } }' >words.txt
        awk 'BEGIN { print "label\ttext"; for (i = 0; i < 24; i++) print (i % 2 ? "net\tnetwork packet " : "disk\tfile block ") (i % 3 ? "reads" : "writes") }' >labelled.tsv
        printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' . the kernel page driver network packet file block lock thread timer reads writes frees maps sends drops >vocab.txt
        older_config '"bert", "vocab_size": 24' >bert.json
        older_config '"albert", "embedding_size": 8, "vocab_size": 40' >albert.json
        older_spec pretrain mlm+nsp bert.json vocab.txt corpus >bert.yaml
        older_spec pretrain mlm+sop albert.json spiece.model pieces >albert.yaml
        cat >classifier.yaml <<'SPEC'
kind: finetune
checkpoint: {every_steps: 4, keep: 9}
model: {config: bert.json, vocab: vocab.txt}
data: {train: [labelled.tsv], sequence_length: 8, truncation: tail}
optimizer: {learning_rate: 1.0e-2}
train: {global_batch: 6, steps: 8}
SPEC
        "$TRAINER" prepare --vocab vocab.txt --output corpus words.txt 2>/dev/null
}
older_config() { # TYPE, AND MORE KEYS
        printf '{"model_type": %s, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 16}\n' "$1"
}
older_spec() { # KIND OBJECTIVE CONFIG VOCAB CORPUS
        cat <<SPEC
kind: $1
checkpoint: {every_steps: 4, keep: 9}
model: {config: $3, vocab: $4}
data: {train: [$5], objective: $2, sequence_length: 16}
optimizer: {learning_rate: 1.0e-2}
train: {global_batch: 4, steps: 8}
SPEC
}
# After older_inputs: a run of two columns, which older programs joined.
older_columns() {
        awk -F'\t' 'BEGIN { print "title,body,label" } NR > 1 { n = split($2, w, " "); print w[1] "," w[2] " " w[n] "," $1 }' labelled.tsv >columns.csv
        sed 's/labelled.tsv./columns.csv], text: [title, body]/; s/, truncation: tail//' classifier.yaml >columns.yaml
}
