/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a stream session, and the operations of link.h over it. See tcp_link.h. */
#define _GNU_SOURCE
#include "transport/tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "shm/range.h"
#include "transport/greet.h"
#include "transport/shm.h"
#include "transport/tcp_link.h"

#define PAGE 4096u
#define PUSH_BYTES (16u * 1024u) /* gathered: sent without waiting for more */
#define QUIET_NS 150000          /* nothing sent for so long: a single record goes at once */
#define PATIENCE_S 10
#define PATIENCE_MOST_S 86400
#define CHUNKS_BYTES (ORION_STAGE_COUNT * (size_t)ORION_STAGE_BYTES)
#define REPLIES_BYTES (ORION_REPLY_SLOTS * (size_t)ORION_REPLY_BYTES)

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* Linux 4.14 */
#endif
#ifndef TCP_USER_TIMEOUT
#define TCP_USER_TIMEOUT 18
#endif

static const orion_tcp_want_t nothing = {.kind = ORION_TCP_NOTHING};

static orion_tcp_link_t *tcp(orion_link_t *link)
{
    return (orion_tcp_link_t *)link;
}

/* ---- commands and replies ---- */

static orion_status_t tcp_claim(orion_link_t *base, uint32_t record_bytes, orion_record_t **record_p)
{
    orion_tcp_link_t *link = tcp(base);
    orion_status_t status = orion_tcp_state(link);
    if (status != ORION_OK)
        return status;
    if (record_bytes < ORION_RECORD_HEADER)
        return ORION_INVALID;
    if (record_bytes > ORION_RECORD_MAX)
        return ORION_TOO_BIG;
    if (orion_load_relaxed(&link->filled) > ORION_OUT_HIGH) {
        status = orion_tcp_flush(link);
        if (status != ORION_OK)
            return status;
    }
    orion_record_t *record = (orion_record_t *)(void *)link->scratch;
    link->claimed = orion_record_round(record_bytes);
    record->bytes = link->claimed;
    record->epoch = link->epoch;
    *record_p = record;
    return ORION_OK;
}

static void tcp_commit(orion_link_t *base)
{
    orion_tcp_link_t *link = tcp(base);
    const orion_record_t *record = (const orion_record_t *)(const void *)link->scratch;
    bool first = orion_tcp_append(link, record, link->claimed);
    if (record->slot != ORION_SLOT_NONE || orion_load_relaxed(&link->unsent) >= PUSH_BYTES ||
        (first && orion_clock_ns() - orion_load_relaxed(&link->sent_at) > QUIET_NS)) {
        orion_tcp_push(link);
    } else if (first) {
        orion_tcp_soon(link);
    }
}

static orion_status_t tcp_await(orion_link_t *base, uint32_t slot, uint32_t sequence, const orion_reply_t **reply_p)
{
    orion_tcp_link_t *link = tcp(base);
    orion_tcp_want_t want = {.kind = ORION_TCP_REPLY, .index = slot, .sequence = sequence};
    if (slot >= ORION_REPLY_SLOTS)
        return ORION_INVALID;
    orion_status_t status = orion_tcp_wait(link, &want, INT64_MAX);
    if (status == ORION_OK)
        *reply_p = &link->replies[slot];
    return status;
}

/* ---- staging ---- */

static orion_status_t tcp_stage_claim(orion_link_t *base, orion_stage_t *stage_p)
{
    orion_tcp_link_t *link = tcp(base);
    uint32_t index = link->stage_next % ORION_STAGE_COUNT;
    orion_tcp_want_t want = {.kind = ORION_TCP_STAGE, .index = index, .sequence = link->stage_last[index]};
    orion_status_t status = want.sequence != 0 ? orion_tcp_wait(link, &want, INT64_MAX) : ORION_OK;
    if (status == ORION_OK)
        status = orion_tcp_state(link);
    if (status != ORION_OK)
        return status;
    link->stage_next++;
    if (++link->stage_sequence == 0)
        link->stage_sequence = 1; /* 0 means never used */
    link->at_want[index] = 0;
    orion_store_release(&link->stage_last[index], link->stage_sequence); /* release: pairs with the acquire in place */
    *stage_p = (orion_stage_t){.index = index,
                               .sequence = link->stage_sequence,
                               .data = link->chunks + (size_t)index * ORION_STAGE_BYTES,
                               .bytes = ORION_STAGE_BYTES};
    return ORION_OK;
}

static orion_status_t tcp_stage_send(orion_link_t *base, const orion_stage_t *stage, const void *from, size_t bytes)
{
    orion_tcp_link_t *link = tcp(base);
    if (stage->index >= ORION_STAGE_COUNT || bytes > ORION_STAGE_BYTES)
        return ORION_INVALID;
    orion_record_t head = {.bytes = ORION_RECORD_HEADER + orion_record_round((uint32_t)bytes),
                           .opcode = ORION_FRAME_STAGE,
                           .slot = (uint16_t)stage->index,
                           .sequence = stage->sequence,
                           .epoch = link->epoch};
    return orion_tcp_send_now(link, &head, from, bytes);
}

static void tcp_stage_abort(orion_link_t *base, const orion_stage_t *stage)
{
    orion_tcp_link_t *link = tcp(base);
    if (stage->index < ORION_STAGE_COUNT && link->stage_last[stage->index] == stage->sequence)
        orion_store_relaxed(&link->stage_last[stage->index], 0);
}

static orion_status_t tcp_stage_await(orion_link_t *base, const orion_stage_t *stage)
{
    orion_tcp_want_t want = {.kind = ORION_TCP_STAGE, .index = stage->index, .sequence = stage->sequence};
    return stage->index < ORION_STAGE_COUNT ? orion_tcp_wait(tcp(base), &want, INT64_MAX) : ORION_INVALID;
}

static orion_status_t tcp_stage_collect(orion_link_t *base, const orion_stage_t *stage, void *to, size_t bytes)
{
    orion_tcp_link_t *link = tcp(base);
    orion_tcp_want_t want = {
        .kind = ORION_TCP_STAGE, .index = stage->index, .sequence = stage->sequence, .into = to, .bytes = bytes};
    if (stage->index >= ORION_STAGE_COUNT || bytes > ORION_STAGE_BYTES)
        return ORION_INVALID;
    orion_status_t status = orion_tcp_wait(link, &want, INT64_MAX);
    if (status == ORION_OK && !link->at_want[stage->index])
        memcpy(to, stage->data, bytes);
    return status;
}

/* The server's chunk goes straight into ours, if that use of it is the one we are waiting for. */
static uint8_t *place(void *self, const orion_record_t *frame, uint32_t bytes)
{
    orion_tcp_link_t *link = self;
    const orion_tcp_want_t *direct = link->direct;
    if (frame->slot >= ORION_STAGE_COUNT)
        return NULL;
    /* acquire: pairs with the release in tcp_stage_claim */
    if (orion_load_acquire(&link->stage_last[frame->slot]) != frame->sequence || frame->sequence == 0)
        return NULL;
    /* This thread waits for just these bytes: it saves a copy, and reads nothing else before it has them. */
    bool at_want = direct->kind == ORION_TCP_STAGE && direct->into != NULL && direct->bytes == bytes &&
                   direct->index == frame->slot && direct->sequence == frame->sequence;
    link->at_want[frame->slot] = at_want;
    return at_want ? direct->into : link->chunks + (size_t)frame->slot * ORION_STAGE_BYTES;
}

/* ---- extents: there are none ---- */

static orion_status_t tcp_extent_map(orion_link_t *base, uint64_t offset, uint64_t bytes, void **p)
{
    (void)base, (void)offset, (void)bytes, (void)p;
    return ORION_INVALID;
}

static orion_status_t tcp_extent_unmap(orion_link_t *base, uint64_t offset, uint64_t bytes)
{
    (void)base, (void)offset, (void)bytes;
    return ORION_INVALID;
}

/* ---- events ---- */

static void read_event(const orion_tcp_link_t *link, uint32_t at, void *to, size_t bytes)
{
    at %= ORION_EVENT_WINDOW;
    size_t first = ORION_EVENT_WINDOW - at;
    if (first > bytes)
        first = bytes;
    memcpy(to, link->events + at, first);
    memcpy((uint8_t *)to + first, link->events, bytes - first);
}

/* With event_lock. ORION_AGAIN: there is none. */
static orion_status_t next_event(orion_tcp_link_t *link, void *buffer, size_t capacity, size_t *bytes_p)
{
    orion_record_t head;
    uint32_t tail = link->events_tail;
    if (orion_load_acquire(&link->events_head) == tail) /* acquire: pairs with the release in deliver_event */
        return ORION_AGAIN;
    read_event(link, tail, &head, sizeof(head));
    if (head.sequence > capacity)
        return ORION_TOO_BIG;
    if (head.sequence != 0)
        read_event(link, tail + ORION_RECORD_HEADER, buffer, head.sequence);
    *bytes_p = head.sequence;
    orion_store_release(&link->events_tail, tail + head.bytes); /* release: pairs with the acquire in deliver_event */
    return ORION_OK;
}

static orion_status_t tcp_event_wait(orion_link_t *base, int64_t timeout_ns, void *buffer, size_t capacity,
                                     size_t *bytes_p)
{
    orion_tcp_link_t *link = tcp(base);
    int64_t deadline = timeout_ns < 0 ? INT64_MAX : orion_clock_ns() + timeout_ns;
    for (;;) {
        (void)pthread_mutex_lock(&link->event_lock);
        orion_status_t status = next_event(link, buffer, capacity, bytes_p);
        uint32_t tail = link->events_tail;
        bool credit = tail - link->events_credited >= ORION_EVENT_WINDOW / 8;
        if (credit)
            link->events_credited = tail;
        (void)pthread_mutex_unlock(&link->event_lock);
        if (credit) {
            orion_record_t head = {.bytes = ORION_RECORD_HEADER,
                                   .opcode = ORION_FRAME_CREDIT,
                                   .slot = ORION_SLOT_NONE,
                                   .sequence = tail,
                                   .epoch = link->epoch};
            (void)orion_tcp_send_now(link, &head, NULL, 0); /* a failure shows in the next wait */
        }
        if (status != ORION_AGAIN)
            return status;
        orion_tcp_want_t want = {.kind = ORION_TCP_EVENT, .sequence = tail};
        status = orion_tcp_wait(link, &want, deadline);
        if (status != ORION_OK)
            return status == ORION_TIMEOUT ? ORION_AGAIN : status;
    }
}

/* ---- the end ---- */

static orion_status_t tcp_probe(orion_link_t *base, char *why, size_t why_bytes, int32_t *cuda_result_p)
{
    orion_tcp_link_t *link = tcp(base);
    orion_status_t status = orion_tcp_look(link);
    if (status == ORION_INVALID)
        orion_explain(why, why_bytes, "the session with %s belongs to the parent of this forked process", link->server);
    if (status != ORION_PEER_GONE)
        return status;
    (void)pthread_mutex_lock(&link->end_lock);
    orion_explain(why, why_bytes, "the session with %s is over: %s", link->server, link->epitaph);
    if (cuda_result_p != NULL)
        *cuda_result_p = link->epitaph_result;
    (void)pthread_mutex_unlock(&link->end_lock);
    return status;
}

static void tcp_fork_child(orion_link_t *base)
{
    orion_tcp_link_t *link = tcp(base);
    orion_store_relaxed(link->state, ORION_LINK_FORKED);
    orion_fd_close(link->socket);
    link->socket = -1;
}

static void tcp_close(orion_link_t *base)
{
    orion_tcp_link_t *link = tcp(base);
    bool ours = orion_load_relaxed(link->state) != ORION_LINK_FORKED;
    if (ours) {
        if (orion_tcp_state(link) == ORION_OK)
            orion_tcp_push(link); /* what was posted and not waited for, as far as the socket takes it */
        orion_tcp_stop_flusher(link);
        orion_range_release(link->range_base, link->range_bytes);
        (void)pthread_mutex_destroy(&link->filling);
        (void)pthread_mutex_destroy(&link->sending);
        (void)pthread_mutex_destroy(&link->role_lock);
        (void)pthread_mutex_destroy(&link->event_lock);
        (void)pthread_mutex_destroy(&link->end_lock);
    }
    orion_fd_close(link->socket);
    if (link->replies != NULL)
        (void)munmap(link->replies, REPLIES_BYTES + CHUNKS_BYTES);
    if (link->state != NULL)
        (void)munmap(link->state, PAGE);
    free(link->fill < link->wire ? link->fill : link->wire); /* the halves of one block */
    free(link);
}

static const orion_link_ops_t tcp_ops = {
    .name = "tcp",
    .claim = tcp_claim,
    .commit = tcp_commit,
    .await = tcp_await,
    .stage_claim = tcp_stage_claim,
    .stage_send = tcp_stage_send,
    .stage_abort = tcp_stage_abort,
    .stage_await = tcp_stage_await,
    .stage_collect = tcp_stage_collect,
    .extent_map = tcp_extent_map,
    .extent_unmap = tcp_extent_unmap,
    .event_wait = tcp_event_wait,
    .probe = tcp_probe,
    .fork_child = tcp_fork_child,
    .close = tcp_close,
};

/* ---- the beginning ---- */

static void *pages(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* Half-built it can be closed: what is missing is NULL. */
static orion_tcp_link_t *create(int socket, const char *name, char *why, size_t why_bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, ORION_SPACING, sizeof(orion_tcp_link_t)) != 0)
        goto err_memory;
    orion_tcp_link_t *link = memory;
    memset(link, 0, offsetof(orion_tcp_link_t, scratch));
    link->base.ops = &tcp_ops;
    link->socket = -1;
    orion_field_set(link->server, sizeof(link->server), name);
    link->state = pages(PAGE);
    link->fill = malloc(2 * ORION_OUT_BYTES);
    uint8_t *shared = pages(REPLIES_BYTES + CHUNKS_BYTES);
    if (link->state == NULL || link->fill == NULL || shared == NULL)
        goto err_parts;
    link->wire = link->fill + ORION_OUT_BYTES;
    link->replies = (orion_reply_t *)(void *)shared;
    link->chunks = shared + REPLIES_BYTES;
    (void)madvise(link->state, PAGE, MADV_WIPEONFORK); /* older kernels: pthread_atfork alone has to do */
    *link->state = ORION_LINK_LIVE;
    (void)pthread_mutex_init(&link->filling, NULL);
    (void)pthread_mutex_init(&link->sending, NULL);
    (void)pthread_mutex_init(&link->role_lock, NULL);
    (void)pthread_mutex_init(&link->event_lock, NULL);
    (void)pthread_mutex_init(&link->end_lock, NULL);
    orion_spin_init(&link->spin);
    link->socket = socket;
    return link;
err_parts:
    if (link->state != NULL)
        (void)munmap(link->state, PAGE);
    if (shared != NULL)
        (void)munmap(shared, REPLIES_BYTES + CHUNKS_BYTES);
    free(link->fill);
    free(link);
err_memory:
    orion_explain(why, why_bytes, "not enough memory for a session");
    return NULL;
}

static bool read_patience(int64_t *ns_p, char *why, size_t why_bytes)
{
    const char *text = getenv("ORION_TCP_TIMEOUT");
    uint64_t seconds = PATIENCE_S;
    if (text != NULL && text[0] != '\0' &&
        (!orion_parse_u64(text, &seconds) || seconds > PATIENCE_MOST_S || (seconds > 0 && seconds < 3))) {
        orion_explain(why, why_bytes,
                      "ORION_TCP_TIMEOUT=%.32s is no number of seconds: 0 for never, or 3 to %d; or unset it", text,
                      PATIENCE_MOST_S);
        return false;
    }
    *ns_p = (int64_t)seconds * ORION_NS_PER_S;
    return true;
}

/* Records go when we send them. Waits are slices: recv returns after each, so that a dead network is noticed. */
static void set_up_socket(int socket, int64_t patience_ns)
{
    int on = 1, idle_s = 5, probes = 3, patience_s = (int)(patience_ns / ORION_NS_PER_S);
    int every_s = patience_s > 8 ? (patience_s - 5) / 3 : 1;
    struct timeval slice = {.tv_usec = ORION_TCP_SLICE_NS / 1000};
    int no = 0;
    (void)ioctl(socket, FIONBIO, &no); /* fcntl has a new symbol version */
    (void)setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice));
    (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* a test's socket may be no TCP one */
    if (patience_s == 0)
        return;
    (void)setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
    (void)setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

orion_status_t orion_tcp_open_socket(int socket, const char *name, const orion_hello_t *wishes,
                                     orion_welcome_t *welcome_p, orion_link_t **link_p, char *why, size_t why_bytes)
{
    orion_hello_t hello = *wishes;
    orion_welcome_t welcome;
    int64_t patience;
    int fds[2] = {-1, -1};
    if (!read_patience(&patience, why, why_bytes)) {
        orion_fd_close(socket);
        return ORION_INVALID;
    }
    orion_tcp_link_t *link = create(socket, name, why, why_bytes);
    if (link == NULL) {
        orion_fd_close(socket);
        return ORION_NO_MEMORY;
    }
    link->patience_ns = patience;
    orion_memory_propose(&hello); /* device addresses that no host pointer of this process can have */
    hello.transport = ORION_TRANSPORT_TCP;
    orion_status_t status = orion_greet(socket, name, &hello, &welcome, fds, why, why_bytes);
    orion_fd_close(fds[0]); /* nothing that we could use */
    orion_fd_close(fds[1]);
    if (status == ORION_REFUSED)
        *welcome_p = welcome;
    if (status != ORION_OK)
        goto err;
    if (welcome.arena_bytes != 0) {
        orion_explain(why, why_bytes, "the Orion server at %s promised shared memory over a socket that has none",
                      name);
        status = ORION_PROTOCOL;
        goto err;
    }
    set_up_socket(socket, patience);
    orion_memory_settle(&hello, welcome.range_base);
    link->range_base = welcome.range_base;
    link->range_bytes = hello.range_bytes;
    link->epoch = welcome.epoch;
    link->heard_at = orion_clock_ns();
    link->direct = &nothing;
    orion_frames_init(&link->frames, link->buffer, link->epoch, place, link);
    *welcome_p = welcome;
    *link_p = &link->base;
    return ORION_OK;
err:
    orion_memory_settle(&hello, 0);
    tcp_close(&link->base);
    return status;
}

/* Both ends of the connection have one address, or the server's is a loopback one: it never leaves this host. */
static bool same_host(int socket)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_bytes = sizeof(here), there_bytes = sizeof(there);
    if (getsockname(socket, (struct sockaddr *)&here, &here_bytes) != 0 ||
        getpeername(socket, (struct sockaddr *)&there, &there_bytes) != 0 || here.ss_family != there.ss_family)
        return false;
    if (here.ss_family == AF_INET) {
        uint32_t server = ((struct sockaddr_in *)&there)->sin_addr.s_addr;
        return ((struct sockaddr_in *)&here)->sin_addr.s_addr == server || ntohl(server) >> 24 == IN_LOOPBACKNET;
    }
    return here.ss_family == AF_INET6 &&
           memcmp(&((struct sockaddr_in6 *)&here)->sin6_addr, &((struct sockaddr_in6 *)&there)->sin6_addr,
                  sizeof(struct in6_addr)) == 0;
}

static bool insecure_allowed(void)
{
    const char *text = getenv("ORION_INSECURE_TCP");
    return text != NULL && strcmp(text, "1") == 0;
}

orion_status_t orion_tcp_open(const char *address, const orion_hello_t *wishes, orion_welcome_t *welcome_p,
                              orion_link_t **link_p, char *why, size_t why_bytes)
{
    char unshared[256] = "";
    orion_hello_t hello = *wishes;
    uint32_t wanted = hello.transport;
    if (wanted == ORION_TRANSPORT_MEMFD) /* shared memory, and descriptors do not pass here: files do */
        wanted = hello.transport = ORION_TRANSPORT_DEVSHM;
    if (wanted == ORION_TRANSPORT_DEVSHM)
        return orion_shm_open(address, &hello, welcome_p, link_p, why, why_bytes);
    int socket = orion_greet_connect(address, why, why_bytes);
    if (socket < 0)
        return ORION_SYSTEM;
    bool here = same_host(socket);
    if (here && wanted == ORION_TRANSPORT_ANY) {
        hello.transport = ORION_TRANSPORT_DEVSHM;
        orion_status_t status = orion_shm_open_socket(socket, address, &hello, welcome_p, link_p, unshared,
                                                      sizeof(unshared));
        /* Only a server that answers, and cannot do this or whose files we cannot open, may do better otherwise. */
        if (status != ORION_SYSTEM && status != ORION_REFUSED && status != ORION_NO_MEMORY) {
            if (status != ORION_OK)
                orion_explain(why, why_bytes, "%s", unshared);
            return status;
        }
        socket = orion_greet_connect(address, why, why_bytes);
        if (socket < 0)
            return ORION_SYSTEM;
    }
    if (!here && !insecure_allowed()) {
        orion_fd_close(socket);
        orion_explain(why, why_bytes,
                      "the server at %s is not on this host, and data would travel unencrypted: use a tunnel, or set "
                      "ORION_INSECURE_TCP=1 on a network that you trust",
                      address);
        return ORION_INVALID;
    }
    orion_status_t status = orion_tcp_open_socket(socket, address, &hello, welcome_p, link_p, why, why_bytes);
    if (status != ORION_OK)
        return status;
    if (wanted == ORION_TRANSPORT_TCP) {
        orion_log(ORION_LOG_INFO, "transport tcp to %s: ORION_TRANSPORT=tcp asks for it", address);
    } else if (here) {
        orion_log(ORION_LOG_INFO,
                  "transport tcp to %s: the server is not reached through a unix socket; for shared memory set "
                  "ORION_SERVER=unix:PATH or share /dev/shm with it (%s)",
                  address, unshared);
    } else {
        orion_log(ORION_LOG_INFO, "transport tcp to %s: the server is on another host", address);
    }
    return ORION_OK;
}
