/* The subcommands `pretrain` and `finetune`: their help; the rest is run/main.c's. */
#include "trainer/commands/commands.h"

#include "trainer/run/run.h"

static const char PRETRAIN_USAGE[] =
        "usage: bert-trainer pretrain SPEC.yaml --run-dir DIR [--resume CHECKPOINT] [--abandon-newer]\n\n"
        "Pretrains a BERT model. Alone or as ranks with the same inputs: mpirun -n 8 bert-trainer pretrain spec.yaml "
        "--run-dir "
        "runs/a,\nor srun --mpi=pmix.\n\n"
        "  --run-dir DIR      checkpoints/, metrics.jsonl and window maps go there (default: BERTD_RUN_DIR)\n"
        "  --resume CKPT      continue from this checkpoint (default: BERTD_RESUME, else the newest good one in DIR)\n"
        "  --abandon-newer    first move checkpoints of later steps to checkpoints/abandoned/\n\n"
        "SIGUSR1 (alone Ctrl-C, SIGTERM and SIGHUP too): checkpoint the last completed step and stop with exit code "
        "75. SIGUSR2: "
        "checkpoint and continue.\n"
        "Exit codes: 0 finished, 75 stopped on request, 76 unusable checkpoint, 77 loss not finite, 2 usage, 65 data, "
        "66 missing input,\n"
        "74 disk, 78 spec or config.\n";
static const char FINETUNE_USAGE[] =
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

int cmd_pretrain(int argc, char **argv) { return run_main(argc, argv, JOB_PRETRAIN, PRETRAIN_USAGE); }
int cmd_finetune(int argc, char **argv) { return run_main(argc, argv, JOB_FINETUNE, FINETUNE_USAGE); }
