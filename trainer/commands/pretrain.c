/* The subcommand `pretrain`: its help; the rest is run/main.c's. */
#include "trainer/commands/pretrain.h"

#include "trainer/run/run.h"

static const char USAGE[] =
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

int cmd_pretrain(int argc, char **argv) { return run_main(argc, argv, JOB_PRETRAIN, USAGE); }
