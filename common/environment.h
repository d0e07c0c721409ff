/* Classifies environment variables: bertctl sends only those of the job; bertd and the shim set the others (contract
 * C4). */
#ifndef COMMON_ENVIRONMENT_H
#define COMMON_ENVIRONMENT_H

enum variable_owner {
        VARIABLE_JOB,     /* the submitter's: passed to the job */
        VARIABLE_MANAGER, /* set by the submitting process's service manager, MPI launcher or terminal */
        VARIABLE_BERTD,   /* set by bertd for each attempt */
};

/* Of "NAME=value". */
enum variable_owner variable_owner(const char *assignment);

#endif
