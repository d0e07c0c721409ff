/* Options of the subcommands that read texts for a checkpoint's model. */
#ifndef TRAINER_COMMANDS_FILE_ARGUMENTS_H
#define TRAINER_COMMANDS_FILE_ARGUMENTS_H

#include <getopt.h>

#include "common/error.h"
#include "trainer/infer/text_model.h"

#define FILE_ARGUMENTS_HELP                                                             \
        "      --task NAME       of a checkpoint of several tasks: the one to use\n"    \
        "      --text COLUMN     a column of the text (default: as in its training);\n" \
        "                        given twice, the two texts of a pair\n"                \
        "      --join            several columns are one text, not a pair\n"            \
        "      --format auto|csv|tsv|jsonl|lines\n"                                     \
        "                        format of the texts (default: data.format of its\n"    \
        "                        training, else by the file's name)\n"                  \
        "      --encoding utf-8|latin-1\n"                                              \
        "                        default: as in its training for files of that kind,\n" \
        "                        else utf-8\n"                                          \
        "      --delimiter CHAR  of csv: tab or a character (default: as in its\n"      \
        "                        training, else a comma)\n"                             \
        "      --vocab FILE      the vocabulary, of a checkpoint that has none\n"       \
        "      --device auto|cpu|cuda\n"                                                \
        "                        where to compute (default: auto, a GPU if there is one)\n"

#define FILE_ARGUMENTS                                                                                    \
        { "vocab", required_argument, NULL, 'v' }, { "task", required_argument, NULL, 't' },              \
                { "text", required_argument, NULL, 'T' }, { "join", no_argument, NULL, 'J' },             \
                { "format", required_argument, NULL, 'f' }, { "encoding", required_argument, NULL, 'e' }, \
                { "delimiter", required_argument, NULL, 'D' }, {                                          \
                "device", required_argument, NULL, 'd'                                                    \
        }
#define FILE_ARGUMENTS_DEFAULT \
        { .encoding = -1 }

/* One of FILE_ARGUMENTS, its argument in optarg. */
int file_argument(int option, struct text_model_options *ret, struct error *error);

#endif
