/* SPDX-License-Identifier: Apache-2.0 */
/* The test worker, see echo_worker.h. */
#define _GNU_SOURCE
#include "echo_worker.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/sys.h"
#include "shm/layout.h"
#include "shm/range.h"
#include "shm/segment.h"
#include "transport/stream_port.h"
#include "transport/twin.h"
#include "wire/cursor.h"
#include "wire/frame.h"
#include "wire/token.h"

#define ECHO_EPOCH 7

typedef struct echo_worker {
    orion_port_t *port;
    uint64_t count, sum;
    uint64_t range_base, range_bytes;
    int socket; /* -1: twin */
    int stream; /* != 0: the session itself is on the socket */
    int sealed; /* != 0: and encrypted, by key */
    uint8_t key[ORION_KEY_BYTES];
    int (*notice)(void *self, const orion_notice_t *notice, int fd);
    void *self;
    pthread_t thread;
    uint32_t stop;
    uint32_t answering; /* atomic: threads that answer slowly and may be using the port */
} echo_worker_t;

typedef struct slow_answer {
    echo_worker_t *worker;
    uint32_t slot, sequence, us;
} slow_answer_t;

static void sleep_us(uint32_t us)
{
    struct timespec t = {.tv_sec = us / 1000000u, .tv_nsec = (long)(us % 1000000u) * 1000};
    (void)nanosleep(&t, NULL);
}

static void *answer_slowly(void *arg)
{
    slow_answer_t *slow = arg;
    sleep_us(slow->us);
    orion_port_reply(slow->worker->port, slow->slot, slow->sequence, 0, 0, &slow->us, sizeof(slow->us));
    (void)orion_fetch_sub(&slow->worker->answering, 1); /* releases: pairs with the acquire in close_port */
    free(slow);
    return NULL;
}

static void close_port(echo_worker_t *w)
{
    while (orion_load_acquire(&w->answering) != 0)
        sleep_us(100);
    orion_port_close(w->port);
}

static void send_notice(echo_worker_t *w, const orion_notice_t *notice, int fd)
{
    if (w->socket < 0) {
        (void)w->notice(w->self, notice, fd);
        return;
    }
    if (w->stream) {
        orion_record_t head = {.bytes = ORION_EPITAPH_FRAME_BYTES, .opcode = ORION_FRAME_NOTICE, .epoch = ECHO_EPOCH};
        (void)orion_fd_send(w->socket, &head, sizeof(head), NULL, 0);
        (void)orion_fd_send(w->socket, notice, sizeof(*notice), NULL, 0);
        if (w->sealed) {
            uint8_t frame[ORION_EPITAPH_FRAME_BYTES], mac[ORION_MAC_BYTES];
            memcpy(frame, &head, sizeof(head));
            memcpy(frame + sizeof(head), notice, sizeof(*notice));
            orion_key_epitaph(w->key, frame, sizeof(frame), mac);
            (void)orion_fd_send(w->socket, mac, sizeof(mac), NULL, 0);
        }
        return;
    }
    (void)orion_fd_send(w->socket, notice, sizeof(*notice), &fd, fd >= 0 ? 1 : 0);
    orion_fd_close(fd);
}

static int make_extent(echo_worker_t *w, uint64_t offset, uint64_t bytes)
{
    orion_notice_t notice;
    int fd = orion_memfd_sized("echo-extent", bytes, NULL, 0);
    if (fd < 0)
        return 2;
    if (orion_range_map(w->range_base, w->range_bytes, offset, bytes, fd) != ORION_OK) {
        orion_fd_close(fd);
        return 1;
    }
    memset((void *)(uintptr_t)(w->range_base + offset), 0x5a, bytes);
    orion_notice_init(&notice, ORION_NOTICE_EXTENT);
    notice.offset = offset;
    notice.size = bytes;
    send_notice(w, &notice, fd);
    return 0;
}

static void send_events(echo_worker_t *w, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t value = first + i;
        orion_status_t status;
        while ((status = orion_port_event(w->port, &value, sizeof(value))) == ORION_AGAIN)
            sleep_us(100);
        if (status != ORION_OK)
            return;
    }
}

/* false: the worker is to end */
static int serve_record(echo_worker_t *w, const orion_record_t *r)
{
    const void *payload = orion_record_payload_const(r);
    uint32_t bytes = orion_record_payload_bytes(r);
    orion_cursor_t c = orion_cursor_over(payload, bytes);
    uint64_t words[2] = {0, 0};
    uint32_t stage, sequence, value;
    switch (r->opcode) {
    case ECHO_ECHO:
        orion_port_reply(w->port, r->slot, r->sequence, r->slot, 0, payload, bytes);
        return 1;
    case ECHO_POST:
        w->count++;
        if (bytes >= 8)
            w->sum += orion_cursor_get_u64(&c);
        return 1;
    case ECHO_COUNT:
        words[0] = w->count;
        words[1] = w->sum;
        orion_port_reply(w->port, r->slot, r->sequence, 0, 0, words, sizeof(words));
        return 1;
    case ECHO_STAGE_FILL:
    case ECHO_STAGE_SUM:
    case ECHO_FALSE_STAGE:
        stage = orion_cursor_get_u32(&c);
        sequence = orion_cursor_get_u32(&c);
        value = orion_cursor_get_u32(&c);
        uint8_t *chunk = orion_port_stage(w->port, stage);
        if (chunk == NULL)
            return 0;
        if (r->opcode == ECHO_STAGE_FILL)
            memset(chunk, (int)value, ORION_STAGE_BYTES);
        if (r->opcode == ECHO_STAGE_SUM) {
            for (uint32_t i = 0; i < value && i < ORION_STAGE_BYTES; i += 4096)
                w->sum += chunk[i];
        }
        if (r->opcode == ECHO_STAGE_FILL)
            orion_port_stage_give(w->port, stage, sequence, ORION_STAGE_BYTES);
        else
            orion_port_stage_done(w->port, stage, sequence);
        return 1;
    case ECHO_EVENTS:
        value = orion_cursor_get_u32(&c);
        send_events(w, value, orion_cursor_get_u32(&c));
        return 1;
    case ECHO_EXTENT:
        words[0] = orion_cursor_get_u64(&c);
        words[1] = orion_cursor_get_u64(&c);
        orion_port_reply(w->port, r->slot, r->sequence, make_extent(w, words[0], words[1]), 0, NULL, 0);
        return 1;
    case ECHO_PEEK:
        words[0] = orion_cursor_get_u64(&c);
        orion_port_reply(w->port, r->slot, r->sequence, 0, 0, (void *)(uintptr_t)(w->range_base + words[0]), 4);
        return 1;
    case ECHO_DIE:
        if (orion_cursor_get_u32(&c) != 0) {
            orion_notice_t notice;
            orion_notice_init(&notice, ORION_NOTICE_EPITAPH);
            notice.cuda_result = ECHO_EPITAPH_RESULT;
            orion_field_set(notice.message, sizeof(notice.message), ECHO_EPITAPH);
            send_notice(w, &notice, -1);
        }
        return 0;
    case ECHO_SLOW: {
        slow_answer_t *slow = malloc(sizeof(*slow));
        pthread_t thread;
        if (slow == NULL)
            return 0;
        *slow = (slow_answer_t){w, r->slot, r->sequence, orion_cursor_get_u32(&c)};
        (void)orion_fetch_add(&w->answering, 1);
        if (pthread_create(&thread, NULL, answer_slowly, slow) != 0) {
            (void)orion_fetch_sub(&w->answering, 1);
            free(slow);
            return 0;
        }
        (void)pthread_detach(thread);
        return 1;
    }
    case ECHO_STOP_READING:
        sleep_us(orion_cursor_get_u32(&c));
        return 1;
    default:
        return 0; /* an operation nobody knows ends the session */
    }
}

static orion_status_t loop(echo_worker_t *w)
{
    for (;;) {
        const orion_record_t *record;
        orion_status_t status = orion_port_next(w->port, -1, &record);
        if (status == ORION_AGAIN) {
            if (orion_load_acquire(&w->stop) != 0)
                return ORION_OK; /* acquire: pairs with the release in twin_stop */
            continue;
        }
        if (status != ORION_OK)
            return status;
        if (!serve_record(w, record))
            return ORION_PROTOCOL;
    }
}

/* The client has named the token that this process has in ORION_TOKEN, too. */
static orion_status_t challenge(echo_worker_t *w, const orion_token_t *token, orion_exchange_t *exchange)
{
    orion_notice_t notice;
    uint8_t mac[ORION_MAC_BYTES];
    orion_notice_init(&notice, ORION_NOTICE_CHALLENGE);
    (void)orion_random_bytes(notice.nonce, sizeof(notice.nonce));
    memcpy(exchange->server_nonce, notice.nonce, sizeof(notice.nonce));
    orion_status_t status = orion_fd_send(w->socket, &notice, sizeof(notice), NULL, 0);
    if (status == ORION_OK)
        status = orion_fd_receive(w->socket, &notice, sizeof(notice), NULL, 0, orion_clock_ns() + ORION_NS_PER_S * 10);
    if (status != ORION_OK)
        return status;
    memcpy(exchange->client_nonce, notice.nonce, sizeof(notice.nonce));
    orion_token_answer(token, exchange, mac);
    if (notice.kind != ORION_NOTICE_ANSWER || !orion_same_bytes(mac, notice.mac, sizeof(mac)))
        return ORION_REFUSED;
    orion_token_key(token, exchange, w->key);
    w->sealed = (exchange->hello.flags & ORION_FLAG_TLS_WANTED) != 0;
    return ORION_OK;
}

orion_status_t echo_serve(int socket, int devshm)
{
    orion_hello_t hello;
    orion_welcome_t welcome;
    char bytes[sizeof(hello)], why[256] = "";
    echo_worker_t w = {.socket = socket};
    orion_token_t token;
    orion_exchange_t exchange;
    orion_welcome_init(&welcome);
    orion_status_t status = orion_fd_receive(socket, bytes, sizeof(bytes), NULL, 0,
                                             orion_clock_ns() + ORION_NS_PER_S * 10);
    if (status == ORION_OK)
        status = orion_hello_decode(bytes, sizeof(bytes), &hello, why, sizeof(why));
    if (status == ORION_OK && strcmp(hello.token, "refuse me") == 0) {
        status = ORION_REFUSED;
        welcome.cuda_result = 100;
        orion_field_set(why, sizeof(why), "no such token");
    }
    bool named = status == ORION_OK && hello.token[0] != '\0' && getenv("ORION_TOKEN") != NULL &&
                 orion_token_parse(getenv("ORION_TOKEN"), &token, why, sizeof(why));
    if (named) {
        memcpy(&exchange.hello, bytes, sizeof(bytes));
        status = challenge(&w, &token, &exchange);
    }
    if (status == ORION_OK) {
        orion_port_config_t config = {
            .epoch = ECHO_EPOCH, .flags = hello.flags, .witness_fd = socket, .devshm = devshm};
        if (getenv("ORION_TEST_FENCE") != NULL)
            config.flags = 0;
        bool over_ucx = hello.transport == ORION_TRANSPORT_UCX;
        config.stream = over_ucx ? ORION_PORT_UCX : w.sealed ? ORION_PORT_TLS : ORION_PORT_PLAIN;
        w.sealed |= over_ucx && named;
        config.key = w.sealed ? w.key : NULL;
        w.stream = over_ucx || hello.transport == ORION_TRANSPORT_TCP;
        status = w.stream ? orion_port_create_stream(&config, dup(socket), &w.port, why, sizeof(why))
                          : orion_port_create(&config, &w.port, why, sizeof(why));
    }
    if (status != ORION_OK) {
        welcome.status = status;
        orion_field_set(welcome.message, sizeof(welcome.message), why);
        (void)orion_fd_send(socket, &welcome, sizeof(welcome), NULL, 0);
        return status;
    }
    w.range_base = orion_range_reserve_first(hello.candidates, ORION_CANDIDATES, hello.range_bytes);
    w.range_bytes = hello.range_bytes;
    welcome.session_id = 1;
    welcome.range_base = w.range_base;
    welcome.arena_bytes = w.range_base != 0 && !w.stream ? hello.range_bytes / 2 : 0;
    orion_field_set(welcome.device, sizeof(welcome.device), "echo");
    orion_port_describe(w.port, &welcome);
    if (w.sealed && hello.transport == ORION_TRANSPORT_TCP)
        welcome.flags |= ORION_FLAG_TLS;
    if (named)
        orion_token_proof(&token, &exchange, &welcome, welcome.proof);
    int fds[2];
    orion_port_fds(w.port, &fds[0], &fds[1]);
    status = orion_fd_send(socket, &welcome, sizeof(welcome), fds, devshm || w.stream ? 0 : 2);
    orion_port_close_fds(w.port);
    if (devshm) {
        for (int i = 0; i < 5000 && orion_port_prove(w.port) == ORION_AGAIN; i++) {
            if (orion_fd_witness(socket) == ORION_PEER_GONE)
                break;
            sleep_us(1000);
        }
    }
    if (status == ORION_OK)
        status = loop(&w);
    close_port(&w);
    return status;
}

int echo_tcp_pair(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair[1] = -1;
    if (bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
        connect(pair[0], (struct sockaddr *)&address, size) == 0)
        pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    (void)close(listener);
    return pair[1] >= 0 ? 0 : -1;
}

int echo_fork(int *pid_p, int how)
{
    int pair[2];
    if (how == ECHO_TCP ? echo_tcp_pair(pair) != 0 : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    pid_t pid = fork();
    if (pid < 0)
        return -1;
    if (pid == 0) {
        (void)close(pair[0]);
        (void)alarm(120);
        (void)echo_serve(pair[1], how == ECHO_DEVSHM);
        _exit(0);
    }
    (void)close(pair[1]);
    *pid_p = (int)pid;
    return pair[0];
}

/* ---- the twin ---- */

static void *twin_loop(void *arg)
{
    echo_worker_t *w = arg;
    orion_status_t status = loop(w);
    if (status != ORION_OK) {
        orion_notice_t notice;
        orion_notice_init(&notice, ORION_NOTICE_EPITAPH);
        orion_field_set(notice.message, sizeof(notice.message), orion_status_name(status));
        send_notice(w, &notice, -1);
    }
    return NULL;
}

static void twin_stop(void *worker)
{
    echo_worker_t *w = worker;
    orion_store_release(&w->stop, 1); /* release: pairs with the acquire in loop */
    orion_port_wake(w->port);
    (void)pthread_join(w->thread, NULL);
    close_port(w);
    free(w);
}

__attribute__((visibility("default"))) int orion_twin_start(const orion_twin_t *twin)
{
    if (twin->abi != ORION_TWIN_ABI || twin->bytes != sizeof(*twin))
        return -1;
    echo_worker_t *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return -1;
    w->socket = -1;
    w->notice = twin->notice;
    w->self = twin->self;
    w->range_base = twin->range_base;
    w->range_bytes = twin->range_bytes;
    orion_port_config_t config = {.epoch = 9, .flags = twin->hello->flags, .witness_fd = -1};
    if (orion_port_attach(&config, twin->command, twin->reply, &w->port, twin->why, twin->why_bytes) != ORION_OK) {
        goto err_free;
    }
    orion_port_describe(w->port, twin->welcome);
    twin->welcome->range_base = twin->range_base;
    twin->welcome->arena_bytes = twin->range_bytes / 2;
    orion_field_set(twin->welcome->device, sizeof(twin->welcome->device), "echo twin");
    if (pthread_create(&w->thread, NULL, twin_loop, w) != 0)
        goto err_port;
    *twin->worker_p = w;
    *twin->stop_p = twin_stop;
    return 0;
err_port:
    orion_port_close(w->port);
err_free:
    free(w);
    return -1;
}
