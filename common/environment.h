/* Whose an environment variable is: bertctl sends only the job's own, bertd and the shim set the others themselves (contract C4). */
#ifndef COMMON_ENVIRONMENT_H
#define COMMON_ENVIRONMENT_H

enum variable_owner {
        VARIABLE_JOB,     /* the submitter's: it goes along */
        VARIABLE_MANAGER, /* of the service, MPI launcher or terminal that the submitting process ran under */
        VARIABLE_BERTD,   /* one value an attempt, bertd's */
};

/* Of "NAME=value". */
enum variable_owner variable_owner(const char *assignment);

#endif
