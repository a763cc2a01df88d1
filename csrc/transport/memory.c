/* SPDX-License-Identifier: Apache-2.0 */
/* The client's end over two mapped segments; the fast path of every call. See memory.h and link.h. */
#define _GNU_SOURCE
#include "transport/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/futex.h"
#include "base/log.h"
#include "shm/range.h"
#include "transport/extents.h"
#include "transport/streams.h"

#define PAGE 4096u

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* Linux 4.14 */
#endif

void orion_memory_propose(orion_hello_t *hello)
{
    memset(hello->candidates, 0, sizeof(hello->candidates));
    hello->range_bytes = 0;
    if (orion_membarrier_begin())
        hello->flags |= ORION_FLAG_MEMBARRIER;
    if ((hello->flags & ORION_FLAG_NO_RANGE) != 0)
        return;
    hello->range_bytes = ORION_RANGE_BYTES;
    for (uint32_t i = 0, n = 0; i < ORION_CANDIDATES; i++) {
        uint64_t base = orion_range_bases[i];
        if (base != 0 && orion_range_reserve(base, ORION_RANGE_BYTES))
            hello->candidates[n++] = base;
    }
}

void orion_memory_settle(const orion_hello_t *hello, uint64_t keep)
{
    for (uint32_t i = 0; i < ORION_CANDIDATES; i++) {
        if (hello->candidates[i] != keep)
            orion_range_release(hello->candidates[i], hello->range_bytes);
    }
}

orion_status_t orion_memory_start(orion_memory_link_t *link, const orion_welcome_t *welcome, char *why,
                                  size_t why_bytes)
{
    link->command = link->command_segment.address;
    link->reply = link->reply_segment.address;
    if (!orion_segment_header_matches(&link->command->header, ORION_COMMAND_MAGIC, welcome->epoch,
                                      ORION_COMMAND_SEGMENT_BYTES, 0) ||
        !orion_segment_header_matches(&link->reply->header, ORION_REPLY_MAGIC, welcome->epoch,
                                      ORION_REPLY_SEGMENT_BYTES, welcome->nonce)) {
        orion_explain(why, why_bytes, "the shared memory that %s sent does not belong to this session", link->server);
        return ORION_PROTOCOL;
    }
    link->range_base = welcome->range_base;
    link->arena_bytes = welcome->arena_bytes;
    orion_wait_policy_init(&link->policy, (welcome->flags & ORION_FLAG_MEMBARRIER) != 0);
    orion_ring_producer_init(&link->ring, orion_command_ring(link->command), ORION_RING_BYTES, &link->command->head,
                             &link->reply->tail, welcome->epoch);
    orion_ring_consumer_init(&link->events, orion_reply_events((void *)(uintptr_t)link->reply), ORION_EVENT_BYTES,
                             &link->reply->event_head, &link->command->event_tail, welcome->epoch, link->event_copy,
                             ORION_RECORD_MAX);
    orion_store_release(&link->command->proof,
                        welcome->nonce); /* release: pairs with the acquire in orion_port_prove */
    return ORION_OK;
}

/* ---- the other side's death ---- */

static void declare_gone(orion_memory_link_t *link, int32_t result, const char *text)
{
    if (link->epitaph[0] == '\0') {
        orion_field_set(link->epitaph, sizeof(link->epitaph), text);
        link->epitaph_result = result;
    }
    if (orion_load_relaxed(link->state) != ORION_LINK_LIVE)
        return;
    orion_store_release(link->state, ORION_LINK_GONE); /* release: pairs with the acquire in orion_memory_look */
    for (uint32_t i = 0; i < ORION_REPLY_SLOTS; i++) {
        if (orion_load_relaxed(&link->command->slots[i].waiting) != 0) {
            (void)orion_futex_wake(&orion_reply_slot((void *)(uintptr_t)link->reply, i)->sequence, ORION_WAKE_ALL);
        }
    }
}

void orion_memory_notice(orion_memory_link_t *link, const orion_notice_t *notice, int fd)
{
    (void)pthread_mutex_lock(&link->notices);
    if (notice->kind == ORION_NOTICE_EPITAPH) {
        declare_gone(link, notice->cuda_result, notice->message[0] != '\0' ? notice->message : "the session was ended");
    } else if (fd >= 0 && link->pending_count < ORION_EXTENTS_PENDING) {
        link->pending[link->pending_count++] = (orion_pending_extent_t){notice->offset, notice->size, fd};
        fd = -1;
    }
    (void)pthread_mutex_unlock(&link->notices);
    orion_fd_close(fd);
}

/* Reads what lies in the socket. Called with the lock held; releases it around each notice. */
static void read_notices(orion_memory_link_t *link)
{
    while (link->socket >= 0 && orion_load_relaxed(link->state) == ORION_LINK_LIVE) {
        orion_status_t status = orion_fd_witness(link->socket);
        if (status == ORION_OK)
            return;
        uint8_t bytes[sizeof(orion_notice_t)];
        orion_notice_t notice;
        int fd = -1;
        char why[160];
        if (status == ORION_AGAIN) {
            status = orion_fd_receive(link->socket, bytes, sizeof(bytes), &fd, 1, orion_clock_ns() + ORION_NS_PER_S);
            if (status == ORION_OK)
                status = orion_notice_decode(bytes, sizeof(bytes), &notice, why, sizeof(why));
            if (status == ORION_OK) {
                (void)pthread_mutex_unlock(&link->notices);
                orion_memory_notice(link, &notice, fd);
                (void)pthread_mutex_lock(&link->notices);
                continue;
            }
            orion_fd_close(fd);
        }
        declare_gone(link, 0,
                     status == ORION_PEER_GONE ? "the server ended without saying why" : "the server sent garbage");
    }
}

/* After a sleep, or before an error: OK, or why there will be no answer. A system call. */
orion_status_t orion_memory_look(orion_memory_link_t *link)
{
    uint32_t state = orion_load_acquire(link->state); /* acquire: pairs with the release in declare_gone */
    if (state == ORION_LINK_FORKED)
        return ORION_INVALID;
    if (state == ORION_LINK_LIVE) {
        if (link->socket < 0 || orion_fd_witness(link->socket) == ORION_OK)
            return ORION_OK;
        (void)pthread_mutex_lock(&link->notices);
        read_notices(link);
        (void)pthread_mutex_unlock(&link->notices);
        state = orion_load_acquire(link->state);
    }
    return state == ORION_LINK_LIVE ? ORION_OK : ORION_PEER_GONE;
}

static orion_status_t memory_probe(orion_link_t *base, char *why, size_t why_bytes, int32_t *cuda_result_p)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    orion_status_t status = orion_memory_look(link);
    if (status == ORION_INVALID) {
        orion_explain(why, why_bytes, "the session with %s belongs to the parent of this forked process", link->server);
    }
    if (status != ORION_PEER_GONE)
        return status;
    (void)pthread_mutex_lock(&link->notices);
    orion_explain(why, why_bytes, "the session with %s is over: %s", link->server, link->epitaph);
    if (cuda_result_p != NULL)
        *cuda_result_p = link->epitaph_result;
    (void)pthread_mutex_unlock(&link->notices);
    return status;
}

/* ---- commands and replies ---- */

orion_wait_place_t orion_memory_place(orion_memory_link_t *link, const uint32_t *word, uint32_t *sleeping)
{
    return (orion_wait_place_t){.word = word,
                                .sleeping = sleeping,
                                .leave = (uint32_t)-1,
                                .cpu = &link->command->client_cpu,
                                .peer_cpu = &link->reply->worker_cpu};
}

static __attribute__((noinline)) orion_status_t claim_slow(orion_memory_link_t *link, uint32_t bytes,
                                                           orion_record_t **record_p)
{
    orion_wait_place_t where = orion_memory_place(link, &link->reply->tail, &link->command->space_waiting);
    for (;;) {
        uint32_t before = link->ring.tail;
        orion_status_t status = orion_ring_refresh(&link->ring);
        if (status != ORION_OK)
            return status;
        orion_record_t *record = orion_ring_claim(&link->ring, bytes);
        if (record != NULL) {
            *record_p = record;
            return ORION_OK;
        }
        if (link->ring.tail != before)
            before = link->ring.tail;
        if (orion_wait_changed(&link->space_wait, &link->policy, &where, before, ORION_SLEEP_MAX_NS) != ORION_OK) {
            status = orion_memory_look(link);
            if (status != ORION_OK)
                return status;
        }
    }
}

static orion_status_t memory_claim(orion_link_t *base, uint32_t record_bytes, orion_record_t **record_p)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    if (__builtin_expect(orion_load_relaxed(link->state) != ORION_LINK_LIVE, 0))
        return orion_memory_look(link);
    if (__builtin_expect(record_bytes - ORION_RECORD_HEADER > ORION_RECORD_MAX - ORION_RECORD_HEADER, 0)) {
        return record_bytes < ORION_RECORD_HEADER ? ORION_INVALID : ORION_TOO_BIG;
    }
    uint32_t bytes = orion_record_round(record_bytes);
    orion_record_t *record = orion_ring_claim(&link->ring, bytes);
    if (__builtin_expect(record == NULL, 0))
        return claim_slow(link, bytes, record_p);
    *record_p = record;
    return ORION_OK;
}

static void memory_commit(orion_link_t *base)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    orion_ring_commit(&link->ring);
    orion_wake_order(link->policy.membarrier);
    uint32_t sleeping = orion_load_relaxed(&link->reply->worker_sleeping);
    if (__builtin_expect((sleeping & 1) != 0 && sleeping != link->woken, 0)) {
        /* Once per sleep: a burst of records wakes once. A wake that found nobody was too early: the worker may have taken
         * this record and still go to sleep, and then the next record has to wake it. */
        if (orion_futex_wake(&link->command->head, 1) > 0)
            link->woken = sleeping;
    }
}

static __attribute__((noinline)) orion_status_t await_slow(orion_memory_link_t *link, uint32_t slot,
                                                           const orion_reply_t *reply, uint32_t sequence, uint32_t seen)
{
    orion_wait_place_t where = orion_memory_place(link, &reply->sequence, &link->command->slots[slot].waiting);
    for (;;) {
        orion_status_t waited = orion_wait_changed(&link->waits[slot].wait, &link->policy, &where, seen,
                                                   ORION_SLEEP_MAX_NS);
        /* acquire: pairs with the release in orion_port_reply; the answer's data is there */
        seen = orion_load_acquire(&reply->sequence);
        if (seen == sequence)
            return ORION_OK;
        if (waited == ORION_OK)
            continue;
        orion_status_t status = orion_memory_look(link);
        if (status == ORION_OK)
            continue;
        seen = orion_load_acquire(&reply->sequence); /* it may have answered and then died */
        return seen == sequence ? ORION_OK : status;
    }
}

static orion_status_t memory_await(orion_link_t *base, uint32_t slot, uint32_t sequence, const orion_reply_t **reply_p)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    if (slot >= ORION_REPLY_SLOTS)
        return ORION_INVALID;
    const orion_reply_t *reply = orion_reply_slot((void *)(uintptr_t)link->reply, slot);
    /* acquire: pairs with the release in orion_port_reply; the answer's data is there */
    uint32_t seen = orion_load_acquire(&reply->sequence);
    if (seen != sequence) {
        if (orion_load_relaxed(link->state) != ORION_LINK_LIVE)
            return orion_memory_look(link);
        orion_status_t status = await_slow(link, slot, reply, sequence, seen);
        if (status != ORION_OK)
            return status;
    }
    *reply_p = reply;
    return ORION_OK;
}

/* ---- extents ---- */

static orion_status_t memory_extent_map(orion_link_t *base, uint64_t offset, uint64_t bytes, void **p)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    /* the heap's half too: a managed variable lives there */
    if (link->range_base == 0 || offset >= link->range_bytes || bytes > link->range_bytes - offset)
        return ORION_INVALID;
    int fd = -1;
    orion_status_t status = orion_extent_take(link, offset, bytes, &fd);
    if (status != ORION_OK)
        return status;
    status = orion_extent_place(link, offset, bytes, fd);
    orion_fd_close(fd);
    if (status == ORION_OK)
        *p = (void *)(uintptr_t)(link->range_base + offset);
    return status;
}

static orion_status_t memory_extent_unmap(orion_link_t *base, uint64_t offset, uint64_t bytes)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    return orion_range_unmap(link->range_base, link->range_bytes, offset, bytes);
}

/* ---- the end ---- */

/* The child has its own copies of descriptors and mappings; letting go of them says nothing to the server. The arena
 * stays mapped: application data lives there. */
static void memory_fork_child(orion_link_t *base)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    orion_store_relaxed(link->state, ORION_LINK_FORKED);
    orion_fd_close(link->socket);
    link->socket = -1;
    orion_segment_close(&link->command_segment);
    orion_segment_close(&link->reply_segment);
}

void orion_memory_close(orion_link_t *base)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    bool ours = orion_load_relaxed(link->state) != ORION_LINK_FORKED;
    if (ours && link->stop != NULL)
        link->stop(link);
    orion_fd_close(link->socket);
    for (uint32_t i = 0; i < link->pending_count; i++)
        orion_fd_close(link->pending[i].fd);
    orion_segment_close(&link->command_segment);
    orion_segment_close(&link->reply_segment);
    if (ours)
        orion_range_release(link->range_base, link->range_bytes);
    if (ours)
        (void)pthread_mutex_destroy(&link->notices);
    (void)munmap(link->state, PAGE);
    free(link);
}

static const orion_link_ops_t memory_ops = {
    .name = "memory",
    .claim = memory_claim,
    .commit = memory_commit,
    .await = memory_await,
    .stage_claim = orion_memory_stage_claim,
    .stage_send = orion_memory_stage_send,
    .stage_abort = orion_memory_stage_abort,
    .stage_await = orion_memory_stage_await,
    .stage_collect = orion_memory_stage_collect,
    .extent_map = memory_extent_map,
    .extent_unmap = memory_extent_unmap,
    .event_wait = orion_memory_event_wait,
    .probe = memory_probe,
    .fork_child = memory_fork_child,
    .close = orion_memory_close,
};

orion_memory_link_t *orion_memory_create(const char *transport, const char *server, char *why, size_t why_bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, ORION_SPACING, sizeof(orion_memory_link_t)) != 0)
        goto err_memory;
    orion_memory_link_t *link = memory;
    memset(link, 0, sizeof(*link));
    link->ops = memory_ops;
    link->ops.name = transport;
    link->base.ops = &link->ops;
    link->socket = -1;
    link->command_segment.fd = -1;
    link->reply_segment.fd = -1;
    orion_field_set(link->server, sizeof(link->server), server);
    void *state = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (state == MAP_FAILED)
        goto err_free;
    (void)madvise(state, PAGE, MADV_WIPEONFORK); /* older kernels: pthread_atfork alone has to do */
    link->state = state;
    *link->state = ORION_LINK_LIVE;
    (void)pthread_mutex_init(&link->notices, NULL);
    return link;
err_free:
    free(link);
err_memory:
    orion_explain(why, why_bytes, "not enough memory for a session");
    return NULL;
}
