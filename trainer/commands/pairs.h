/* `bert-trainer tokenize --pair`: two texts a line as the sequence that a model sees. */
#ifndef TRAINER_COMMANDS_PAIRS_H
#define TRAINER_COMMANDS_PAIRS_H

#include "common/error.h"
#include "trainer/data/examples.h"
#include "trainer/text/vocab.h"

struct pairs_options {
        const struct vocab *vocab;
        struct text_options text;
        struct texts_options lengths; /* cls and sep are set here */
        enum data_encoding encoding;
        bool ids; /* not tokens */
};

/* A line of JSON for each line of the files, or of standard input. A line that is not two texts is refused (65). */
int pairs_print(const struct pairs_options *options, char *const *files, int n_files, struct error *error);

#endif
