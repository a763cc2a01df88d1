/* SPDX-License-Identifier: Apache-2.0 */
/* SIGKILL at random instants, to either side: the other side gets an error within 100 ms, each time, and nothing is left
 * behind. ORION_KILLS: how often, default 50. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>

#include "../check.h"
#include "../kills.h"
#include "base/sys.h"
#include "echo_worker.h"
#include "shm/layout.h"
#include "transport/link.h"
#include "transport/shm.h"
#include "transport/tcp.h"

static int over = ECHO_MEMFD;

/* Files in /dev/shm have random names of 16 bytes. Here the first eight are the same for all processes of this test, so
 * that what is left is known from what others have there. (The linker sends all draws of this program here.) */
static uint64_t mark;
int __real_orion_random_bytes(void *to, size_t bytes);
int __wrap_orion_random_bytes(void *to, size_t bytes);
int __wrap_orion_random_bytes(void *to, size_t bytes)
{
    int rc = __real_orion_random_bytes(to, bytes);
    if (bytes == 16)
        memcpy(to, &mark, sizeof(mark));
    return rc;
}

static void mark_files(char prefix[32])
{
    MUST(__real_orion_random_bytes(&mark, sizeof(mark)) == 0);
    (void)snprintf(prefix, 32, "orion-%016llx", (unsigned long long)mark);
}

/* A worker killed between creating its files and the client's mapping them leaves them: a server sweeps. These workers
 * have none, so the test does. Returns how many there were: whole, and with nobody behind them. */
static int sweep_files(const char *prefix)
{
    int n = 0;
    char path[300];
    DIR *d = opendir("/dev/shm");
    if (d == NULL)
        return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
            continue;
        (void)snprintf(path, sizeof(path), "/dev/shm/%s", e->d_name);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        MUST(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && orion_fd_size(fd) > 0);
        (void)close(fd);
        n += unlink(path) == 0;
    }
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

static orion_link_t *connect_to(int socket, const char *prefix)
{
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_link_t *link = NULL;
    char why[256];
    orion_hello_init(&hello);
    hello.flags = ORION_FLAG_NO_RANGE;
    orion_status_t status = (over == ECHO_TCP ? orion_tcp_open_socket : orion_shm_open_socket)(
        socket, "test", &hello, &welcome, &link, why, sizeof(why));
    if (status != ORION_OK)
        return NULL; /* killed before the welcome: fine, if it says so in time */
    MUST(welcome.command_name[0] == '\0' || strncmp(welcome.command_name, prefix, strlen(prefix)) == 0);
    return link;
}

static void a_killed_worker_is_an_error_for_the_client(void)
{
    static kills_t k;
    uint64_t random = check_number("ORION_SEED", 77) | 1;
    int never_welcomed = 0;
    char prefix[32];
    mark_files(prefix);
    kills_begin(&k, 50);
    for (int i = 0; i < k.wanted; i++) {
        int server, how = over == ECHO_TCP ? over : (i & 7) == 7 ? ECHO_DEVSHM : ECHO_MEMFD; /* now and then files */
        int socket = echo_fork(&server, how);
        MUST(socket >= 0);
        kills_soon(&k, (pid_t)server, getpid(), 500 + check_random(&random) % 30000);
        orion_link_t *link = connect_to(socket, prefix);
        orion_status_t status = link != NULL ? work(link, random) : ORION_PEER_GONE;
        CHECK(kills_noticed(&k));
        CHECK_EQUAL(status, ORION_PEER_GONE);
        orion_link_close(link);
        never_welcomed += link == NULL && how == ECHO_DEVSHM;
        MUST(waitpid((pid_t)server, NULL, 0) == server);
    }
    CHECK(kills_end(&k, "the client"));
    CHECK(sweep_files(prefix) <= 2 * never_welcomed); /* memfds die with their last user */
}

static void a_killed_client_is_an_end_for_the_worker(void)
{
    static kills_t k;
    uint64_t random = check_number("ORION_SEED", 78) | 1;
    char prefix[32];
    mark_files(prefix);
    kills_begin(&k, 50);
    for (int i = 0; i < k.wanted; i++) {
        /* the client with its socket is a child; the worker process is its sibling, so that we can wait for it */
        int server, how = over == ECHO_TCP ? over : (i & 7) == 7 ? ECHO_DEVSHM : ECHO_MEMFD;
        int socket = echo_fork(&server, how);
        MUST(socket >= 0);
        pid_t client = fork();
        MUST(client >= 0);
        if (client == 0) {
            orion_link_t *link = connect_to(socket, prefix);
            if (link != NULL)
                (void)work(link, random);
            _exit(0);
        }
        (void)close(socket);
        kills_soon(&k, client, (pid_t)server, 500 + check_random(&random) % 30000);
        siginfo_t ended;
        MUST(waitid(P_PID, (id_t)server, &ended, WEXITED | WNOWAIT) == 0);
        CHECK(kills_noticed(&k));
        MUST(waitpid(client, NULL, 0) == client);
        int how_it_ended;
        MUST(waitpid((pid_t)server, &how_it_ended, 0) == server);
        CHECK_EQUAL(how_it_ended, 0); /* it left by itself */
    }
    CHECK(kills_end(&k, "the worker"));
    CHECK_EQUAL(sweep_files(prefix), 0);
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
