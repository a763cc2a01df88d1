/* SPDX-License-Identifier: Apache-2.0 */
/* What every transport promises, once, run against each of them: shm (two processes, memfds), devshm (two processes,
 * files), fence (shm without membarrier), tcp (two processes, a socket), tls (the same, encrypted), ucx and ucx_shm (the same, over UCX and its own tcp or shared memory), local (the in-process twin), faulty (a wrapper
 * that injects nothing).
 * `conformance_test [TRANSPORT]`; the twin's library is named by ORION_TEST_TWIN. */
#define _GNU_SOURCE
#include "../check.h"
#include "../process.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "echo_worker.h"
#include "shm/layout.h"
#include "stream/libssl.h"
#include "stream/libucp.h"
#include "transport/faulty.h"
#include "transport/link.h"
#include "transport/shm.h"
#include "transport/tcp.h"

static const char *transport = "shm";

typedef struct session {
    orion_link_t *link;
    orion_welcome_t welcome;
    pid_t server; /* 0: none */
    uint32_t sequences[ORION_REPLY_SLOTS];
} session_t;

static int two_processes(void)
{
    return strcmp(transport, "local") != 0 && strcmp(transport, "faulty") != 0;
}

static int over_stream(void)
{
    return strcmp(transport, "tcp") == 0 || strcmp(transport, "tls") == 0 || strncmp(transport, "ucx", 3) == 0;
}

static void session_open(session_t *s)
{
    char why[256] = "", address[512];
    orion_hello_t hello;
    memset(s, 0, sizeof(*s));
    orion_hello_init(&hello);
    orion_status_t status;
    if (two_processes()) {
        if (strcmp(transport, "fence") == 0)
            MUST(setenv("ORION_TEST_FENCE", "1", 1) == 0);
        int tcp = over_stream();
        if (strncmp(transport, "ucx", 3) == 0)
            hello.transport = ORION_TRANSPORT_UCX;
        int socket = echo_fork(&s->server, tcp                                ? ECHO_TCP
                                           : strcmp(transport, "devshm") == 0 ? ECHO_DEVSHM
                                                                              : ECHO_MEMFD);
        (void)unsetenv("ORION_TEST_FENCE");
        MUST(socket >= 0);
        status = (tcp ? orion_tcp_open_socket : orion_shm_open_socket)(socket, "test", &hello, &s->welcome, &s->link,
                                                                       why, sizeof(why));
    } else {
        const char *library = getenv("ORION_TEST_TWIN");
        MUST(library != NULL);
        snprintf(address, sizeof(address), "local:%s?device=null", library);
        status = orion_link_open(address, &hello, &s->welcome, &s->link, why, sizeof(why));
        if (status == ORION_OK && strcmp(transport, "faulty") == 0) {
            orion_fault_plan_t plan;
            MUST(orion_fault_plan_parse("", &plan) == ORION_OK);
            status = orion_faulty_wrap(s->link, &plan, &s->link);
        }
    }
    if (status != ORION_OK)
        fprintf(stderr, "%s: %s\n", orion_status_name(status), why);
    MUST(status == ORION_OK);
}

static void session_close(session_t *s)
{
    orion_link_close(s->link);
    if (s->server > 0)
        MUST(waitpid(s->server, NULL, 0) == s->server);
}

static orion_status_t post(session_t *s, uint16_t opcode, uint32_t slot, const void *data, uint32_t bytes)
{
    orion_record_t *record;
    orion_status_t status = orion_link_claim(s->link, ORION_RECORD_HEADER + bytes, &record);
    if (status != ORION_OK)
        return status;
    record->opcode = opcode;
    record->slot = (uint16_t)slot;
    record->sequence = slot < ORION_REPLY_SLOTS ? ++s->sequences[slot] : 0;
    if (bytes != 0)
        memcpy(orion_record_payload(record), data, bytes);
    orion_link_commit(s->link);
    return ORION_OK;
}

static orion_status_t call(session_t *s, uint16_t opcode, uint32_t slot, const void *data, uint32_t bytes,
                           const orion_reply_t **reply_p)
{
    orion_status_t status = post(s, opcode, slot, data, bytes);
    return status == ORION_OK ? orion_link_await(s->link, slot, s->sequences[slot], reply_p) : status;
}

/* ---- the claims ---- */

static void a_call_returns_what_it_sent(void)
{
    session_t s;
    const orion_reply_t *reply;
    uint8_t data[ORION_REPLY_DATA];
    session_open(&s);
    for (uint32_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    for (uint32_t bytes = 0; bytes <= sizeof(data); bytes = bytes < 80 ? bytes + 8 : bytes * 2) {
        CHECK_EQUAL(call(&s, ECHO_ECHO, 3, data, bytes, &reply), ORION_OK);
        CHECK_EQUAL(reply->bytes, bytes);
        CHECK_EQUAL(reply->result, 3);
        CHECK(memcmp(reply->data, data, bytes) == 0);
    }
    session_close(&s);
}

static void order_is_program_order_across_many_laps(void)
{
    session_t s;
    const orion_reply_t *reply;
    uint64_t sum = 0, answer[2], random = 88172645463325252ULL;
    uint64_t payload[512] = {0};
    session_open(&s);
    uint32_t count = 60000; /* of 8 to 4096 bytes: hundreds of laps, padding at each */
    for (uint32_t i = 0; i < count; i++) {
        uint64_t r = check_random(&random);
        uint32_t words = (r & 15) == 0 ? 1 + (uint32_t)(r >> 8) % 512 : 1 + (uint32_t)(r >> 8) % 8;
        payload[0] = i;
        sum += i;
        CHECK_EQUAL(post(&s, ECHO_POST, ORION_SLOT_NONE, payload, words * 8), ORION_OK);
    }
    CHECK_EQUAL(call(&s, ECHO_COUNT, 0, NULL, 0, &reply), ORION_OK);
    memcpy(answer, reply->data, sizeof(answer));
    CHECK_EQUAL(answer[0], count);
    CHECK_EQUAL(answer[1], sum);
    session_close(&s);
}

static void the_largest_record_passes_and_a_larger_one_is_refused(void)
{
    session_t s;
    const orion_reply_t *reply;
    orion_record_t *record;
    static uint8_t data[ORION_PAYLOAD_MAX];
    uint64_t answer[2];
    session_open(&s);
    for (int i = 0; i < 40; i++)
        CHECK_EQUAL(post(&s, ECHO_POST, ORION_SLOT_NONE, data, sizeof(data)), ORION_OK);
    CHECK_EQUAL(call(&s, ECHO_COUNT, 0, NULL, 0, &reply), ORION_OK);
    memcpy(answer, reply->data, sizeof(answer));
    CHECK_EQUAL(answer[0], 40);
    CHECK_EQUAL(orion_link_claim(s.link, ORION_RECORD_MAX + 1, &record), ORION_TOO_BIG);
    CHECK_EQUAL(orion_link_claim(s.link, 15, &record), ORION_INVALID);
    CHECK_EQUAL(call(&s, ECHO_ECHO, 0, data, 8, &reply), ORION_OK);
    session_close(&s);
}

static void a_full_ring_waits_for_the_worker(void)
{
    session_t s;
    const orion_reply_t *reply;
    uint32_t us = 200000;
    static uint8_t data[16384];
    session_open(&s);
    CHECK_EQUAL(post(&s, ECHO_STOP_READING, ORION_SLOT_NONE, &us, sizeof(us)), ORION_OK);
    int64_t start = check_now_ns();
    int count = over_stream() ? 2048 : 64; /* 32 MiB through what sockets hold, 1 MiB through 256 KiB */
    for (int i = 0; i < count; i++)
        CHECK_EQUAL(post(&s, ECHO_POST, ORION_SLOT_NONE, data, sizeof(data)), ORION_OK);
    CHECK(check_now_ns() - start > 100 * ORION_NS_PER_MS);
    CHECK_EQUAL(call(&s, ECHO_COUNT, 0, NULL, 0, &reply), ORION_OK);
    session_close(&s);
}

static void a_slow_answer_wakes_a_sleeping_thread(void)
{
    session_t s;
    const orion_reply_t *reply;
    session_open(&s);
    uint32_t delays[] = {0, 30, 100, 1000, 20000, 180000};
    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        CHECK_EQUAL(call(&s, ECHO_SLOW, 5, &delays[i], 4, &reply), ORION_OK);
        CHECK_EQUAL(reply->bytes, 4);
    }
    session_close(&s);
}

static void a_sleeping_worker_is_woken(void)
{
    session_t s;
    const orion_reply_t *reply;
    session_open(&s);
    int64_t slowest = 0;
    for (int i = 0; i < 10; i++) {
        (void)usleep(3000 + 11000 * (unsigned)(i & 1)); /* it sleeps by then */
        int64_t start = check_now_ns();
        CHECK_EQUAL(call(&s, ECHO_ECHO, 0, &i, 4, &reply), ORION_OK);
        int64_t took = check_now_ns() - start;
        if (took > slowest)
            slowest = took;
    }
    /* a lost wake would cost a whole sleep each time; one delay by the machine is not that */
    if (slowest > ORION_NS_PER_MS * 20)
        fprintf(stderr, "slowest wake %lld us\n", (long long)(slowest / 1000));
    session_close(&s);
}

typedef struct caller {
    session_t *s;
    pthread_mutex_t *lock;
    uint32_t slot, rounds, bad;
} caller_t;

static void *call_many(void *arg)
{
    caller_t *c = arg;
    for (uint32_t i = 0; i < c->rounds; i++) {
        uint64_t payload[2] = {c->slot, i};
        const orion_reply_t *reply;
        pthread_mutex_lock(c->lock);
        orion_status_t status = post(c->s, ECHO_ECHO, c->slot, payload, sizeof(payload));
        pthread_mutex_unlock(c->lock);
        if (status == ORION_OK)
            status = orion_link_await(c->s->link, c->slot, c->s->sequences[c->slot], &reply);
        if (status != ORION_OK || memcmp(reply->data, payload, sizeof(payload)) != 0)
            c->bad++;
    }
    return NULL;
}

static void threads_get_their_own_answers(void)
{
    session_t s;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t threads[6];
    caller_t callers[6];
    session_open(&s);
    for (uint32_t i = 0; i < 6; i++) {
        callers[i] = (caller_t){&s, &lock, i * 20 + 1, 800, 0};
        MUST(pthread_create(&threads[i], NULL, call_many, &callers[i]) == 0);
    }
    for (int i = 0; i < 6; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < 6; i++)
        CHECK_EQUAL(callers[i].bad, 0);
    session_close(&s);
}

static void staging_flows_both_ways(void)
{
    session_t s;
    const orion_reply_t *reply;
    session_open(&s);
    /* in: three times round the chunks */
    uint64_t sum = 0, answer[2];
    for (uint32_t i = 0; i < 3 * ORION_STAGE_COUNT; i++) {
        orion_stage_t stage;
        CHECK_EQUAL(orion_link_stage_claim(s.link, &stage), ORION_OK);
        CHECK(stage.least > 0 && stage.least <= stage.bytes);
        CHECK_EQUAL(stage.index, i % ORION_STAGE_COUNT);
        memset(stage.data, (int)(i & 0x7f), stage.bytes);
        sum += (uint64_t)(i & 0x7f) * (ORION_STAGE_BYTES / 4096);
        CHECK_EQUAL(orion_link_stage_send(s.link, &stage, stage.data, stage.bytes), ORION_OK);
        uint32_t words[3] = {stage.index, stage.sequence, ORION_STAGE_BYTES};
        CHECK_EQUAL(post(&s, ECHO_STAGE_SUM, ORION_SLOT_NONE, words, sizeof(words)), ORION_OK);
    }
    CHECK_EQUAL(call(&s, ECHO_COUNT, 0, NULL, 0, &reply), ORION_OK);
    memcpy(answer, reply->data, sizeof(answer));
    CHECK_EQUAL(answer[1], sum);
    /* out */
    for (uint32_t i = 0; i < 20; i++) {
        orion_stage_t stage;
        CHECK_EQUAL(orion_link_stage_claim(s.link, &stage), ORION_OK);
        uint32_t words[3] = {stage.index, stage.sequence, 0x40 + i};
        CHECK_EQUAL(post(&s, ECHO_STAGE_FILL, ORION_SLOT_NONE, words, sizeof(words)), ORION_OK);
        if (i & 1) {
            static uint8_t mine[ORION_STAGE_BYTES];
            size_t part = (i & 2) ? sizeof(mine) : sizeof(mine) - 100; /* the whole chunk may come without a copy */
            memset(mine, 0, sizeof(mine));
            CHECK_EQUAL(orion_link_stage_collect(s.link, &stage, mine, part), ORION_OK);
            CHECK_EQUAL(mine[part - 1], 0x40 + i);
            CHECK_EQUAL(mine[0], 0x40 + i);
            CHECK(part == sizeof(mine) || mine[part] == 0);
            continue;
        }
        CHECK_EQUAL(orion_link_stage_await(s.link, &stage), ORION_OK);
        CHECK_EQUAL(((uint8_t *)stage.data)[ORION_STAGE_BYTES - 1], 0x40 + i);
    }
    session_close(&s);
}

static void an_aborted_chunk_is_not_waited_for(void)
{
    session_t s;
    session_open(&s);
    for (uint32_t i = 0; i < 3 * ORION_STAGE_COUNT; i++) {
        orion_stage_t stage;
        CHECK_EQUAL(orion_link_stage_claim(s.link, &stage), ORION_OK);
        orion_link_stage_abort(s.link, &stage);
    }
    session_close(&s);
}

static void events_arrive_in_order(void)
{
    session_t s;
    session_open(&s);
    size_t bytes;
    uint32_t value, request[2] = {100, 9000}; /* more than the event ring holds */
    CHECK_EQUAL(orion_link_event_wait(s.link, 1000, &value, sizeof(value), &bytes), ORION_AGAIN);
    CHECK_EQUAL(post(&s, ECHO_EVENTS, ORION_SLOT_NONE, request, sizeof(request)), ORION_OK);
    for (uint32_t i = 0; i < request[1]; i++) {
        if (i == 5)
            CHECK_EQUAL(orion_link_event_wait(s.link, ORION_NS_PER_S * 10, &value, 3, &bytes), ORION_TOO_BIG);
        CHECK_EQUAL(orion_link_event_wait(s.link, ORION_NS_PER_S * 10, &value, sizeof(value), &bytes), ORION_OK);
        CHECK_EQUAL(bytes, 4);
        CHECK_EQUAL(value, request[0] + i);
    }
    CHECK_EQUAL(orion_link_event_wait(s.link, ORION_NS_PER_MS * 60, &value, sizeof(value), &bytes), ORION_AGAIN);
    session_close(&s);
}

static void an_extent_is_the_same_memory_at_the_same_address(void)
{
    session_t s;
    const orion_reply_t *reply;
    session_open(&s);
    if (over_stream()) { /* no shared memory: it says so, and at once */
        void *none = NULL;
        CHECK_EQUAL(s.welcome.arena_bytes, 0);
        CHECK_EQUAL(orion_link_extent_map(s.link, 0, 4096, &none), ORION_INVALID);
    }
    /* no descriptors there in a real session */
    if (s.welcome.arena_bytes == 0 || strcmp(transport, "devshm") == 0) {
        session_close(&s);
        return;
    }
    uint64_t request[2] = {1 << 21, 1 << 20}, other[2] = {1 << 24, 1 << 16};
    void *p = NULL, *q = NULL;
    CHECK_EQUAL(call(&s, ECHO_EXTENT, 0, request, sizeof(request), &reply), ORION_OK);
    CHECK_EQUAL(reply->result, 0);
    CHECK_EQUAL(call(&s, ECHO_EXTENT, 0, other, sizeof(other), &reply), ORION_OK);
    /* in the other order than they were made */
    CHECK_EQUAL(orion_link_extent_map(s.link, other[0], other[1], &q), ORION_OK);
    CHECK_EQUAL(orion_link_extent_map(s.link, request[0], request[1], &p), ORION_OK);
    CHECK_EQUAL((uintptr_t)p, s.welcome.range_base + request[0]);
    CHECK_EQUAL(((uint8_t *)p)[12345], 0x5a);
    CHECK_EQUAL(((uint8_t *)q)[12345], 0x5a);
    uint32_t word = 0xfeedbeef;
    memcpy((uint8_t *)p + 4096, &word, 4);
    uint64_t where = request[0] + 4096;
    CHECK_EQUAL(call(&s, ECHO_PEEK, 0, &where, sizeof(where), &reply), ORION_OK);
    CHECK(memcmp(reply->data, &word, 4) == 0);
    CHECK_EQUAL(orion_link_extent_unmap(s.link, request[0], request[1]), ORION_OK);
    CHECK_EQUAL(orion_link_extent_unmap(s.link, request[0] + 1, request[1]), ORION_INVALID);
    CHECK_EQUAL(orion_link_extent_map(s.link, (uint64_t)1 << 45, 4096, &p) == ORION_OK, 0);
    session_close(&s);
}

static void an_epitaph_comes_with_the_end(void)
{
    session_t s;
    const orion_reply_t *reply;
    orion_record_t *record;
    char why[400] = "";
    int32_t result = 0;
    uint32_t with_epitaph = 1;
    session_open(&s);
    CHECK_EQUAL(orion_link_probe(s.link, why, sizeof(why), &result), ORION_OK);
    int64_t start = check_now_ns();
    CHECK_EQUAL(call(&s, ECHO_DIE, 0, &with_epitaph, 4, &reply), ORION_PEER_GONE);
    CHECK(check_now_ns() - start < ORION_NS_PER_S * 5);
    CHECK_EQUAL(orion_link_probe(s.link, why, sizeof(why), &result), ORION_PEER_GONE);
    CHECK_EQUAL(result, ECHO_EPITAPH_RESULT);
    CHECK(strstr(why, ECHO_EPITAPH) != NULL);
    CHECK_EQUAL(orion_link_claim(s.link, 64, &record), ORION_PEER_GONE);
    orion_stage_t stage;
    CHECK_EQUAL(orion_link_stage_claim(s.link, &stage), ORION_PEER_GONE);
    size_t bytes;
    CHECK_EQUAL(orion_link_event_wait(s.link, -1, why, sizeof(why), &bytes), ORION_PEER_GONE);
    session_close(&s);
}

static void a_worker_killed_while_we_wait_is_noticed(void)
{
    session_t s;
    const orion_reply_t *reply;
    if (!two_processes())
        return;
    uint32_t us = 60000000;
    for (int how = 0; how < 3; how++) {
        session_open(&s);
        CHECK_EQUAL(call(&s, ECHO_ECHO, 0, &us, 4, &reply), ORION_OK);
        orion_status_t status = ORION_OK;
        if (how == 1)
            CHECK_EQUAL(post(&s, ECHO_STOP_READING, ORION_SLOT_NONE, &us, 4), ORION_OK);
        pid_t killer = fork();
        MUST(killer >= 0);
        if (killer == 0) {
            (void)usleep(30000);
            (void)kill(s.server, SIGKILL);
            _exit(0);
        }
        if (how == 0)
            status = call(&s, ECHO_SLOW, 2, &us, 4, &reply); /* waits for an answer */
        static uint8_t data[8192];
        while (how == 1 && status == ORION_OK)
            status = post(&s, ECHO_POST, ORION_SLOT_NONE, data, sizeof(data)); /* for room */
        while (how == 2 && status == ORION_OK) {                               /* for a chunk */
            orion_stage_t stage;
            status = orion_link_stage_claim(s.link, &stage);
        }
        CHECK_EQUAL(status, ORION_PEER_GONE);
        MUST(waitpid(killer, NULL, 0) == killer);
        session_close(&s);
    }
}

static void a_forked_child_keeps_away_from_the_session(void)
{
    session_t s;
    const orion_reply_t *reply;
    session_open(&s);
    CHECK_EQUAL(call(&s, ECHO_ECHO, 0, "parent7", 8, &reply), ORION_OK);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        orion_record_t *record;
        int bad = orion_link_claim(s.link, 64, &record) != ORION_INVALID;
        bad |= orion_link_await(s.link, 0, 999, &reply) != ORION_INVALID;
        orion_link_abandon_after_fork(s.link);
        bad |= orion_link_claim(s.link, 64, &record) != ORION_INVALID;
        orion_link_close(s.link);
        _exit(bad);
    }
    int how = 0;
    MUST(waitpid(child, &how, 0) == child);
    CHECK_EQUAL(how, 0);
    CHECK_EQUAL(call(&s, ECHO_ECHO, 0, "parent7", 8, &reply), ORION_OK);
    session_close(&s);
}

static void an_unknown_operation_ends_the_session_only(void)
{
    session_t s;
    const orion_reply_t *reply;
    session_open(&s);
    CHECK_EQUAL(call(&s, 4242, 0, NULL, 0, &reply), ORION_PEER_GONE);
    session_close(&s);
}

/* Others may have files there, too: only those of this session count. */
static bool leaves_a_file(const session_t *s)
{
    const char *const names[] = {s->welcome.command_name, s->welcome.reply_name};
    for (int i = 0; i < 2; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "/dev/shm/%s", names[i]);
        if (names[i][0] != '\0' && access(path, F_OK) == 0)
            return true;
    }
    return false;
}

static void a_closed_session_leaves_nothing_behind(void)
{
    session_t s;
    const orion_reply_t *reply;
    session_open(&s); /* the first one may open something for good */
    session_close(&s);
    int before = count_descriptors();
    for (int i = 0; i < 5; i++) {
        session_open(&s);
        CHECK_EQUAL(call(&s, ECHO_ECHO, 0, "x......", 8, &reply), ORION_OK);
        CHECK_EQUAL(s.welcome.command_name[0] != '\0', strcmp(transport, "devshm") == 0);
        session_close(&s);
        CHECK(!leaves_a_file(&s));
    }
    CHECK_EQUAL(count_descriptors(), before);
}

static const check_case_t cases[] = {
    CASE(a_call_returns_what_it_sent),
    CASE(order_is_program_order_across_many_laps),
    CASE(the_largest_record_passes_and_a_larger_one_is_refused),
    CASE(a_full_ring_waits_for_the_worker),
    CASE(a_slow_answer_wakes_a_sleeping_thread),
    CASE(a_sleeping_worker_is_woken),
    CASE(threads_get_their_own_answers),
    CASE(staging_flows_both_ways),
    CASE(an_aborted_chunk_is_not_waited_for),
    CASE(events_arrive_in_order),
    CASE(an_extent_is_the_same_memory_at_the_same_address),
    CASE(an_epitaph_comes_with_the_end),
    CASE(a_worker_killed_while_we_wait_is_noticed),
    CASE(a_forked_child_keeps_away_from_the_session),
    CASE(an_unknown_operation_ends_the_session_only),
    CASE(a_closed_session_leaves_nothing_behind),
};

static int skip(int argc, const char *why, int failed)
{
    printf("skipped: %s\n", why);
    return argc > 1 ? 77 : failed;
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"shm", "devshm", "fence", "local", "faulty", "tcp", "tls", "ucx", "ucx_shm"};
    int failed = 0, ran = 0;
    char why[200];
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (argc > 1 && strcmp(argv[1], all[i]) != 0)
            continue;
        transport = all[i];
        if (strcmp(transport, "tls") == 0) {
            if (orion_libssl(why, sizeof(why)) == NULL)
                return skip(argc, why, failed);
            MUST(setenv("ORION_TOKEN", "me.correct-horse-battery-staple", 1) == 0);
            MUST(setenv("ORION_TLS", "required", 1) == 0);
        }
        if (strncmp(transport, "ucx", 3) == 0) {
            (void)unsetenv("ORION_TLS");
            if (orion_libucp(why, sizeof(why)) == NULL)
                return skip(argc, why, failed);
            if (strcmp(transport, "ucx_shm") == 0)
                MUST(setenv("UCX_TLS", "posix", 1) == 0);
        }
        printf("-- %s\n", transport);
        failed |= check_main(argc > 1 ? argc - 1 : 1, argc > 1 ? argv + 1 : argv, cases,
                             sizeof(cases) / sizeof(cases[0]));
        ran++;
    }
    return failed || ran == 0;
}
