/* `bert-trainer finetune SPEC.yaml --run-dir DIR`, the MPI program for classifiers, and what uses its checkpoints: evaluate and predict.
 * argv[0] is the subcommand. All return an exit code (contract C6). */
#ifndef TRAINER_COMMANDS_FINETUNE_H
#define TRAINER_COMMANDS_FINETUNE_H

int cmd_finetune(int argc, char **argv);
int cmd_evaluate(int argc, char **argv);
int cmd_predict(int argc, char **argv);

#endif
