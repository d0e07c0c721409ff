/*
 * The gang of one attempt on several hosts: the leases of the other hosts, Open MPI's launcher, and whatever ends them.
 * It is the main child of the attempt's shim. One thread, one sd-event loop; after gang.json has been read it accesses
 * no file system, so that a disk that stalls stops no beat.
 *
 * Life: call the hosts in parallel (GANG_CALLING) -> take their leases one after the other, sorted by name
 * (GANG_TAKING) -> mpirun runs (GANG_RUNNING) -> all leases end, for a bounded time (GANG_ENDING) -> exit
 * with mpirun's code. A host that fails before mpirun is replaced by a spare; afterwards its loss ends the gang.
 *
 * Everything ends with this process: mpirun and every ssh get SIGKILL if it dies (PDEATHSIG), and the end of an ssh
 * ends the lease.
 */
#ifndef DAEMON_GANG_GANG_H
#define DAEMON_GANG_GANG_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "bertd/job.h"
#include "common/exit_record.h"
#include "common/gang_file.h"
#include "common/leash.h"

#define GANG_SAID_MAX 4096 /* bytes kept of what ssh prints */
#define GANG_EXIT 70       /* of the process: a verdict was sent, mpirun's code does not count */

struct gang;

/* A descriptor for lines in both directions; see lines.c. */
struct lines {
        int in, out; /* may be the same; −1: closed */
        struct leash_reader reader;
        struct leash_writer writer;
        sd_event_source *in_source, *out_source;
};

enum gang_host_state {
        HOST_IDLE,   /* not called */
        HOST_PAUSED, /* busy; it is called again soon */
        HOST_CALLED, /* ssh runs, its first line is awaited */
        HOST_THERE,  /* it has answered, and holds nothing */
        HOST_TAKING, /* the lease is being asked for */
        HOST_HELD,
        HOST_LEAVING, /* was asked to end */
        HOST_GONE,    /* no lease and no ssh */
};

/* Another host; see host.c. */
struct gang_host {
        struct gang *gang;
        const char *name; /* as in the job's spec; the plan's */
        char node[EXIT_RECORD_HOST_MAX], address[64];
        enum gang_host_state state;
        pid_t ssh;
        int ssh_status;
        struct lines lines;
        int error_fd; /* what ssh prints */
        sd_event_source *error_source;
        char said[GANG_SAID_MAX];
        size_t n_said;
        uint64_t since_usec, heard_usec, beat_usec; /* boot time: of the state, of the last byte, of our last beat */
        uint64_t busy_usec;                         /* since when it has been busy; 0: it was not */
        json_t *line;                               /* its description of itself; NULL: not yet received */
        unsigned runs;                              /* commands of mpirun that have not ended there */
        bool freed, judged, closed;
};

/* How the attempt ends, unless mpirun decides it. */
struct gang_verdict {
        bool set;
        bool weak; /* counts only if mpirun blames no rank */
        enum exit_class exit_class;
        char host[EXIT_RECORD_HOST_MAX], reason[EXIT_RECORD_REASON_MAX];
};

/* An agent of mpirun and the command that it wants on a host; see agents.c. */
struct gang_agent {
        struct gang *gang;
        struct lines lines;
        struct gang_host *host; /* NULL: has not asked yet */
        uint64_t id;            /* of the run */
        uint64_t since_usec;    /* boot time of its start */
        char said[256];         /* the last line that the command printed */
        bool over;
};

enum gang_phase { GANG_CALLING, GANG_TAKING, GANG_RUNNING, GANG_ENDING };

struct gang {
        sd_event *event;
        enum gang_phase phase;
        struct gang_plan plan;
        char cwd[PATH_MAX];
        struct gang_host *hosts; /* of the plan, without this one: those to use, then the spares */
        size_t n_hosts, n_first; /* n_first: of those to use */
        struct gang_host self;   /* this one: the others are compared with it; never taken */
        json_t *inputs;          /* the line that each of them gets: what the job reads there */
        struct lines shim;       /* closed: there is none */
        char agent_name[48];     /* of the agents' socket, in the abstract name space */
        int agent_fd;
        sd_event_source *agent_source, *child_source, *term_source, *tick;
        struct gang_agent *agents[LEASH_RUNS_MAX + 1];
        uint64_t last_id;
        pid_t mpirun; /* 0: not started, or reaped */
        int mpirun_status;
        bool ran;           /* mpirun was started */
        unsigned mpi_major; /* of Open MPI */
        struct gang_verdict verdict, first_failure;
        uint64_t ending_usec, suspect_usec, doubt_usec; /* boot time */
};

/* ---- main.c ---- */

/* Ends the gang: mpirun is killed at once, all leases end. The first verdict counts; NULL: none. */
void gang_end(struct gang *gang, const struct gang_verdict *verdict);

/* A command of mpirun has ended on another host. */
void gang_settle(struct gang *gang);

/* Fills a verdict; with a host the reason is "HOST: text". */
struct gang_verdict gang_verdict(enum exit_class exit_class, const char *host, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* A status, and a line for the job's log. */
void gang_status(struct gang *gang, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gang_note(struct gang *gang, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- lines.c ---- */

/* `on_readable`: of the input, with `userdata`. Takes the descriptors. 0 or −errno. */
int lines_open(struct lines *lines, sd_event *event, int in, int out, sd_event_io_handler_t on_readable,
               void *userdata);
void lines_send(struct lines *lines, json_t *line); /* takes it; a broken connection shows when it is read */
void lines_close_out(struct lines *lines);
void lines_close(struct lines *lines);

/* ---- start.c ---- */

/* Continues the start: called whenever a host has changed. */
void start_continue(struct gang *gang);
/* How long a host whose slots are busy may be asked again; 0: not at all. */
uint64_t start_patience(const struct gang *gang, const struct gang_host *host);
void start_failed(struct gang *gang, struct gang_host *host, const struct gang_verdict *verdict);

/* ---- host.c ---- */

void host_take(struct gang_host *host);               /* asks for the lease */
void host_leave(struct gang_host *host);              /* ends the lease */
void host_look(struct gang_host *host, uint64_t now); /* beats and limits */
/* Against this host's own line, if there is one. False: it cannot be used, and has failed. */
bool host_is_fit(struct gang_host *host);
void host_set_state(struct gang_host *host, enum gang_host_state state);
void host_lost(struct gang_host *host, const struct gang_verdict *verdict); /* before mpirun: it is replaced */
int host_on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata);
void host_reaped(struct gang_host *host, int status);
void host_close(struct gang_host *host);
void host_free(struct gang_host *host);
void host_send(struct gang_host *host, json_t *line);

/* ---- call.c ---- */

void host_call(struct gang_host *host);      /* starts its ssh */
void host_call_self(struct gang_host *host); /* asks this host's own bertctl */

/* ---- agents.c ---- */

int agents_open(struct gang *gang, struct error *error);
void agents_output(struct gang_host *host, json_t *line);
void agents_exited(struct gang_host *host, json_t *line);
void agents_close(struct gang *gang);

/* ---- mpirun.c ---- */

/* Open MPI's major version, 4 if unknown; waits for mpirun --version, for a bounded time. */
unsigned mpirun_major(void);
int mpirun_start(struct gang *gang, struct error *error);

/* ---- shim_link.c ---- */

int shim_link_open(struct gang *gang); /* the descriptor in BERTD_GANG_FD */
void shim_link_verdict(struct gang *gang, const struct gang_verdict *verdict);
void shim_link_hosts(struct gang *gang); /* those in use */
void shim_link_text(struct gang *gang, const char *type, const char *host, const char *key, const char *text);
void shim_link_forward(struct gang *gang, const struct gang_host *host, const json_t *line); /* with the host's name */

/* ---- agent.c, rank.c: other modes of the program ---- */

int agent_main(int argc, char **argv);
int rank_main(int argc, char **argv);

#endif
