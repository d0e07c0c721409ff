/* The subcommand `finetune`: its help; the rest is run/main.c's. */
#include "trainer/commands/finetune.h"

#include "trainer/run/run.h"

static const char USAGE[] =
        "usage: bert-trainer finetune SPEC.yaml --run-dir DIR [--resume CHECKPOINT] [--abandon-newer]\n\n"
        "Trains a classifier of texts on a BERT or ALBERT model. Alone or under mpirun, as pretrain.\n\n"
        "  --run-dir DIR      checkpoints/, best.ckpt (the best on validation) and metrics.jsonl go there (default: "
        "BERTD_RUN_DIR)\n"
        "  --resume CKPT      continue from this checkpoint (default: BERTD_RESUME, else the newest good one in DIR)\n"
        "  --abandon-newer    first move checkpoints of later steps to checkpoints/abandoned/\n\n"
        "The spec: kind: finetune; model: {init: CHECKPOINT or Hugging Face folder} or {config, vocab}; data: {train, "
        "validation, "
        "test:\n"
        "lists of csv, tsv or jsonl files, text: [COLUMN...], label: COLUMN}; train: {epochs}. bert-trainer(1) has the "
        "rest.\n"
        "Signals and exit codes are those of pretrain.\n";

int cmd_finetune(int argc, char **argv) { return run_main(argc, argv, JOB_FINETUNE, USAGE); }
