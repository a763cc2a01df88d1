/* SPDX-License-Identifier: Apache-2.0 */
/* Sending: two buffers, one that is filled and one on its way, and the thread that sends what nobody waits for. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/futex.h"
#include "transport/tcp_link.h"

#define FLUSH_DELAY_NS 150000
#define FLUSH_IDLE_TURNS 20 /* of that length without anything to send: then it sleeps until it is called */
#define FLUSHER_SLEEP_NS (10 * ORION_NS_PER_S)

bool orion_tcp_append(orion_tcp_link_t *link, const void *record, uint32_t bytes)
{
    (void)pthread_mutex_lock(&link->filling);
    memcpy(link->fill + link->filled, record, bytes);
    orion_store_relaxed(&link->filled, link->filled + bytes);
    uint32_t before = orion_fetch_add(&link->unsent, bytes);
    (void)pthread_mutex_unlock(&link->filling);
    return before == 0;
}

/* With `sending`: the buffer on its way is out, the filled one is next. */
static void take_filled(orion_tcp_link_t *link)
{
    if (link->wire_at != link->wire_end)
        return;
    (void)pthread_mutex_lock(&link->filling);
    uint8_t *empty = link->wire;
    link->wire = link->fill;
    link->wire_at = 0;
    link->wire_end = link->filled;
    link->fill = empty;
    orion_store_relaxed(&link->filled, 0);
    (void)pthread_mutex_unlock(&link->filling);
}

/* With `sending`: what the stream takes now. ORION_AGAIN: nothing. The parts of *data move on by what was sent. */
static orion_status_t send_once(orion_tcp_link_t *link, struct iovec *data, size_t count)
{
    struct iovec parts[4] = {{link->wire + link->wire_at, link->wire_end - link->wire_at}};
    size_t sent, here = parts[0].iov_len;
    if (count != 0)
        memcpy(parts + 1, data, count * sizeof(*data));
    orion_status_t status = orion_bytestream_send(link->stream, parts, 1 + count, &sent);
    if (status != ORION_OK)
        return status;
    orion_store_relaxed(&link->sent_at, orion_clock_ns());
    if (here > sent)
        here = sent;
    link->wire_at += (uint32_t)here;
    (void)orion_fetch_sub(&link->unsent, (uint32_t)here);
    orion_parts_skip(data, count, sent - here);
    return ORION_OK;
}

/* With `sending`: until all is out. What others add meanwhile goes as well, but not between the pieces of data: it waits
 * in the other buffer until these are out. */
static orion_status_t send_all(orion_tcp_link_t *link, struct iovec *data, size_t count)
{
    int64_t since = 0;
    for (;;) {
        if (count == 0)
            take_filled(link);
        if (orion_parts_bytes(data, count) == 0 && link->wire_at == link->wire_end)
            return ORION_OK;
        orion_status_t status = orion_tcp_state(link);
        if (status == ORION_OK && orion_load_relaxed(&link->stopping) != 0)
            status = ORION_PEER_GONE; /* the link is being closed */
        if (status != ORION_OK)
            return status;
        status = send_once(link, data, count);
        if (status == ORION_AGAIN) {
            if (since == 0)
                since = orion_clock_ns();
            status = orion_tcp_wait_writable(link, since);
            if (status != ORION_OK)
                return status;
        } else if (status != ORION_OK) {
            return orion_tcp_lost(link);
        } else {
            since = 0;
        }
    }
}

orion_status_t orion_tcp_flush(orion_tcp_link_t *link)
{
    if (orion_load_acquire(&link->unsent) == 0) /* acquire: pairs with the fetch_sub of whoever has sent it */
        return ORION_OK;
    (void)pthread_mutex_lock(&link->sending);
    orion_status_t status = send_all(link, NULL, 0);
    (void)pthread_mutex_unlock(&link->sending);
    return status;
}

orion_status_t orion_tcp_send_now(orion_tcp_link_t *link, const orion_record_t *head, const void *data, size_t bytes)
{
    static const uint8_t zeros[ORION_RECORD_ALIGN];
    struct iovec parts[] = {{(void *)(uintptr_t)head, sizeof(*head)},
                            {(void *)(uintptr_t)data, bytes},
                            {(void *)(uintptr_t)zeros, orion_record_round((uint32_t)bytes) - bytes}};
    (void)pthread_mutex_lock(&link->sending);
    take_filled(link);
    orion_status_t status = send_all(link, parts, 3);
    (void)pthread_mutex_unlock(&link->sending);
    if (status == ORION_OK && !orion_bytestream_settled(link->stream))
        orion_tcp_soon(link);
    return status;
}

void orion_tcp_push(orion_tcp_link_t *link)
{
    if (pthread_mutex_trylock(&link->sending) != 0) {
        orion_tcp_soon(link);
        return;
    }
    orion_status_t status = ORION_OK;
    take_filled(link);
    while (status == ORION_OK && link->wire_at != link->wire_end) {
        status = send_once(link, NULL, 0);
        if (status == ORION_OK)
            take_filled(link);
    }
    (void)pthread_mutex_unlock(&link->sending);
    /* a full stream, or a dead one: whoever waits next finds out which */
    if (status != ORION_OK || !orion_bytestream_settled(link->stream))
        orion_tcp_soon(link);
}

/* ---- the flusher ---- */

static void *flusher(void *argument)
{
    orion_tcp_link_t *link = argument;
    const struct timespec delay = {.tv_nsec = FLUSH_DELAY_NS};
    unsigned idle = 0;
    while (orion_load_acquire(&link->stopping) == 0 && orion_tcp_state(link) == ORION_OK) {
        if (idle >= FLUSH_IDLE_TURNS) {
            idle = 0;
            (void)orion_exchange(&link->flusher_asleep, 1); /* full barrier: the flag before the look at `unsent` */
            if (orion_load_acquire(&link->unsent) == 0 && orion_load_acquire(&link->stopping) == 0)
                (void)orion_futex_wait(&link->flusher_asleep, 1, FLUSHER_SLEEP_NS);
            orion_store_relaxed(&link->flusher_asleep, 0);
            continue;
        }
        (void)nanosleep(&delay, NULL);
        if (orion_load_acquire(&link->unsent) == 0) {
            idle = orion_bytestream_settled(link->stream) ? idle + 1 : 0;
            continue;
        }
        idle = 0;
        (void)orion_tcp_flush(link);
    }
    return NULL;
}

static void start_flusher(orion_tcp_link_t *link)
{
    sigset_t all, before;
    (void)pthread_mutex_lock(&link->filling);
    if (!link->has_flusher) { /* signals belong to the application's threads */
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        orion_store_relaxed(&link->has_flusher, pthread_create(&link->flusher, NULL, flusher, link) == 0);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    (void)pthread_mutex_unlock(&link->filling);
}

void orion_tcp_soon(orion_tcp_link_t *link)
{
    if (!orion_load_relaxed(&link->has_flusher))
        start_flusher(link); /* without memory for it the records go with the next wait */
    orion_fence_full();      /* what was added to `unsent` before the look at the flag; pairs with the exchange above */
    if (orion_load_relaxed(&link->flusher_asleep) != 0 && orion_exchange(&link->flusher_asleep, 0) != 0)
        (void)orion_futex_wake(&link->flusher_asleep, 1);
}

void orion_tcp_stop_flusher(orion_tcp_link_t *link)
{
    if (!link->has_flusher)
        return;
    orion_store_release(&link->stopping, 1); /* release: pairs with the acquires in flusher */
    (void)orion_exchange(&link->flusher_asleep, 0);
    (void)orion_futex_wake(&link->flusher_asleep, 1);
    (void)pthread_join(link->flusher, NULL);
    link->has_flusher = false;
}
