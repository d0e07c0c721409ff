/* The verdicts on real endings: the texts are what Open MPI 4.1.4 printed when a rank died that way. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/cleanup.h"
#include "daemon/shim/verdict.h"

#define RULE "--------------------------------------------------------------------------\n"
#define PRIMARY                                                           \
        RULE "Primary job  terminated normally, but 1 process returned\n" \
             "a non-zero exit code. Per user-direction, the job has been aborted.\n" RULE
#define SIGNALLED(rank, signal)                                                                                 \
        PRIMARY RULE "mpirun noticed that process rank " rank " with PID 0 on node vm exited on signal " signal \
                     ".\n" RULE
#define EXITED(rank, code)                                                                                    \
        PRIMARY RULE "mpirun detected that one or more processes exited with non-zero status, thus causing\n" \
                     "the job to be terminated. The first process to do so was:\n\n"                          \
                     "  Process name: [[9477,1]," rank "]\n  Exit code:    " code "\n" RULE
#define BACKTRACE                                                                                  \
        "[vm:18844] *** Process received signal ***\n[vm:18844] Signal: Segmentation fault (11)\n" \
        "[vm:18844] [ 0] /lib/x86_64-linux-gnu/libc.so.6(+0x3c050)[0x7f6ef234c050]\n"              \
        "[vm:18844] *** End of error message ***\n"
#define ABORTED                                                                                      \
        RULE "MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD\nwith errorcode 5.\n\n" \
             "NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.\n" RULE
#define FATAL                                                                                              \
        "[vm:18933] *** An error occurred in MPI_Send\n[vm:18933] *** reported by process [621674497,1]\n" \
        "[vm:18933] *** on communicator MPI_COMM_WORLD\n[vm:18933] *** MPI_ERR_RANK: invalid rank\n"       \
        "[vm:18933] *** MPI_ERRORS_ARE_FATAL (processes in this communicator will now abort,\n"            \
        "[vm:18933] ***    and potentially your MPI job)\n"
#define CODE(n) ((n) << 8)

struct row {
        const char *text;
        int status;
        int oom_kills;
        bool stop_asked;
        enum exit_class exit_class;
        int exit_code, signal, rank;
        const char *reason; /* as the owner and root read it */
};

static const struct row rows[] = {
        { "", CODE(0), 0, false, EXIT_CLASS_FINISHED, 0, 0, -1, "finished" },
        { "bert-trainer: \n", CODE(77), 0, false, EXIT_CLASS_NAN, 77, 0, -1,
          "loss or gradient is not finite (exit code 77): bert-trainer:" },
        { "", CODE(0), 0, true, EXIT_CLASS_FINISHED, 0, 0, -1, "finished" },
        { SIGNALLED("1", "9 (Killed)"), CODE(137), 0, false, EXIT_CLASS_KILLED, -1, 9, 1,
          "rank 1 on vm: killed by signal 9 (SIGKILL)" },
        { SIGNALLED("3", "9 (Killed)"), CODE(137), 1, false, EXIT_CLASS_OOM, -1, 9, 3,
          "rank 3 on vm: killed by the kernel: out of memory (limit 2.0 GiB)" },
        { SIGNALLED("1", "9 (Killed)"), CODE(137), 0, true, EXIT_CLASS_STOPPED, -1, 9, -1,
          "stopped on request without a checkpoint: rank 1 on vm: killed by signal 9 (SIGKILL)" },
        { SIGNALLED("1", "15 (Terminated)"), CODE(143), 0, false, EXIT_CLASS_KILLED, -1, 15, 1,
          "rank 1 on vm: killed by signal 15 (SIGTERM)" },
        { SIGNALLED("1", "2 (Interrupt)"), CODE(130), 0, false, EXIT_CLASS_KILLED, -1, 2, 1,
          "rank 1 on vm: killed by signal 2 (SIGINT)" },
        { SIGNALLED("1", "1 (Hangup)"), CODE(129), 0, false, EXIT_CLASS_KILLED, -1, 1, 1,
          "rank 1 on vm: killed by signal 1 (SIGHUP)" },
        { BACKTRACE SIGNALLED("1", "11 (Segmentation fault)"), CODE(139), 0, false, EXIT_CLASS_SIGNAL, -1, 11, 1,
          "rank 1 on vm: killed by signal 11 (SIGSEGV)" },
        { BACKTRACE SIGNALLED("1", "11 (Segmentation fault)"), CODE(139), 0, true, EXIT_CLASS_SIGNAL, -1, 11, 1,
          "rank 1 on vm: killed by signal 11 (SIGSEGV)" },
        { BACKTRACE SIGNALLED("0", "6 (Aborted)"), CODE(134), 0, false, EXIT_CLASS_SIGNAL, -1, 6, 0,
          "rank 0 on vm: killed by signal 6 (SIGABRT)" },
        { SIGNALLED("1", "8 (Floating point exception)"), CODE(136), 0, false, EXIT_CLASS_SIGNAL, -1, 8, 1,
          "rank 1 on vm: killed by signal 8 (SIGFPE)" },
        { EXITED("1", "3"), CODE(3), 0, false, EXIT_CLASS_FAILED, 3, 0, 1, "rank 1: exit code 3" },
        { EXITED("1", "75"), CODE(75), 0, true, EXIT_CLASS_STOPPED, 75, 0, -1,
          "stopped after a checkpoint (exit code 75)" },
        { EXITED("1", "75"), CODE(75), 0, false, EXIT_CLASS_STOPPED, 75, 0, -1,
          "stopped after a checkpoint (exit code 75)" },
        { EXITED("1", "2"), CODE(2), 0, false, EXIT_CLASS_USER_ERROR, 2, 0, 1, "rank 1: wrong usage (exit code 2)" },
        { "bert-trainer: corpus.idx: 12 bytes, expected at least 34\n" EXITED("1", "65"), CODE(65), 0, false,
          EXIT_CLASS_USER_ERROR, 65, 0, 1, "rank 1: corpus.idx: 12 bytes, expected at least 34" },
        { "[1,1]<stderr>:bert-trainer: vocab.txt: No such file or directory\n" EXITED("1", "66"), CODE(66), 0, false,
          EXIT_CLASS_USER_ERROR, 66, 0, 1, "rank 1: vocab.txt: No such file or directory" },
        { "bert-trainer: early\nbert-trainer: late\n", CODE(78), 0, false, EXIT_CLASS_USER_ERROR, 78, 0, -1, "late" },
        { "bert-trainer: step-000000010.ckpt: checksum of bert.pooler\n" EXITED("0", "76"), CODE(76), 0, false,
          EXIT_CLASS_BAD_CHECKPOINT, 76, 0, 0, "rank 0: step-000000010.ckpt: checksum of bert.pooler" },
        { "bert-trainer: loss is not finite at step 12\n" EXITED("0", "77"), CODE(77), 0, false, EXIT_CLASS_NAN, 77, 0,
          0, "rank 0: loss is not finite at step 12" },
        { "bert-trainer: step-000000010.ckpt: No space left on device\n" EXITED("1", "74"), CODE(74), 0, false,
          EXIT_CLASS_DISK_FULL, 74, 0, 1, "rank 1: step-000000010.ckpt: No space left on device" },
        { "bert-trainer: step-000000010.ckpt: Input/output error\n" EXITED("1", "74"), CODE(74), 0, false,
          EXIT_CLASS_FAILED, 74, 0, 1, "rank 1: step-000000010.ckpt: Input/output error" },
        { "OSError: [Errno 28] No space left on device\n", CODE(1), 0, false, EXIT_CLASS_DISK_FULL, 1, 0, -1,
          "OSError: [Errno 28] No space left on device" },
        { ABORTED, CODE(5), 0, false, EXIT_CLASS_MPI, 5, 0, 1, "rank 1: MPI_Abort with code 5" },
        { "bert-trainer: peers differ\n" ABORTED, CODE(5), 0, false, EXIT_CLASS_MPI, 5, 0, 1, "rank 1: peers differ" },
        { FATAL, CODE(6), 0, false, EXIT_CLASS_MPI, 6, 0, 1,
          "rank 1: MPI error in MPI_Send: MPI_ERR_RANK: invalid rank" },
        { "x\nCUDA error: an illegal memory access was encountered\n" EXITED("2", "1"), CODE(1), 0, false,
          EXIT_CLASS_MPI, 1, 0, 2, "rank 2: CUDA error: an illegal memory access was encountered" },
        { "NCCL WARN Net: Connection closed by remote peer\n", CODE(1), 0, false, EXIT_CLASS_MPI, 1, 0, -1,
          "NCCL WARN Net: Connection closed by remote peer" },
        { RULE
          "mpirun was unable to launch the specified application as it could not access\nor execute an executable:\n\n"
          "Executable: ./nosuch\nNode: vm\n\nwhile attempting to start process rank 0.\n" RULE
          "2 total processes failed to start\n",
          CODE(132), 0, false, EXIT_CLASS_LAUNCH, 132, 0, -1, "mpirun: could not execute ./nosuch" },
        { RULE "There are not enough slots available in the system to satisfy the 20\nslots that were requested by the "
               "application:\n",
          CODE(1), 0, false, EXIT_CLASS_LAUNCH, 1, 0, -1, "mpirun: not enough slots for the ranks" },
        { "", SIGKILL, 0, false, EXIT_CLASS_KILLED, -1, 9, -1, "killed by signal 9 (SIGKILL)" },
        { "", SIGKILL, 1, false, EXIT_CLASS_OOM, -1, 9, -1, "killed by the kernel: out of memory (limit 2.0 GiB)" },
        { "", SIGTERM, 0, true, EXIT_CLASS_STOPPED, -1, 15, -1,
          "stopped on request without a checkpoint: killed by signal 15 (SIGTERM)" },
        { "", SIGSEGV, 0, false, EXIT_CLASS_SIGNAL, -1, 11, -1, "killed by signal 11 (SIGSEGV)" },
        { "", CODE(143), 0, false, EXIT_CLASS_KILLED, -1, 15, -1, "killed by signal 15 (SIGTERM)" },
        { "", CODE(1), 0, true, EXIT_CLASS_STOPPED, 1, 0, -1, "stopped on request without a checkpoint: exit code 1" },
        { "", CODE(255), 0, false, EXIT_CLASS_FAILED, 255, 0, -1, "exit code 255" },
        /* several ranks complain: the earliest that names its rank is the cause, whatever mpirun saw exit first */
        { "bert-trainer: checkpoints: no checkpoint of step 20, training continues\n"
          "bert-trainer: rank 3 on gpu7: corpus.bin: Input/output error\n"
          "bert-trainer: rank 1 on gpu2: exchange: peers are gone\n" EXITED("1", "74"),
          CODE(74), 0, false, EXIT_CLASS_FAILED, 74, 0, 3, "rank 3 on gpu7: corpus.bin: Input/output error" },
        { "bert-trainer: rank 2 on gpu7: step 12: loss nan, gradient norm nan: not finite, first in the gradient of "
          "cls.bias (samples 352 to 383)\n" EXITED("0", "77"),
          CODE(77), 0, false, EXIT_CLASS_NAN, 77, 0, 2,
          "rank 2 on gpu7: step 12: loss nan, gradient norm nan: not finite, first in the gradient of cls.bias "
          "(samples "
          "352 to 383)" },
        { "bert-trainer: rank 0 on gpu7: step-000000010.ckpt: No space left on device\n" EXITED("1", "74"), CODE(74), 0,
          false, EXIT_CLASS_DISK_FULL, 74, 0, 0, "rank 0 on gpu7: step-000000010.ckpt: No space left on device" },
        { "bert-trainer: rank 5 on gpu7: CUDA error: device-side assert\n"
          "bert-trainer: rank 1 on gpu7: NCCL error: unhandled system error\n" EXITED("1", "1"),
          CODE(1), 0, false, EXIT_CLASS_MPI, 1, 0, 5, "rank 5 on gpu7: CUDA error: device-side assert" },
        { "[1,4]<stderr>:RuntimeError: CUDA error: out of memory\n[1,0]<stderr>:RuntimeError: NCCL error in: "
          "x.cpp\n" EXITED("0", "1"),
          CODE(1), 0, false, EXIT_CLASS_MPI, 1, 0, 4, "rank 4: [1,4]<stderr>:RuntimeError: CUDA error: out of memory" },
        { "[rank6]: torch.distributed.DistBackendError: NCCL error in: x.cpp:94\n", CODE(1), 0, false, EXIT_CLASS_MPI,
          1, 0, 6, "rank 6: [rank6]: torch.distributed.DistBackendError: NCCL error in: x.cpp:94" },
        { FATAL "[gpu9:12] *** An error occurred in MPI_Recv\n[gpu9:12] *** reported by process [621674497,3]\n",
          CODE(6), 0, false, EXIT_CLASS_MPI, 6, 0, 1, "rank 1: MPI error in MPI_Send: MPI_ERR_RANK: invalid rank" },
        { "Traceback\n", CODE(1), 1, false, EXIT_CLASS_OOM, 1, 0, -1,
          "exit code 1 after the kernel killed a process: out of memory (limit 2.0 GiB)" },
        /* crooked rank prefixes are plain text */
        { "bert-trainer: rank 3 on : x\n", CODE(78), 0, false, EXIT_CLASS_USER_ERROR, 78, 0, -1, "rank 3 on : x" },
        { "bert-trainer: rank 3 on gpu7:", CODE(78), 0, false, EXIT_CLASS_USER_ERROR, 78, 0, -1, "rank 3 on gpu7:" },
        { "bert-trainer: rank x on y: z", CODE(78), 0, false, EXIT_CLASS_USER_ERROR, 78, 0, -1, "rank x on y: z" },
        { "bert-trainer: bad \xff\x01 name\n", CODE(78), 0, false, EXIT_CLASS_USER_ERROR, 78, 0, -1, "bad ?  name" },
        { "mpirun noticed that process rank ", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1" },
        { "Process name: [[1,1],99999999999999999999]\nExit code: 700\n", CODE(9), 0, false, EXIT_CLASS_FAILED, 9, 0,
          999999999, "rank 999999999: exit code 9: Exit code: 700" },
};

/* Words of the shim's own, which quote nothing. */
static bool is_public(const char *reason) {
        static const char *const words[] = { "finished",   "killed by ",     "exit code ", "loss or gradient is ",
                                             "wrong ",     "missing input ", "mpirun",     "the checkpoint cannot be ",
                                             "MPI_Abort ", "an MPI",         "stopped ",   "no space left on a disk" };
        int n = 0;

        if (sscanf(reason, "rank %*d on vm: %n", &n) == EOF || n == 0)
                (void) sscanf(reason, "rank %*d on gpu%*d: %n", &n);
        if (n == 0)
                (void) sscanf(reason, "rank %*d: %n", &n);
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
                if (strncmp(reason + n, words[i], strlen(words[i])) == 0)
                        return true;
        return false;
}

/* As the owner and root read it. */
static const char *whole(const struct exit_verdict *v) { return v->private[0] ? v->private : v->reason; }

static void check_row(const struct row *row, size_t i, bool reports) {
        /* an exact copy: reading past its end is seen by the sanitizers */
        size_t n = strlen(row->text);
        char *tail = malloc(n ? n : 1);
        memcpy(tail, row->text, n);
        struct shim_evidence evidence = { .wait_status = row->status,
                                          .tail = tail,
                                          .tail_size = n,
                                          .oom_kills = (uint64_t) row->oom_kills,
                                          .memory_limit = row->oom_kills > 0 ? UINT64_C(2) << 30 : 0,
                                          .host = "",
                                          .stop_asked = row->stop_asked,
                                          .reports = reports };
        struct exit_verdict v;

        shim_classify(&evidence, &v);
        free(tail);
        assert_string_equal(whole(&v), row->reason);
        assert_true(is_public(v.reason) && strcmp(v.reason, v.private) != 0);
        if (v.exit_class != row->exit_class || v.exit_code != row->exit_code || v.signal != row->signal ||
            v.first_rank != row->rank || v.oom != (row->exit_class == EXIT_CLASS_OOM))
                fail_msg("row %zu (%s): class %d code %d signal %d rank %d", i, row->reason, (int) v.exit_class,
                         v.exit_code, v.signal, v.first_rank);
}

static void test_verdicts(void **state) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                check_row(&rows[i], i, true);
}

/* Of a program that never reported progress: its exit codes are its own, what it wrote last says why it ended. */
static void test_commands(void **state) {
#define ESC "\x1b["
        static const struct row commands[] = {
                { "Traceback:\n  File x\nValueError: shapes differ\n", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1,
                  "exit code 1: ValueError: shapes differ" },
                { "save\n", CODE(75), 0, false, EXIT_CLASS_FAILED, 75, 0, -1, "exit code 75: save" },
                { "", CODE(76), 0, false, EXIT_CLASS_FAILED, 76, 0, -1, "exit code 76" },
                { "", CODE(77), 0, false, EXIT_CLASS_FAILED, 77, 0, -1, "exit code 77" },
                { "bert-trainer: no step-10.ckpt\n", CODE(76), 0, false, EXIT_CLASS_BAD_CHECKPOINT, 76, 0, -1,
                  "no step-10.ckpt" },
                { "train.py: error: --bad\n", CODE(2), 0, false, EXIT_CLASS_USER_ERROR, 2, 0, -1,
                  "wrong usage (exit code 2): train.py: error: --bad" },
                { "no data\n", CODE(66), 0, false, EXIT_CLASS_USER_ERROR, 66, 0, -1,
                  "missing input (exit code 66): no data" },
                { "free(): invalid pointer\n", SIGABRT, 0, false, EXIT_CLASS_SIGNAL, -1, 6, -1,
                  "killed by signal 6 (SIGABRT): free(): invalid pointer" },
                { "run.sh: line 2: 99 Segmentation fault ./x\n", CODE(139), 0, false, EXIT_CLASS_SIGNAL, -1, 11, -1,
                  "killed by signal 11 (SIGSEGV): run.sh: line 2: 99 Segmentation fault ./x" },
                { "step 9\n", SIGKILL, 0, false, EXIT_CLASS_KILLED, -1, 9, -1, "killed by signal 9 (SIGKILL)" },
                { "KeyError: 3\n", CODE(1), 0, true, EXIT_CLASS_STOPPED, 1, 0, -1,
                  "stopped on request: exit code 1: KeyError: 3" },
                { "KeyError: 3\n" EXITED("2", "1"), CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, 2,
                  "rank 2: exit code 1: KeyError: 3" },
                { "ValueError: 3\nW1129 api.py:897] Sending process 7 closing signal SIGTERM\n"
                  "E1129 api.py:869] failed (exitcode: 1) local_rank: 0 (pid: 9) of binary: python\nRoot Cause\n",
                  CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: ValueError: 3" },
                { "ValueError: 4\n/lib/resource_tracker.py:224: UserWarning: resource_tracker: There appear to be 1 "
                  "leaked\n"
                  "  warnings.warn('resource_tracker: There appear to be %d '\n",
                  CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: ValueError: 4" },
                { "/usr/bin/env: 'python3\\r': No such file\n/usr/bin/env: use -[v]S to pass options in shebang "
                  "lines\n",
                  CODE(127), 0, false, EXIT_CLASS_FAILED, 127, 0, -1,
                  "exit code 127: /usr/bin/env: 'python3\\r': No such file" },
                { "x\nbertd: 9 bytes are missing\n-----\n \n", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1,
                  "exit code 1: x" },
                { "a\n 10%|#  |\r 20%|## |\r\n", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1,
                  "exit code 1: 20%|## |" },
                { "RuntimeError: 5\n\r 10%|#  |\r 20%|## |\n", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1,
                  "exit code 1: RuntimeError: 5" },
                { "torch.x.OutOfMemoryError\n\r 20%|## |", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1,
                  "exit code 1: torch.x.OutOfMemoryError" },
                { "Errors: 5\n\r 20%|## |\n", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: 20%|## |" },
                { "ValueError: 5\nepoch 1\n\r 20%|## |\n", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1,
                  "exit code 1: 20%|## |" },
                { "line\r\n", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: line" },
                { ESC "1;31mError" ESC "0m:\tbad \xff\x1b]0;title\a\x1b(B name " ESC "K\n" ESC "0m", CODE(1), 0, false,
                  EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: Error: bad ? name" },
                { "cut \x1b[", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: cut" },
                { "\xe2\x82\xac\n", CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: \xe2\x82\xac" },
        };

        for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
                check_row(&commands[i], i, false);
}

/* What launchers of Python programs print after the program's exception is not the cause. */
static void test_launchers(void **state) {
        static const struct row launchers[] = {
                { "ValueError: 5\nTraceback (most recent call last):\n"
                  "  File \"/lib/accelerate/commands/launch.py\", line 999, in simple_launcher\n"
                  "subprocess.CalledProcessError: Command '['python', 'x.py']' returned non-zero exit status 1.\n",
                  CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: ValueError: 5" },
                { "Traceback (most recent call last):\n  File \"x.py\", line 2\n"
                  "subprocess.CalledProcessError: Command 'nvcc' returned non-zero exit status 1.\n",
                  CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1,
                  "exit code 1: subprocess.CalledProcessError: Command 'nvcc' returned non-zero exit status 1." },
                { "ValueError: 6\n[2026-11-30 01:42:15,957] [INFO] [launch.py:319:sigkill_handler] Killing subprocess "
                  "7\n"
                  "[2026-11-30 01:42:15,958] [ERROR] [launch.py:325:sigkill_handler] ['python', 'x.py'] exits with "
                  "return code = 1\n",
                  CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: ValueError: 6" },
                { "ValueError: 7\nERROR conda.cli.main_run:execute(127): `conda run python x.py` failed. (See above "
                  "for "
                  "error)\n",
                  CODE(1), 0, false, EXIT_CLASS_FAILED, 1, 0, -1, "exit code 1: ValueError: 7" },
        };

        for (size_t i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++)
                check_row(&launchers[i], i, false);
}

/* Whatever its length, no character is cut in two. */
static void test_long_line(void **state) {
        char text[2 * SHIM_LINE_MAX + 3], line[SHIM_LINE_MAX + 1];

        for (size_t at = 0; at < 3; at++) {
                memset(text, 'x', sizeof(text));
                for (size_t i = at; i + 3 <= sizeof(text); i += 3)
                        memcpy(text + i, "\xe2\x82\xac", 3);
                shim_last_line(text, sizeof(text), line);
                assert_int_equal(strlen(line), at + (SHIM_LINE_MAX - at) / 3 * 3);
                assert_memory_equal(line, text, strlen(line));
        }
        shim_last_line(NULL, 0, line);
        assert_string_equal(line, "");
        static const char noise[] = "boom\n[h1:01127] plm:rsh: Warning: setpgid(1150,1150) failed in parent\n";
        shim_last_line(noise, strlen(noise), line);
        assert_string_equal(line, "boom");
}

/* A rank that calls mpirun: Open MPI's own words would be the reason. */
static void test_nested(void **state) {
        static const char *const nested[] = {
                "mpirun does not support recursive calls\n" EXITED("1", "1"),
                "[h2:9] [[INVALID],INVALID] FORCE-TERMINATE AT Not found:-13 - error plm_rsh_component.c(335)\n" EXITED(
                        "1", "243"),
        };
        struct exit_verdict v;

        for (size_t i = 0; i < ELEMENTSOF(nested); i++) {
                const struct shim_evidence evidence = { .wait_status = CODE(3),
                                                        .tail = nested[i],
                                                        .tail_size = strlen(nested[i]),
                                                        .host = "h1",
                                                        .hosts = "h1,h2,h3.example",
                                                        .ranks = 2,
                                                        .gang = true };
                shim_classify(&evidence, &v);
                assert_int_equal(v.exit_class, EXIT_CLASS_USER_ERROR);
                assert_string_equal(v.private, "rank 1 on h1: the program calls mpirun: bertd starts the ranks; give "
                                               "the program alone");
        }
}

/* Of a gang the host follows from the rank, and another host's memory is not this one's. */
static void test_gang(void **state) {
        static const char exited[] = EXITED("5", "3"), killed[] = SIGNALLED("3", "9 (Killed)");
        static const char newer[] = "prterun detected that one or more processes exited with non-zero status, thus "
                                    "causing\n   Process name: [prterun-h1-77@1,2] Exit code:    3\n";
        static const char closed[] = "  Local host: h1\n  Peer host:  h2\n"
                                     "[h1:00000] *** An error occurred in Socket closed\n"
                                     "[h1:00000] *** reported by process [77,0]\n"
                                     "prterun has exited due to process rank 1 with PID 2 on node h1 calling\n"
                                     "\"abort\".\nterminated by signals sent by prterun (as reported here).\n";
        struct shim_evidence evidence = { .wait_status = CODE(3),
                                          .tail = exited,
                                          .tail_size = strlen(exited),
                                          .host = "h1",
                                          .hosts = "h1,h2,h3.example",
                                          .ranks = 2 };
        struct exit_verdict v;

        shim_classify(&evidence, &v);
        assert_string_equal(v.reason, "rank 5 on h3.example: exit code 3");
        evidence.tail = newer;
        evidence.tail_size = strlen(newer);
        shim_classify(&evidence, &v);
        assert_string_equal(v.reason, "rank 2 on h2: exit code 3");
        evidence.tail = closed;
        evidence.tail_size = strlen(closed);
        shim_classify(&evidence, &v);
        assert_string_equal(v.reason, "a rank on h2 is gone: its connection was closed");
        assert_string_equal(v.private, v.reason);
        assert_int_equal(v.exit_class, EXIT_CLASS_MPI);
        evidence.tail = newer;
        evidence.tail_size = strlen(newer);
        evidence.ranks = 1;
        evidence.hosts = "h1";
        shim_classify(&evidence, &v);
        assert_string_equal(v.host, "h1"); /* beyond the hosts: the shim's own */
        evidence = (struct shim_evidence) { .wait_status = CODE(137),
                                            .tail = killed,
                                            .tail_size = strlen(killed),
                                            .host = "h1",
                                            .hosts = "h1,vm",
                                            .ranks = 2,
                                            .oom_kills = 1 };
        shim_classify(&evidence, &v);
        assert_int_equal(v.exit_class, EXIT_CLASS_KILLED);
        evidence.oom_hosts = "vmx,v";
        shim_classify(&evidence, &v);
        assert_int_equal(v.exit_class, EXIT_CLASS_KILLED);
        evidence.oom_hosts = "x,vm";
        shim_classify(&evidence, &v);
        assert_int_equal(v.exit_class, EXIT_CLASS_OOM);
        assert_string_equal(v.reason,
                            "rank 3 on vm: killed by the kernel: out of memory (no job limit: the host ran out)");
        static const char whole[] =
                "mpirun noticed that process rank 0 with PID 7 on node h1.example exited on signal 9 (Killed).\n";
        evidence.tail = whole;
        evidence.tail_size = strlen(whole);
        shim_classify(&evidence, &v); /* this host by its whole name: its own memory counts */
        assert_int_equal(v.exit_class, EXIT_CLASS_OOM);
}

/* A rank whose host mpirun does not name runs where bertd started it. */
static void test_host(void **state) {
        static const char text[] = EXITED("1", "3");
        struct shim_evidence evidence = {
                .wait_status = CODE(3), .tail = text, .tail_size = strlen(text), .host = "here"
        };
        struct exit_verdict v;

        shim_classify(&evidence, &v);
        assert_string_equal(v.host, "here");
        assert_string_equal(v.reason, "rank 1 on here: exit code 3");
        evidence.stop_asked = true;
        shim_classify(&evidence, &v);
        assert_string_equal(v.host, "");
        assert_int_equal(v.first_rank, -1);
        evidence.reports = true;
        shim_classify(&evidence, &v);
        assert_string_equal(v.reason, "stopped on request without a checkpoint: rank 1 on here: exit code 3");
        evidence.saved = true; /* its launcher ended with another code */
        shim_classify(&evidence, &v);
        assert_string_equal(v.reason, "stopped after a checkpoint: rank 1 on here: exit code 3");
}

static void test_hostile_text(void **state) {
        char tail[4096];
        struct exit_verdict v;

        srand(1);
        for (int round = 0; round < 200; round++) {
                for (size_t i = 0; i < sizeof(tail); i++)
                        tail[i] = (char) rand();
                size_t at = (size_t) rand() % (sizeof(tail) - 600);
                memcpy(tail + at, rows[round % 30].text, strnlen(rows[round % 30].text, 500));
                struct shim_evidence evidence = {
                        .wait_status = CODE(1 + round % 255), .tail = tail, .tail_size = sizeof(tail), .host = ""
                };
                shim_classify(&evidence, &v);
                assert_true(v.exit_class < EXIT_CLASS_MAX);
                char clean[EXIT_RECORD_REASON_MAX];
                assert_string_equal(shim_clean_text(clean, sizeof(clean), v.reason, strlen(v.reason)), v.reason);
                assert_string_equal(shim_clean_text(clean, sizeof(clean), v.private, strlen(v.private)), v.private);
        }
}

static void test_clean_text(void **state) {
        static const struct {
                const char *from, *to;
        } pairs[] = {
                { "plain", "plain" },
                { "tab\there\n", "tab here " },
                { "caf\xc3\xa9", "caf\xc3\xa9" },
                { "caf\xc3", "caf?" },
                { "\xc0\xaf", "??" },
                { "\xed\xa0\x80", "???" },
                { "\xf4\x90\x80\x80", "????" },
                { "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
                { "\x1b[31mred", " [31mred" },
        };
        char out[64], small[6];

        for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
                assert_string_equal(shim_clean_text(out, sizeof(out), pairs[i].from, strlen(pairs[i].from)),
                                    pairs[i].to);
        assert_string_equal(shim_clean_text(small, sizeof(small), "abcd\xc3\xa9", 6), "abcd"); /* no half a character */
}

static void test_record(void **state) {
        char dir[] = "/tmp/test_shim_record.XXXXXX";
        struct error error = {};
        struct exit_record record = {
                .job = 42,
                .attempt = 3,
                .nonce = "n",
                .step = 7,
                .started_usec = 1,
                .ended_usec = 2,
                .boot_id = "b",
                .samples_first = 96,
                .samples_last = 127,
                .evidence = "/a/hang-1",
                .verdict = { .exit_class = EXIT_CLASS_OOM,
                             .exit_code = -1,
                             .signal = 9,
                             .oom = true,
                             .first_rank = 1,
                             .host = "vm",
                             .reason = "r",
                             .private = "r \"q\"" },
        };
        struct stat st;

        assert_non_null(mkdtemp(dir));
        int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int fd = exit_record_open(dir_fd, &error);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(st.st_blocks * 512 >= 4096); /* the space is taken */
        char *text = exit_record_write(&record);
        assert_non_null(text);
        assert_int_equal(exit_record_commit(dir_fd, fd, text, &error), 0);
        free(text);
        assert_int_equal(faccessat(dir_fd, "exit.json.tmp", F_OK, 0), -1);
        (void) close(fd);

        fd = openat(dir_fd, "exit.json", O_RDONLY | O_CLOEXEC);
        json_t *object = json_loadfd(fd, 0, NULL);
        int version, attempt, code, number, rank, oom;
        json_int_t job, step, started, ended, first, last;
        const char *host, *evidence, *nonce, *by, *reason, *private, *word, *boot;
        assert_int_equal(
                json_unpack(object,
                            "{s:i,s:I,s:i,s:s,s:i,s:i,s:b,s:s,s:i,s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:s,s:s,s:I,s:I !}",
                            "version", &version, "job", &job, "attempt", &attempt, "nonce", &nonce, "exit_code", &code,
                            "signal", &number, "oom", &oom, "stopped_by", &by, "first_rank", &rank, "reason", &reason,
                            "private", &private, "class", &word, "step", &step, "started", &started, "ended", &ended,
                            "boot_id", &boot, "host", &host, "evidence", &evidence, "samples_first", &first,
                            "samples_last", &last),
                0);
        assert_string_equal(word, "oom");
        assert_string_equal(reason, "r");
        assert_string_equal(private, "r \"q\"");
        assert_string_equal(host, "vm");
        assert_string_equal(evidence, "/a/hang-1");
        assert_true(first == 96 && last == 127);
        assert_true(version == 1 && job == 42 && attempt == 3 && code == -1 && number == 9 && rank == 1 && oom &&
                    step == 7);
        json_decref(object);
        (void) close(fd);
        (void) unlinkat(dir_fd, "exit.json", 0);
        (void) close(dir_fd);
        (void) rmdir(dir);
}

/* What the shim writes bertd reads, and only of that attempt. */
static void test_written_and_read(void **state) {
        uint64_t found[] = { 7, 100, 5, 9, 200, 6 }, gone[] = { 3 };
        const struct exit_record written = {
                .job = 42,
                .attempt = 3,
                .nonce = "n",
                .step = 9,
                .samples_first = 4,
                .samples_last = 8,
                .boot_id = "b",
                .verdict = { .exit_class = EXIT_CLASS_HANG,
                             .exit_code = -1,
                             .signal = 9,
                             .first_rank = 2,
                             .host = "vm",
                             .reason = "r",
                             .private = "r \"q\"",
                             .more = "m",
                             .more_private = "p" },
                .requested = true,
                .evidence = "/a/hang-1",
                .found = found,
                .n_found = 6,
                .gone = gone,
                .n_gone = 1,
        };
        cleanup_free char *text = exit_record_write(&written);
        struct exit_record read = { .job = 42, .attempt = 3, .nonce = "n" },
                           other = { .job = 42, .attempt = 4, .nonce = "n" };
        struct error error = {};

        assert_int_equal(exit_record_read(text, strlen(text), &read, &error), 0);
        const struct exit_verdict *v = &read.verdict, *w = &written.verdict;
        assert_true(v->exit_class == EXIT_CLASS_HANG && v->exit_code == -1 && v->signal == 9 && v->first_rank == 2);
        assert_string_equal(v->host, w->host);
        assert_string_equal(v->reason, w->reason);
        assert_string_equal(v->private, w->private);
        assert_string_equal(v->more, w->more);
        assert_string_equal(v->more_private, w->more_private);
        assert_true(read.has_class && read.requested && read.step == 9 && read.samples_first == 4 &&
                    read.samples_last == 8);
        assert_string_equal(read.evidence, written.evidence);
        assert_true(read.n_found == 6 && memcmp(read.found, found, sizeof(found)) == 0);
        assert_true(read.n_gone == 1 && read.gone[0] == 3);
        exit_record_clear(&read);
        strstr(text, "class")[0] = 'k'; /* an older shim says nothing of it */
        read = (struct exit_record) { .job = 42, .attempt = 3, .nonce = "n" };
        assert_int_equal(exit_record_read(text, strlen(text), &read, &error), 0);
        assert_false(read.has_class);
        exit_record_clear(&read);
        assert_int_equal(exit_record_read(text, strlen(text), &other, &error), -EBADMSG);
        assert_string_equal(error.text, "of another attempt");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_verdicts),
                cmocka_unit_test(test_commands),
                cmocka_unit_test(test_launchers),
                cmocka_unit_test(test_long_line),
                cmocka_unit_test(test_nested),
                cmocka_unit_test(test_gang),
                cmocka_unit_test(test_host),
                cmocka_unit_test(test_hostile_text),
                cmocka_unit_test(test_clean_text),
                cmocka_unit_test(test_record),
                cmocka_unit_test(test_written_and_read),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
