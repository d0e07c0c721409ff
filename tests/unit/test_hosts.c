/* common/hosts.h, daemon/rules/hosts.h and the plan of a gang: lists of hosts, which are chosen, and when. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/gang_file.h"
#include "common/hosts.h"
#include "common/network.h"
#include "daemon/rules/hosts.h"
#include "tests/unit/folder.h"

#define S USEC_PER_SEC
#define NOW (UINT64_C(1000000) * S)

/* ---- networks ---- */

static void test_networks(void **state) {
        static const struct {
                const char *network;
                bool valid, has; /* eth1 with 10.1.2.3 */
        } rows[] = { { "eth1", true, true },
                     { "eth0", true, false },
                     { "10.1.2.3/32", true, true },
                     { "10.1.2.4/32", true, false },
                     { "10.1.99.0/16", true, true },
                     { "10.2.0.0/16", true, false },
                     { "0.0.0.0/0", true, true },
                     { "10.1.0.0/33", false, false },
                     { "10.1.0.0/4294967312", false, false },
                     { "10.1.0.0/", false, false },
                     { "10.1.0.0/16x", false, false },
                     { "10.1/16", false, false },
                     { "999.1.0.0/16", false, false },
                     { "/16", false, false },
                     { "an-interface-too-long", false, false },
                     { "", false, false } };
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a010203) };
        char name[] = "eth1";
        const struct ifaddrs interface = { .ifa_name = name, .ifa_addr = (struct sockaddr *) &address };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (network_is_valid(rows[i].network) != rows[i].valid ||
                    network_has(rows[i].network, &interface) != rows[i].has)
                        fail_msg("%s", rows[i].network);
}

/* ---- lists ---- */

static const struct {
        const char *text, *names; /* NULL: refused */
        const char *message;
} lists[] = {
        { "h1", "h1", NULL },
        { " h1 , h2", "h1,h2", NULL },
        { "gpu[01-03,07]", "gpu01,gpu02,gpu03,gpu07", NULL },
        { "a,gpu[9-11],b", "a,gpu9,gpu10,gpu11,b", NULL },
        { "r[1-2]n[1-2].x", "r1n1.x,r1n2.x,r2n1.x,r2n2.x", NULL },
        { "10.0.0.1,h-1.example.com,a_b", "10.0.0.1,h-1.example.com,a_b", NULL },
        { "", NULL, "'': not a host name..." },
        { "h1,,h2", NULL, "'': not a host name..." },
        { "h1,", NULL, "'': not a host name..." },
        { "h1,H1", NULL, "'H1': given twice" },
        { "gpu[1-3],gpu2", NULL, "'gpu2': given twice" },
        { "-oProxyCommand=x", NULL, "'-oProxyCommand=x': not a host name..." },
        { "a b", NULL, "'a?b': not a host name..." },
        { "a;b", NULL, "'a;b': not a host name..." },
        { "u@h", NULL, "'u@h': not a host name..." },
        { "h1,5", NULL, "'5': not a host name..." }, /* ssh takes it for 0.0.0.5 */
        { "10.1", NULL, "'10.1': not a host name..." },
        { "10.77.0.2,5a", "10.77.0.2,5a", NULL },
        { "h\x1b[2J", NULL, "'h?[2J': not a node list..." },
        { "gpu[1-", NULL, "'gpu[1-': not a node list; expected e.g. gpu[01-04,07]" },
        { "gpu[]", NULL, "']': not a node list..." },
        { "gpu[2-1]", NULL, "'2-1]': not a node list..." },
        { "gpu[a-b]", NULL, "'a-b]': not a node list..." },
        { "gpu]1", NULL, "'gpu]1': not a node list..." },
        { "gpu[1-4294967295]", NULL, "'gpu65': more than 64 hosts" },
        { "gpu[1-64]x[1-64]", NULL, "'gpu2x1': more than 64 hosts" },
};

static void assert_says(const char *text, const char *expected) {
        size_t n = strlen(expected), whole = n > 3 && strcmp(expected + n - 3, "...") == 0 ? n - 3 : n + 1;

        if (strncmp(text, expected, whole) != 0)
                fail_msg("\"%s\" is not \"%s\"", text, expected);
}

static void test_lists(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
                cleanup_hosts struct host_list list = {};
                struct error error = {};
                int r = hosts_add(&list, lists[i].text, &error);
                cleanup_free char *names = hosts_join(list.names, list.n);

                if (!lists[i].names) {
                        assert_true(r < 0);
                        assert_says(error.text, lists[i].message);
                        continue;
                }
                assert_int_equal(r, 0);
                assert_string_equal(names, lists[i].names);
        }
}

static void test_long_names(void **state) {
        char name[BERTD_HOST_MAX + 2];

        memset(name, 'a', sizeof(name));
        name[BERTD_HOST_MAX] = '\0';
        assert_true(host_is_name(name));
        name[BERTD_HOST_MAX] = 'a';
        name[BERTD_HOST_MAX + 1] = '\0';
        assert_false(host_is_name(name));
        assert_false(host_is_name(""));
        assert_false(host_is_name(".h"));
        cleanup_hosts struct host_list list = {};
        struct error error = {};
        assert_true(hosts_add(&list, name, &error) < 0);
        cleanup_free char *bracket = format_string("%s[1-2]", name);
        assert_true(hosts_add(&list, bracket, &error) < 0);
        assert_int_equal(list.n, 0);
}

static void test_files(void **state) {
        cleanup_hosts struct host_list list = {}, other = {}, none = {}, bad = {};
        struct error error = {};

        assert_int_equal(hosts_add_file(&list, "F", "# ours\nh1 slots=8\n\n h2\tslots=4 # old\nh3\r\n", &error), 0);
        assert_int_equal(list.n, 3);
        assert_string_equal(list.names[2], "h3");
        assert_int_equal(list.slots, 4);
        assert_string_equal(list.names[list.slots_row], "h2");
        assert_int_equal(hosts_add_file(&other, "F", "gpu[01-02]", &error), 0);
        assert_int_equal(other.n, 2);
        assert_true(hosts_add_file(&none, "F", "# nothing\n", &error) < 0);
        assert_string_equal(error.text, "F: no hosts; expected a name on each line");
        error = (struct error) {};
        assert_true(hosts_add_file(&bad, "F", "h1\nh2 slot=3\n", &error) < 0);
        assert_string_equal(error.text, "F:2: 'slot=3': expected NAME [slots=N]");
}

static void test_texts(void **state) {
        const char *text = "h1,h2";
        char name[BERTD_HOST_MAX + 1];

        assert_int_equal(hosts_count(text), 2);
        assert_int_equal(hosts_count(NULL), 0);
        assert_int_equal(hosts_count(""), 0);
        assert_true(hosts_contain(text, "H2"));
        assert_false(hosts_contain(text, "h"));
        assert_false(hosts_contain(NULL, "h"));
        assert_true(hosts_next(&text, name) && strcmp(name, "h1") == 0);
        assert_true(hosts_next(&text, name) && strcmp(name, "h2") == 0);
        assert_false(hosts_next(&text, name));
}

/* ---- the choice ---- */

static const struct {
        const char *hosts;
        uint32_t use;
        const char *state; /* seconds after NOW, e.g. "h2=+30:1" */
        bool shrink;
        const char *in_use, *spares;
        uint64_t wait_sec;
        const char *waits_for;
} choices[] = {
        { "h1,h2,h3", 3, NULL, false, "h1,h2,h3", NULL, 0, "" },
        { "h1,h2,h3", 2, NULL, false, "h1,h2", "h3", 0, "" },
        { "h1,h2,h3,h4", 2, "h2=+30:1", false, "h1,h3", "h4", 0, "" },
        { "h1,h2,h3", 3, "h3=+30:1", false, "h1,h2,h3", NULL, 30, "h3" },
        { "h1,h2,h3", 3, "h3=+30:1", true, "h1,h2", NULL, 0, "" },
        { "h1,h2,h3,h4", 3, "h2=+90:3,h3=+20:1,h4=+40:2", false, "h1,h3,h4", NULL, 40, "h4" },
        { "h1,h2", 2, "h2=-1:5", false, "h1,h2", NULL, 0, "" },      /* it is over */
        { "h1,h2", 2, "h1=+60:1", false, "h1,h2", NULL, 0, "" },     /* the head is here */
        { "h1,h2", 2, "h2=+100000:1", false, "h1,h2", NULL, 0, "" }, /* the clock was set back */
        { "h1,h2", 2, "h2=+30:1", true, "h1", NULL, 0, "" },
        { "h1,h2", 2, "rubbish,h2=,=3:3,h2=1", false, "h1,h2", NULL, 0, "" },
        { "h1,h2,h3", 2, "H2=+30:1", false, "h1,h3", NULL, 0, "" },
};

/* With NOW added to what begins with a sign. */
static char *state_of(const char *text) {
        char *out = NULL;
        size_t size;
        FILE *stream = open_memstream(&out, &size);

        for (const char *p = text; *p;) {
                if (*p == '+' || *p == '-') {
                        char *end;
                        long sec = strtol(p, &end, 10);
                        (void) fprintf(stream, "%llu", (unsigned long long) ((int64_t) NOW + sec * (int64_t) S));
                        p = end;
                } else
                        (void) fputc(*p++, stream);
        }
        (void) fclose(stream);
        return out;
}

static void test_choices(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(choices); i++) {
                cleanup_free char *text = choices[i].state ? state_of(choices[i].state) : NULL;
                const struct hosts_wish wish = { .hosts = choices[i].hosts,
                                                 .use = choices[i].use,
                                                 .state = text,
                                                 .shrink = choices[i].shrink,
                                                 .cooling = { 10 * S, 600 * S },
                                                 .now_usec = NOW };
                struct hosts_choice choice;

                assert_int_equal(hosts_choose(&wish, &choice), 0);
                if (strcmp(choice.use, choices[i].in_use) != 0 || choice.wait_usec != choices[i].wait_sec * S)
                        fail_msg("line %zu: %s, waits %llu", i, choice.use, (unsigned long long) choice.wait_usec);
                assert_string_equal(choice.waits_for, choices[i].waits_for);
                cleanup_free char *spares = hosts_spares(&wish, choice.use);
                assert_true(!spares == !choices[i].spares);
                if (spares)
                        assert_string_equal(spares, choices[i].spares);
                hosts_choice_clear(&choice);
        }
}

static void test_cool_down(void **state) {
        static const unsigned seconds[] = { 10, 20, 40, 80, 160, 320, 600, 600 };
        const struct hosts_cooling cooling = { 10 * S, 600 * S };
        char *text = NULL;

        for (size_t i = 0; i < ELEMENTSOF(seconds); i++) {
                char *more = hosts_lose(text, "h1,h2,h3", "h2", &cooling, NOW);
                free(text);
                text = more;
                assert_true(hosts_cool_until(text, "h2", &cooling, NOW) == NOW + seconds[i] * S);
                assert_true(hosts_cool_until(text, "h3", &cooling, NOW) == 0);
        }
        /* Another one has no part in it. */
        cleanup_free char *both = hosts_lose(text, "h1,h2,h3", "h3", &cooling, NOW);
        assert_true(hosts_cool_until(both, "h3", &cooling, NOW) == NOW + 10 * S);
        assert_true(hosts_cool_until(both, "h2", &cooling, NOW) == NOW + 600 * S);
        /* A user's record may name any host. */
        cleanup_free char *same = hosts_lose(both, "h1,h2,h3", "h9,x=1:1", &cooling, NOW);
        assert_string_equal(same, both);
        cleanup_free char *proven = hosts_prove(both, "h1,h2");
        assert_true(hosts_cool_until(proven, "h2", &cooling, NOW) == 0);
        assert_true(hosts_cool_until(proven, "h3", &cooling, NOW) == NOW + 10 * S);
        cleanup_free char *again = hosts_lose(proven, "h1,h2,h3", "h2", &cooling, NOW);
        assert_true(hosts_cool_until(again, "h2", &cooling, NOW) == NOW + 10 * S);
        assert_null(hosts_prove(both, "h2,h3"));
        free(text);
}

/* ---- gang.json ---- */

static char *folder;

static int enter(void **state) {
        folder = make_folder();
        return chdir(folder);
}

static int leave(void **state) {
        remove_folder(folder);
        return 0;
}

static void test_plan(void **state) {
        char h1[] = "h1", h2[] = "h2", h3[] = "h3", word[] = "a b", empty[] = "", bad_name[] = "-x";
        char *hosts[] = { h1, h2, NULL }, *spares[] = { h3, NULL }, *none[] = { NULL }, *argv[] = { word, empty, NULL };
        const struct gang_plan plan = { .job = 42,
                                        .attempt = 3,
                                        .kind = JOB_COMMAND,
                                        .name = word,
                                        .head = h2,
                                        .hosts = hosts,
                                        .spares = spares,
                                        .shrink = true,
                                        .ranks = 8,
                                        .gpus = 8,
                                        .threads = 2,
                                        .memory = UINT64_C(1) << 40,
                                        .host_timeout_sec = 40,
                                        .travels = none,
                                        .grace_sec = 7,
                                        .lasts = true,
                                        .argv = argv };
        struct gang_plan back;
        struct error error = {};
        cleanup_free char *text = gang_file_write(&plan);

        assert_non_null(text);
        assert_int_equal(file_write_atomic(GANG_FILE, text, strlen(text), 0600, &error), 0);
        assert_int_equal(gang_file_read(GANG_FILE, &back, &error), 0);
        assert_true(back.job == 42 && back.attempt == 3 && back.kind == JOB_COMMAND && back.shrink && back.ranks == 8);
        assert_true(back.memory == UINT64_C(1) << 40 && back.host_timeout_sec == 40 && !back.unmanaged && back.lasts &&
                    back.grace_sec == 7);
        assert_string_equal(back.hosts[1], "h2");
        assert_string_equal(back.spares[0], "h3");
        assert_true(!back.hosts[2] && !back.spares[1] && !back.network && !back.travels[0]);
        assert_string_equal(back.argv[1], "");
        gang_file_free(&back);
        /* The head must be one of them, and names be names. */
        hosts[1] = bad_name;
        cleanup_free char *bad = gang_file_write(&plan);
        assert_int_equal(file_write_atomic(GANG_FILE, bad, strlen(bad), 0600, &error), 0);
        assert_true(gang_file_read(GANG_FILE, &back, &error) < 0);
        assert_int_equal(unlink(GANG_FILE), 0);
        assert_int_equal(gang_file_read(GANG_FILE, &back, &error), -ENOENT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lists), cmocka_unit_test(test_long_names), cmocka_unit_test(test_files),
                cmocka_unit_test(test_texts), cmocka_unit_test(test_choices),    cmocka_unit_test(test_cool_down),
                cmocka_unit_test(test_plan),  cmocka_unit_test(test_networks),
        };
        return cmocka_run_group_tests(tests, enter, leave);
}
