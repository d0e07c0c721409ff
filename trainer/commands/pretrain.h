/* `bert-trainer pretrain SPEC.yaml --run-dir DIR`: the MPI program. argv[0] is the subcommand. Returns an exit code
 * (contract C6). */
#ifndef TRAINER_COMMANDS_PRETRAIN_H
#define TRAINER_COMMANDS_PRETRAIN_H

int cmd_pretrain(int argc, char **argv);

#endif
