/* SPDX-License-Identifier: Apache-2.0 */
/* SIGKILL at random instants, to either side: the other side gets an error within 100 ms and nothing is left behind.
 * ORION_KILLS: how often, default 50. The promise is measured at the median, and every single one has ten seconds: the
 * machine may be busy. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../check.h"
#include "../process.h"
#include "echo_worker.h"
#include "shm/layout.h"
#include "transport/link.h"
#include "transport/shm.h"
#include "transport/tcp.h"

#define PROMISE_NS 100000000LL
#define WATCHDOG_NS 10000000000LL
#define KILLS_MAX 100000

static int over = ECHO_MEMFD;

/* A worker killed between creating its files and the client's mapping them leaves them: its supervisor sweeps by name.
 * These workers have none, so the test does. Returns how many there were. */
static int sweep_files(void)
{
    int n = 0;
    char path[300];
    DIR *d = opendir("/dev/shm");
    if (d == NULL)
        return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strncmp(e->d_name, "orion-", 6) != 0)
            continue;
        snprintf(path, sizeof(path), "/dev/shm/%s", e->d_name);
        n += unlink(path) == 0;
    }
    (void)closedir(d);
    return n;
}

static int count_entries(const char *directory, const char *prefix)
{
    int n = 0;
    DIR *d = opendir(directory);
    if (d == NULL)
        return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    (void)closedir(d);
    return n;
}

/* A mixed load: calls, posts, staging both ways; until something fails. */
static orion_status_t work(orion_link_t *link, uint64_t seed)
{
    uint32_t sequence = 0;
    uint64_t random = seed | 1;
    for (;;) {
        uint64_t r = check_random(&random);
        orion_record_t *record;
        orion_stage_t stage = {0};
        uint32_t kind = (r >> 8) % 4, bytes = kind == 1 ? 8 + (uint32_t)(r >> 16) % 2048 : 16;
        orion_status_t status;
        if (kind >= 2 && (status = orion_link_stage_claim(link, &stage)) != ORION_OK)
            return status;
        if (kind == 2 && (status = orion_link_stage_send(link, &stage, stage.data, stage.bytes)) != ORION_OK)
            return status;
        if ((status = orion_link_claim(link, ORION_RECORD_HEADER + bytes, &record)) != ORION_OK)
            return status;
        static const uint16_t opcodes[] = {ECHO_ECHO, ECHO_POST, ECHO_STAGE_SUM, ECHO_STAGE_FILL};
        uint32_t words[4] = {stage.index, stage.sequence, 4096, 0};
        record->opcode = opcodes[kind];
        record->slot = kind == 0 ? 0 : ORION_SLOT_NONE;
        record->sequence = kind == 0 ? ++sequence : 0;
        if (kind != 1)
            memcpy(orion_record_payload(record), words, sizeof(words));
        orion_link_commit(link);
        const orion_reply_t *reply;
        if (kind == 0)
            status = orion_link_await(link, 0, sequence, &reply);
        if (kind == 3)
            status = orion_link_stage_await(link, &stage);
        if (status != ORION_OK)
            return status;
    }
}

static orion_link_t *connect_to(int socket)
{
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_link_t *link = NULL;
    char why[256];
    orion_hello_init(&hello);
    hello.flags = ORION_FLAG_NO_RANGE;
    orion_status_t status = (over == ECHO_TCP ? orion_tcp_open_socket : orion_shm_open_socket)(
        socket, "test", &hello, &welcome, &link, why, sizeof(why));
    return status == ORION_OK ? link : NULL; /* killed before the welcome: fine, if it says so in time */
}

static int64_t *shared_time(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    return p;
}

static void check_times(int64_t *times, int count, const char *who)
{
    qsort(times, (size_t)count, sizeof(*times), ascending);
    printf("     %s noticed after %.1f ms (median), %.1f ms (worst of %d)\n", who, (double)times[count / 2] / 1e6,
           (double)times[count - 1] / 1e6, count);
    CHECK(times[count / 2] <= PROMISE_NS);
    CHECK(times[count - 1] <= WATCHDOG_NS);
}

static int kills(void)
{
    uint64_t n = check_number("ORION_KILLS", 50);
    return n > KILLS_MAX ? KILLS_MAX : (int)n;
}

static void a_killed_worker_is_an_error_for_the_client(void)
{
    static int64_t times[KILLS_MAX];
    uint64_t random = check_number("ORION_SEED", 77) | 1;
    int files = count_entries("/dev/shm", "orion-"), descriptors = count_entries("/proc/self/fd", "");
    int64_t *when = shared_time();
    int count = kills(), never_welcomed = 0;
    for (int i = 0; i < count; i++) {
        int server;
        int socket = echo_fork(&server, over == ECHO_TCP ? over
                                        : (i & 7) == 7   ? ECHO_DEVSHM
                                                         : ECHO_MEMFD); /* now and then with files in /dev/shm */
        MUST(socket >= 0);
        pid_t killer = kill_later((pid_t)server, 500 + check_random(&random) % 30000, when);
        orion_link_t *link = connect_to(socket);
        if (link != NULL) {
            CHECK_EQUAL(work(link, random), ORION_PEER_GONE);
            orion_link_close(link);
        } else {
            never_welcomed++;
        }
        int64_t now = check_now_ns();
        MUST(waitpid(killer, NULL, 0) == killer);
        MUST(waitpid((pid_t)server, NULL, 0) == server);
        times[i] = now > *when ? now - *when : 0;
    }
    CHECK_EQUAL(count_entries("/proc/self/fd", ""), descriptors);
    CHECK(sweep_files() <= 2 * (never_welcomed + files)); /* memfds die with their last user */
    check_times(times, count, "the client");
    (void)munmap(when, 4096);
}

static void a_killed_client_is_an_end_for_the_worker(void)
{
    static int64_t times[KILLS_MAX];
    uint64_t random = check_number("ORION_SEED", 78) | 1;
    int files = count_entries("/dev/shm", "orion-");
    int64_t *when = shared_time();
    int count = kills();
    for (int i = 0; i < count; i++) {
        /* the client with its socket is a child; the worker process is its sibling, so that we can wait for it */
        int server;
        int socket = echo_fork(&server, over);
        MUST(socket >= 0);
        pid_t client = fork();
        MUST(client >= 0);
        if (client == 0) {
            orion_link_t *link = connect_to(socket);
            if (link != NULL)
                (void)work(link, random);
            _exit(0);
        }
        (void)close(socket);
        pid_t killer = kill_later(client, 500 + check_random(&random) % 30000, when);
        MUST(waitpid(killer, NULL, 0) == killer);
        MUST(waitpid(client, NULL, 0) == client);
        int how;
        MUST(waitpid((pid_t)server, &how, 0) == server);
        CHECK_EQUAL(how, 0); /* it left by itself */
        int64_t now = check_now_ns();
        times[i] = now > *when ? now - *when : 0;
    }
    CHECK_EQUAL(count_entries("/dev/shm", "orion-"), files);
    check_times(times, count, "the worker");
    (void)munmap(when, 4096);
}

static void a_killed_worker_is_an_error_over_tcp(void)
{
    over = ECHO_TCP;
    a_killed_worker_is_an_error_for_the_client();
    over = ECHO_MEMFD;
}

static void a_killed_client_is_an_end_over_tcp(void)
{
    over = ECHO_TCP;
    a_killed_client_is_an_end_for_the_worker();
    over = ECHO_MEMFD;
}

CHECK_MAIN(CASE(a_killed_worker_is_an_error_for_the_client), CASE(a_killed_client_is_an_end_for_the_worker),
           CASE(a_killed_worker_is_an_error_over_tcp), CASE(a_killed_client_is_an_end_over_tcp))
