/* common/host_verdict.h: what ssh said, and the lines of two hosts, become one line with the host, the cause and the
 * cure; and common/spec/host_inputs.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/spec/host_inputs.h"
#include "common/host_verdict.h"
#include "common/leash.h"

#define EXITED(code) ((code) << 8)
#define KEY "h3: no key without a passphrase is accepted there; see: bertctl doctor --hosts h3"

static const struct {
        const char *said;
        int status;
        bool late;
        enum host_grade grade;
        const char *text;
} ends[] = {
        { "ssh: Could not resolve hostname h3: Name or service not known\r\n", EXITED(255), false, HOST_REFUSED,
          "h3: unknown host; check its name: getent hosts h3" },
        { "ssh: Could not resolve hostname h3: Temporary failure in name resolution\r\n", EXITED(255), false,
          HOST_WAITS, "h3: its name cannot be resolved now; check it and the name server: getent hosts h3" },
        { "Host key verification failed.\r\n", EXITED(255), false, HOST_REFUSED,
          "h3: its host key is not known here; run once: ssh h3 true" },
        { "No ED25519 host key is known for h3 and you have requested strict checking.\r\nHost key verification "
          "failed.\r\n",
          EXITED(255), false, HOST_REFUSED, "h3: its host key is not known here; run once: ssh h3 true" },
        { "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\nHost key verification failed.\r\n", EXITED(255),
          false, HOST_REFUSED,
          "h3: its host key has changed; if it was installed again, run: ssh-keygen -R h3; ssh h3 true" },
        { "alice@h3: Permission denied (publickey).\r\n", EXITED(255), false, HOST_REFUSED, KEY },
        { "Received disconnect from h3: Too many authentication failures\r\n", EXITED(255), false, HOST_REFUSED, KEY },
        { "ssh: connect to host h3 port 22: Connection refused\r\n", EXITED(255), false, HOST_WAITS,
          "h3: no sshd answers there; start it: systemctl start ssh" },
        { "ssh: connect to host h3 port 22: Connection timed out\r\n", EXITED(255), false, HOST_WAITS,
          "h3: does not answer" },
        { "ssh: connect to host h3 port 22: No route to host\r\n", EXITED(255), false, HOST_WAITS,
          "h3: does not answer: no route to it" },
        { "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 10.0.0.3 port 22\r\n",
          EXITED(255), false, HOST_WAITS, "h3: its sshd closed the connection; see why: ssh h3 true" },
        { "\"System is booting up. Unprivileged users are not permitted to log in yet.\"\r\n", EXITED(255), false,
          HOST_WAITS, "h3: it is starting up" },
        { "", 9, true, HOST_WAITS, "h3: does not answer" },
        { "bash: line 1: bertctl: command not found\n", EXITED(127), false, HOST_REFUSED,
          "h3: bertctl is not installed there, or not in PATH of a command over ssh" },
        { "bertctl: unknown command 'lease'; see --help\n", EXITED(2), false, HOST_WAITS,
          "h3: its bertctl is too old to lend (bertctl: unknown command 'lease'; see --help); install this host's "
          "version" },
        { "first\nsomething \033[2Jelse\r\n", EXITED(255), false, HOST_WAITS, "h3: something  [2Jelse" },
        { "bad \xff\xc2\x9b bytes\n", EXITED(255), false, HOST_WAITS, "h3: bad ??? bytes" },
        { "", EXITED(1), false, HOST_WAITS, "h3: ssh ended without an answer; see why: ssh h3 bertctl --version" },
        { NULL, EXITED(0), false, HOST_WAITS, "h3: ssh ended without an answer; see why: ssh h3 bertctl --version" },
};

static void test_ends(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                const struct host_facts f = {
                        .host = "h3", .end = { .status = ends[i].status, .late = ends[i].late, .said = ends[i].said }
                };
                struct host_verdict v;

                host_judge(&f, &v);
                if (v.grade != ends[i].grade || strcmp(v.text, ends[i].text) != 0)
                        fail_msg("%zu: %d \"%s\", not \"%s\"", i, (int) v.grade, v.text, ends[i].text);
        }
}

#define SAME \
        "\"bertd\":\"1.2\",\"trainer\":\"1.2\",\"mpi\":\"4.1.4\",\"launcher\":\"systemd\",\"slots\":8,\"version\":2"
#define HEAD                                                                             \
        "{" SAME ",\"resolves\":{\"h1\":\"127.0.1.1\",\"h3\":\"10.0.0.3\"},\"inputs\":[" \
        "{\"path\":\"/d/a\",\"state\":\"ok\",\"hash\":\"1\",\"corpus\":true},"           \
        "{\"path\":\"/d/it's.csv\",\"state\":\"ok\",\"hash\":\"2\",\"corpus\":false}]}"
#define INPUTS(a, b) "\"inputs\":[{\"path\":\"/d/a\"," a "},{\"path\":\"/d/it's.csv\"," b "}]"
#define OK(hash) "\"state\":\"ok\",\"hash\":\"" hash "\""
#define LACKS "\"state\":\"missing\",\"hash\":\"\""
#define BOTH INPUTS(OK("1"), OK("2"))
#define RSYNC "rsync -aR --no-implied-dirs"

static const struct {
        const char *line, *refused;
        bool ran, unmanaged;
        enum host_grade grade;
        const char *text;
} lines[] = {
        { "{" SAME "," BOTH ",\"resolves\":{\"h3\":\"127.0.1.1\",\"h1\":\"10.0.0.1\",\"h9\":\"\"}}", NULL, false, false,
          HOST_GOOD, "" },
        { "{" SAME "," BOTH ",\"resolves\":{\"h1\":\"127.0.1.1\"}}", NULL, false, false, HOST_REFUSED,
          "h3: on h3, h1 is 127.0.1.1; give it its own address in /etc/hosts there" },
        { "{\"version\":3}", NULL, false, false, HOST_WAITS,
          "h3: its bertctl speaks version 3 of leases, this one 2; install one version" },
        { "{\"version\":2,\"bertd\":\"1.3\",\"trainer\":\"1.2\",\"mpi\":\"4.1.4\"}", NULL, false, false, HOST_WAITS,
          "h3: bertd 1.3 there, 1.2 here; install one version" },
        { "{\"version\":2,\"bertd\":\"1.2\",\"trainer\":\"1.3\",\"mpi\":\"4.1.4\"}", NULL, false, false, HOST_WAITS,
          "h3: bert-trainer 1.3 there, 1.2 here; install one version" },
        { "{\"version\":2,\"bertd\":\"1.2\",\"trainer\":\"1.2\",\"mpi\":\"5.0.7\"}", NULL, false, false, HOST_WAITS,
          "h3: Open MPI 5.0.7 there, 4.1.4 here; install one version" },
        { "{\"version\":2,\"bertd\":\"1.2\",\"trainer\":\"1.2\",\"mpi\":\"\"}", NULL, false, false, HOST_REFUSED,
          "h3: Open MPI is not installed there; install 4.1.4" },
        { "{\"version\":2,\"bertd\":\"1.2\",\"trainer\":\"1.2\",\"mpi\":\"\"}", NULL, true, false, HOST_WAITS,
          "h3: Open MPI is not installed there; install 4.1.4" },
        { "{\"version\":2,\"bertd\":\"\",\"trainer\":\"1.2\",\"mpi\":\"4.1.4\"," BOTH "}", NULL, false, true, HOST_GOOD,
          "" },
        { "{" SAME ",\"launcher\":\"fork\"}", NULL, false, false, HOST_REFUSED,
          "h3: its bertd lends nothing: launcher fork; run bertd there as root under systemd" },
        { "{" SAME ",\"draining\":\"new cooling\"}", NULL, false, false, HOST_WAITS,
          "h3: drained: new cooling; when it is over: bertctl undrain" },
        { "{" SAME ",\"host\":\"gpu3.example.com\"}", "{\"class\":\"away\",\"reason\":\"gpu3: no bertd runs there\"}",
          false, false, HOST_WAITS, "h3: no bertd runs there" },
        { "{" SAME "}", "{\"class\":\"forbidden\",\"reason\":\"not in group bertd\"}", false, false, HOST_REFUSED,
          "h3: not in group bertd" },
        { "{" SAME "}", "{\"class\":\"busy\",\"reason\":\"h3: all 4 slots are busy: job 12 of alice\"}", false, false,
          HOST_WAITS, "h3: all 4 slots are busy: job 12 of alice" },
        { "{" SAME ",\"problem\":{\"class\":\"draining\",\"reason\":\"drained\"}}", NULL, false, false, HOST_WAITS,
          "h3: drained" },
        { "{" SAME "}", "{\"class\":\"newer\",\"reason\":\"so\"}", false, false, HOST_WAITS, "h3: so" },
        { "{" SAME "}", "{}", false, false, HOST_WAITS, "h3: refuses without a reason" },
        { "{" SAME ",\"network\":{\"problem\":\"no interface of this host is in it\"}}", NULL, false, false,
          HOST_REFUSED, "h3: network: no interface of this host is in it" },
        { "{" SAME ",\"slots\":2}", NULL, false, false, HOST_REFUSED,
          "h3: has 2 slots, the job needs 4 there (ranks x threads)" },
        { "{" SAME ",\"slots\":2}", NULL, true, false, HOST_WAITS,
          "h3: has 2 slots, the job needs 4 there (ranks x threads)" },
        { "{" SAME "," INPUTS(LACKS, LACKS) "}", NULL, false, false, HOST_REFUSED,
          "h3: /d/a: missing there (and 1 more); run: " RSYNC " /d/a.idx /d/a.bin '/d/it'\\''s.csv' h3:/" },
        { "{" SAME "," INPUTS(OK("1"), LACKS) "}", NULL, false, false, HOST_REFUSED,
          "h3: /d/it's.csv: missing there; run: " RSYNC " '/d/it'\\''s.csv' h3:/" },
        { "{" SAME "," INPUTS(LACKS, OK("2")) "}", NULL, true, false, HOST_WAITS,
          "h3: /d/a: missing there; mount it, or run: " RSYNC " /d/a.idx /d/a.bin h3:/" },
        { "{" SAME "," INPUTS(OK("9"), OK("2")) "}", NULL, true, false, HOST_REFUSED,
          "h3: /d/a: differs from this host's; run: " RSYNC " /d/a.idx /d/a.bin h3:/" },
        { "{" SAME "," INPUTS("\"state\":\"unreadable\"", OK("2")) "}", NULL, false, false, HOST_REFUSED,
          "h3: /d/a: cannot be read there; check its permissions" },
        { "{" SAME "," INPUTS("\"state\":\"unreadable\"", OK("2")) "}", NULL, true, false, HOST_WAITS,
          "h3: /d/a: cannot be read there; mount it, or run: " RSYNC " /d/a.idx /d/a.bin h3:/" },
        { "{" SAME ",\"late\":true}", NULL, false, false, HOST_WAITS,
          "h3: a file system or name server does not answer there, or the host is overloaded; try: ssh h3 ls PATH" },
        { "{" SAME "}", NULL, true, false, HOST_WAITS,
          "h3: /d/a: missing there (and 1 more); mount it, or run: " RSYNC
          " /d/a.idx /d/a.bin '/d/it'\\''s.csv' h3:/" },
};

static void test_lines(void **state) {
        json_t *head = json_loads(HEAD, 0, NULL);

        assert_non_null(head);
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                json_t *line = json_loads(lines[i].line, 0, NULL),
                       *refused = lines[i].refused ? json_loads(lines[i].refused, 0, NULL) : NULL;
                const struct host_facts f = { .host = "h3",
                                              .line = line,
                                              .refused = refused,
                                              .head = head,
                                              .head_name = "h1",
                                              .slots = 4,
                                              .ran = lines[i].ran,
                                              .unmanaged = lines[i].unmanaged };
                struct host_verdict v;

                assert_non_null(line);
                host_judge(&f, &v);
                if (v.grade != lines[i].grade || strcmp(v.text, lines[i].text) != 0)
                        fail_msg("%zu: %d \"%s\", not \"%s\"", i, (int) v.grade, v.text, lines[i].text);
                json_decref(line);
                json_decref(refused);
        }
        json_decref(head);
}

/* GPUs, and a head that is wrong itself. */
static void test_others(void **state) {
        json_t *line = json_loads("{" SAME ",\"gpus\":[{},{}]," BOTH "}", 0, NULL),
               *head = json_loads("{" SAME ",\"resolves\":{\"h3\":\"127.0.0.1\"},\"network\":{\"problem\":\"down\"}}",
                                  0, NULL);
        struct host_facts f = { .host = "h3", .line = line, .head_name = "h1", .gpus = 4 };
        struct host_verdict v;

        host_judge(&f, &v);
        assert_string_equal(v.text, "h3: has 2 GPUs, the job needs 4 there");
        f.gpus = 2;
        host_judge(&f, &v);
        assert_int_equal(v.grade, HOST_GOOD);
        f.head = head;
        host_judge(&f, &v);
        assert_string_equal(v.text, "h1: on h1, h3 is 127.0.0.1; give it its own address in /etc/hosts there");
        (void) json_object_del(head, "resolves");
        host_judge(&f, &v);
        assert_string_equal(v.text, "h1: network: down");
        assert_int_equal(v.grade, HOST_REFUSED);
        json_decref(line);
        json_decref(head);
}

/* A command's program, and what lies where a lease has a folder of its own. */
static void test_programs(void **state) {
#define PROGRAM(name, there)                                                                                           \
        "{" SAME ",\"private_tmp\":true,\"program\":{\"name\":\"" name "\",\"path\":\"" name "\",\"there\":" there "}" \
        "}"
#define INPUT(path, private) \
        "{" SAME ",\"private_tmp\":" private ",\"inputs\":[{\"path\":\"" path "\",\"state\":\"ok\",\"hash\":\"\"}]}"
        static const struct {
                const char *head, *line;
                bool ran;
                enum host_grade grade;
                const char *text;
        } cases[] = {
                { PROGRAM("p", "true"), PROGRAM("p", "true"), false, HOST_GOOD, "" },
                { PROGRAM("p", "false"), PROGRAM("p", "false"), false, HOST_GOOD, "" },
                { PROGRAM("p", "true"), PROGRAM("p", "false"), false, HOST_REFUSED,
                  "h3: p: no such program there in the job's PATH; install it, or give its path" },
                { PROGRAM("p", "true"), PROGRAM("p", "false"), true, HOST_WAITS,
                  "h3: p: no such program there in the job's PATH; install it, or give its path" },
                { PROGRAM("/b/p", "true"), PROGRAM("/b/p", "false"), false, HOST_REFUSED,
                  "h3: /b/p: no such program there; copy or install it" },
                { PROGRAM("/tmp/p", "true"), PROGRAM("/tmp/p", "true"), false, HOST_REFUSED,
                  "h3: /tmp/p: a job has its own /tmp and /var/tmp there; move it elsewhere" },
                { INPUT("/var/tmp/a", "true"), INPUT("/var/tmp/a", "true"), false, HOST_REFUSED,
                  "h3: /var/tmp/a: a job has its own /tmp and /var/tmp there; move it elsewhere" },
                { INPUT("/var/tmp/a", "true"), INPUT("/var/tmp/a", "false"), false, HOST_GOOD, "" },
                { INPUT("/tmpa", "true"), INPUT("/tmpa", "true"), false, HOST_GOOD, "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                json_t *head = json_loads(cases[i].head, 0, NULL), *line = json_loads(cases[i].line, 0, NULL);
                const struct host_facts f = { .host = "h3", .line = line, .head = head, .ran = cases[i].ran };
                struct host_verdict v;

                assert_non_null(head);
                assert_non_null(line);
                host_judge(&f, &v);
                if (v.grade != cases[i].grade || strcmp(v.text, cases[i].text) != 0)
                        fail_msg("%zu: %d \"%s\", not \"%s\"", i, (int) v.grade, v.text, cases[i].text);
                json_decref(head);
                json_decref(line);
        }
}

/* What another host sends is bounded and printable. */
static void test_hostile(void **state) {
        static char text[20000];
        struct host_verdict v;

        memset(text, 'x', sizeof(text) - 1);
        text[100] = '\033';
        text[200] = '\n';
        host_judge_refused("h3", "busy", text, &v);
        assert_true(strlen(v.text) < HOST_VERDICT_MAX && !strpbrk(v.text, "\033\n"));
        const struct host_end end = { .status = EXITED(255), .said = text };
        host_judge_end("h3", &end, &v);
        assert_true(strlen(v.text) < HOST_VERDICT_MAX && !strpbrk(v.text, "\033\n"));
        const struct host_end no_names = {
                .status = EXITED(255),
                .said = "ssh: Could not resolve hostname h3: Temporary failure in name resolution",
                .at_submit = true
        };
        host_judge_end("h3", &no_names, &v);
        assert_int_equal(v.grade, HOST_REFUSED);
        const struct host_end late_mount = { .status = EXITED(127), .said = "", .ran = true };
        host_judge_end("h3", &late_mount, &v);
        assert_int_equal(v.grade, HOST_WAITS);
        json_t *line =
                json_loads("{\"version\":\"x\",\"resolves\":[],\"inputs\":{},\"gpus\":3,\"network\":7}", 0, NULL);
        const struct host_facts f = { .host = "h3", .line = line, .head = line, .slots = 1, .gpus = 1 };
        host_judge(&f, &v);
        assert_int_equal(v.grade, HOST_WAITS);
        json_decref(line);
}

static void test_inputs(void **state) {
        static const char text[] = "kind: finetune\nmodel: {config: /c, vocab: /v}\ntrain: {epochs: 2}\n"
                                   "data: {train: [/a.csv, /b.csv], validation: [/a.csv], test: [/t.csv]}\n";
        char h1[] = "h1", h2[] = "h2", *hosts[] = { h1, h2, NULL };
        cleanup_spec struct spec *spec = NULL;
        struct error error = {};

        assert_int_equal(spec_parse("s", text, strlen(text), NULL, 0, &spec, &error), 0);
        json_t *line = host_inputs_line(spec, NULL, NULL, hosts),
               *none = host_inputs_line(NULL, "/folder", NULL, hosts);
        cleanup_free char *out = json_dumps(line, JSON_COMPACT), *bare = json_dumps(none, JSON_COMPACT);
        assert_string_equal(
                out, "{\"type\":\"inputs\",\"paths\":[\"/a.csv\",\"/b.csv\",\"/t.csv\"],\"hosts\":[\"h1\",\"h2\"]}");
        assert_string_equal(bare, "{\"type\":\"inputs\",\"paths\":[\"/folder\"],\"hosts\":[\"h1\",\"h2\"]}");
        json_decref(line);
        json_decref(none);
        static const struct {
                const char *program, *name;
        } programs[] = {
                { "./bin/p", "/folder/bin/p" }, { "bin/p", "/folder/bin/p" }, { "/bin/p", "/bin/p" }, { "p", "p" }
        };
        for (size_t i = 0; i < ELEMENTSOF(programs); i++) {
                json_t *command = host_inputs_line(NULL, "/folder", programs[i].program, hosts),
                       *program = json_object_get(command, "program");
                assert_string_equal(json_string_value(json_object_get(program, "name")), programs[i].name);
                assert_string_equal(json_string_value(json_object_get(program, "search")), getenv("PATH"));
                json_decref(command);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ends),    cmocka_unit_test(test_lines),  cmocka_unit_test(test_others),
                cmocka_unit_test(test_hostile), cmocka_unit_test(test_inputs), cmocka_unit_test(test_programs),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
