/* The subcommands `pretrain` and `finetune`: their help; the rest is run/main.c's. */
#include "trainer/commands/commands.h"

#include "trainer/run/run.h"

#define OPTIONS_HELP                                                                 \
        "      --run-dir DIR      folder of the run: checkpoints/, metrics.jsonl,\n" \
        "                         window maps (default: $BERTD_RUN_DIR)\n"           \
        "      --resume CKPT      continue from this checkpoint (default:\n"         \
        "                         $BERTD_RESUME, else the newest good one in DIR)\n" \
        "      --abandon-newer    first move checkpoints of later steps to\n"        \
        "                         checkpoints/abandoned/\n"                          \
        "  -h, --help             print this help\n\n"

static const char PRETRAIN_HELP[] = "usage: bert-trainer pretrain SPEC.yaml --run-dir DIR [OPTION...]\n\n"
                                    "Pretrains BERT or ALBERT, alone or as ranks that have the same inputs, e.g.\n"
                                    "mpirun -n 8 bert-trainer pretrain spec.yaml --run-dir runs/a\n"
                                    "or with srun --mpi=pmix.\n\n" OPTIONS_HELP
                                    "SIGUSR1, or without mpirun Ctrl-C, SIGTERM and SIGHUP: write a checkpoint of the\n"
                                    "last completed step and stop. SIGUSR2: write a checkpoint and continue.\n\n"
                                    "Exit status: 0 finished, 75 stopped on request, 76 unusable checkpoint, 77 loss\n"
                                    "not finite, 2 wrong usage, 65 wrong data, 66 missing input, 74 input or output\n"
                                    "failed, 78 wrong spec or model configuration.\n";
static const char FINETUNE_HELP[] = "usage: bert-trainer finetune SPEC.yaml --run-dir DIR [OPTION...]\n\n"
                                    "Trains a classifier of texts, or with labels: number a regression, on a BERT or\n"
                                    "ALBERT model, alone or under mpirun as pretrain. best.ckpt in DIR leads to the\n"
                                    "checkpoint that is best on validation.\n\n" OPTIONS_HELP "An example of a spec:\n"
                                    "  kind: finetune\n"
                                    "  model: {init: bert-base-uncased/}\n"
                                    "  data: {train: [train.csv], validation: [dev.csv], text: [title], label: class}\n"
                                    "  train: {epochs: 4}\n"
                                    "bert-trainer(1) describes all keys. Signals and exit status: as for pretrain.\n";

int cmd_pretrain(int argc, char **argv) { return run_main(argc, argv, JOB_PRETRAIN, PRETRAIN_HELP); }
int cmd_finetune(int argc, char **argv) { return run_main(argc, argv, JOB_FINETUNE, FINETUNE_HELP); }
