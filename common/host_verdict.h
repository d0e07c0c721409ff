/*
 * The verdict on another host after its probe, in one line: "h3: problem; cure". Pure: the words of ssh, the line of
 * `bertctl lease --probe` there and here in, a verdict out. bertctl submit, doctor --hosts and bertd-gang use it.
 */
#ifndef COMMON_HOST_VERDICT_H
#define COMMON_HOST_VERDICT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define HOST_VERDICT_MAX 1024

enum host_grade {
        HOST_GOOD,
        HOST_WAITS,   /* it can pass: a job waits for it, without a budget */
        HOST_REFUSED, /* somebody has to do something: refused at submit, and the end of a job later */
};

/* How ssh, or what stands for it, ended. */
struct host_end {
        int status;       /* of waitpid; used only without a line */
        bool late;        /* it was killed: its time was over */
        const char *said; /* its standard error; "": nothing */
        bool ran;         /* the job has run before: programs on a late mount may return */
        bool at_submit;   /* somebody waits for the answer and can ask again: a name must be known now */
};

/* Borrowed for the call. */
struct host_facts {
        const char *host; /* as the job's list has it */
        struct host_end end;
        const json_t *line;    /* of that host; NULL: none came */
        const json_t *refused; /* its line of that type; NULL: none */
        const json_t *head;    /* of this one; NULL: nothing is compared */
        const char *head_name;
        uint64_t slots; /* ranks × threads */
        uint32_t gpus;
        bool ran;       /* the job has run before: what is missing may return */
        bool unmanaged; /* a host without a bertd will do */
};

struct host_verdict {
        enum host_grade grade;
        char text[HOST_VERDICT_MAX]; /* one printable line; "": good */
};

void host_judge(const struct host_facts *facts, struct host_verdict *ret);

/* The same of a host whose ssh ended without a line. */
void host_judge_end(const char *host, const struct host_end *end, struct host_verdict *ret);

/* The same of a lease that was refused there, by its class ("busy") and reason, which may name the host itself. */
void host_judge_refused(const char *host, const char *class, const char *reason, struct host_verdict *ret);

#endif
