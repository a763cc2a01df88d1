/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's end of a session, see port.h. What the client can write is read through channel/ring.c (records), or
 * only tested against zero (its sleep flags). */
#define _GNU_SOURCE
#include "transport/port.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/copy.h"
#include "base/fd.h"
#include "base/futex.h"
#include "base/log.h"
#include "base/membarrier.h"
#include "base/sys.h"
#include "channel/ring.h"
#include "channel/wait.h"
#include "shm/layout.h"
#include "shm/segment.h"
#include "transport/port_ops.h"

struct orion_port {
    const orion_port_ops_t *ops; /* NULL: this file */

    /* the loop's */
    orion_ring_consumer_t ring;
    orion_wait_t wait;
    orion_wait_policy_t policy;
    uint32_t streak; /* records since the last one whose sender waits */

    /* constant */
    orion_command_control_t *command;
    orion_reply_control_t *reply;
    orion_segment_t command_segment, reply_segment; /* empty for a twin */
    const char *devshm_directory;
    uint64_t nonce;
    uint32_t epoch, flags;
    int witness_fd;

    /* other threads to the loop */
    uint32_t wake;     /* atomic: orion_port_wake was called */
    uint32_t sleeping; /* atomic, our private copy of worker_sleeping: odd = asleep */

    /* event producers, any thread */
    pthread_mutex_t event_lock;
    orion_ring_producer_t events;

    _Alignas(16) uint8_t copy[ORION_RECORD_MAX];
};

static const char *directory(const orion_port_config_t *config)
{
    return config->devshm_directory != NULL ? config->devshm_directory : ORION_DEVSHM_DIRECTORY;
}

/* On segments that are mapped: fills in the control pages and the private ends of both rings. */
static void start(orion_port_t *port, const orion_port_config_t *config, void *command, void *reply)
{
    port->command = command;
    port->reply = reply;
    port->witness_fd = config->witness_fd;
    port->devshm_directory = directory(config);
    port->epoch = config->epoch != 0 ? config->epoch : 1;
    port->flags = config->flags & ORION_FLAG_MEMBARRIER;
    if (!orion_membarrier_register())
        port->flags = 0;
    orion_wait_policy_init(&port->policy, (port->flags & ORION_FLAG_MEMBARRIER) != 0);
    (void)pthread_mutex_init(&port->event_lock, NULL);
    orion_segment_header_fill(&port->command->header, ORION_COMMAND_MAGIC, port->epoch, ORION_COMMAND_SEGMENT_BYTES, 0);
    orion_segment_header_fill(&port->reply->header, ORION_REPLY_MAGIC, port->epoch, ORION_REPLY_SEGMENT_BYTES,
                              port->nonce);
    orion_ring_consumer_init(&port->ring, orion_command_ring(command), ORION_RING_BYTES, &port->command->head,
                             &port->reply->tail, port->epoch, port->copy, ORION_RECORD_MAX);
    orion_ring_producer_init(&port->events, orion_reply_events(reply), ORION_EVENT_BYTES, &port->reply->event_head,
                             &port->command->event_tail, port->epoch);
}

static orion_port_t *allocate(const orion_port_config_t *config, char *why, size_t why_bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, ORION_SPACING, sizeof(orion_port_t)) != 0) {
        orion_explain(why, why_bytes, "not enough memory for a session");
        return NULL;
    }
    orion_port_t *port = memory;
    memset(port, 0, sizeof(*port));
    port->command_segment.fd = -1;
    port->reply_segment.fd = -1;
    port->nonce = config->nonce;
    if (port->nonce == 0 && orion_random_bytes(&port->nonce, sizeof(port->nonce)) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot draw a random number");
        free(port);
        return NULL;
    }
    return port;
}

orion_status_t orion_port_create(const orion_port_config_t *config, orion_port_t **port_p, char *why, size_t why_bytes)
{
    orion_port_t *port = allocate(config, why, why_bytes);
    if (port == NULL)
        return ORION_NO_MEMORY;
    orion_segment_t *command = &port->command_segment, *reply = &port->reply_segment;
    orion_status_t status;
    if (config->devshm != 0) {
        status = orion_segment_create_devshm(command, directory(config), ORION_COMMAND_SEGMENT_BYTES, config->owner_uid,
                                             why, why_bytes);
        if (status != ORION_OK)
            goto err_free;
        status = orion_segment_create_devshm(reply, directory(config), ORION_REPLY_SEGMENT_BYTES, config->owner_uid,
                                             why, why_bytes);
    } else {
        status = orion_segment_create(command, "orion-command", ORION_COMMAND_SEGMENT_BYTES, false, why, why_bytes);
        if (status != ORION_OK)
            goto err_free;
        status = orion_segment_create(reply, "orion-reply", ORION_REPLY_SEGMENT_BYTES, true, why, why_bytes);
    }
    if (status != ORION_OK)
        goto err_command;
    start(port, config, command->address, reply->address);
    *port_p = port;
    return ORION_OK;
err_command:
    orion_segment_unlink(command, directory(config));
    orion_segment_close(command);
err_free:
    free(port);
    return status;
}

orion_status_t orion_port_attach(const orion_port_config_t *config, void *command, void *reply, orion_port_t **port_p,
                                 char *why, size_t why_bytes)
{
    orion_port_t *port = allocate(config, why, why_bytes);
    if (port == NULL)
        return ORION_NO_MEMORY;
    start(port, config, command, reply);
    *port_p = port;
    return ORION_OK;
}

void orion_port_fds(const orion_port_t *port, int *command_fd_p, int *reply_fd_p)
{
    if (port->ops != NULL) {
        *command_fd_p = *reply_fd_p = -1;
        return;
    }
    *command_fd_p = port->command_segment.fd;
    *reply_fd_p = port->reply_segment.fd;
}

void orion_port_close_fds(orion_port_t *port)
{
    if (port->ops != NULL)
        return;
    orion_segment_close_fd(&port->command_segment);
    orion_segment_close_fd(&port->reply_segment);
}

void orion_port_describe(const orion_port_t *port, orion_welcome_t *welcome)
{
    if (port->ops != NULL) {
        port->ops->describe(port, welcome);
        return;
    }
    welcome->epoch = port->epoch;
    welcome->flags = port->flags;
    welcome->nonce = port->nonce;
    welcome->slots = ORION_REPLY_SLOTS;
    welcome->worker_pid = (uint32_t)getpid();
    orion_field_set(welcome->command_name, sizeof(welcome->command_name), port->command_segment.name);
    orion_field_set(welcome->reply_name, sizeof(welcome->reply_name), port->reply_segment.name);
}

orion_status_t orion_port_prove(orion_port_t *port)
{
    /* acquire: pairs with the release in orion_memory_start */
    if (orion_load_acquire(&port->command->proof) != port->nonce)
        return ORION_AGAIN;
    orion_segment_unlink(&port->command_segment, port->devshm_directory);
    orion_segment_unlink(&port->reply_segment, port->devshm_directory);
    return ORION_OK;
}

/* ---- records ---- */

/* Tells the client what is consumed, and wakes it if it sleeps on a full ring. */
static void publish_tail(orion_port_t *port)
{
    if (!orion_ring_publish(&port->ring))
        return;
    orion_wake_order(port->policy.membarrier);
    if (orion_load_relaxed(&port->command->space_waiting) != 0)
        (void)orion_futex_wake(&port->reply->tail, ORION_WAKE_ALL);
}

/* One bounded wait for the client. ORION_OK: look again. */
static orion_status_t wait_for_client(orion_port_t *port, int64_t limit_ns)
{
    orion_wait_place_t where = {.word = &port->command->head,
                                .sleeping = &port->sleeping,
                                .also = &port->wake,
                                .leave = 1,
                                .movable = true,
                                .cpu = &port->reply->worker_cpu,
                                .peer_cpu = &port->command->client_cpu,
                                .mirror = &port->reply->worker_sleeping};
    orion_status_t status = orion_wait_changed(&port->wait, &port->policy, &where, port->ring.tail, limit_ns);
    if (status == ORION_OK)
        return ORION_OK;
    orion_store_relaxed(&port->reply->heartbeat, (uint64_t)orion_clock_ns());
    if (port->witness_fd >= 0 && orion_fd_witness(port->witness_fd) == ORION_PEER_GONE)
        return ORION_PEER_GONE;
    return ORION_OK;
}

static __attribute__((noinline)) orion_status_t next_slow(orion_port_t *port, int64_t timeout_ns,
                                                          const orion_record_t **record_p)
{
    int64_t deadline = timeout_ns < 0 ? INT64_MAX : orion_clock_ns() + timeout_ns;
    publish_tail(port); /* nothing to read: let the client have all of the ring */
    for (;;) {
        /* acquire: pairs with the exchange in orion_port_wake; what was done before it is seen after it */
        if (orion_load_acquire(&port->wake) != 0 && orion_exchange(&port->wake, 0) != 0)
            return ORION_AGAIN;
        int64_t left = timeout_ns < 0 ? ORION_SLEEP_MAX_NS : deadline - orion_clock_ns();
        if (left <= 0)
            return ORION_AGAIN;
        orion_status_t status = wait_for_client(port, left);
        if (status != ORION_OK)
            return status;
        status = orion_ring_next(&port->ring, record_p);
        if (status != ORION_AGAIN)
            return status;
    }
}

static __attribute__((noinline)) orion_status_t let_gather(orion_port_t *port, const orion_record_t **record_p)
{
    orion_wait_gather();
    orion_status_t status = orion_ring_next(&port->ring, record_p);
    if (status == ORION_AGAIN)
        port->streak = 0;
    return status;
}

orion_status_t orion_port_next(orion_port_t *port, int64_t timeout_ns, const orion_record_t **record_p)
{
    if (__builtin_expect(port->ops != NULL, 0))
        return port->ops->next(port, timeout_ns, record_p);
    if (__builtin_expect(orion_ring_publish_due(&port->ring), 0))
        publish_tail(port);
    orion_status_t status = orion_ring_next(&port->ring, record_p);
    if (status == ORION_AGAIN && port->streak >= ORION_STREAM)
        status = let_gather(port, record_p);
    if (status == ORION_AGAIN)
        status = next_slow(port, timeout_ns, record_p);
    if (__builtin_expect(status == ORION_OK, 1))
        port->streak = (*record_p)->slot == ORION_SLOT_NONE ? port->streak + 1 : 0;
    return status;
}

const char *orion_port_complaint(const orion_port_t *port)
{
    if (port->ops != NULL)
        return port->ops->complaint(port);
    return port->ring.complaint != NULL ? port->ring.complaint : "nothing";
}

void orion_port_wake(orion_port_t *port)
{
    if (port->ops != NULL) {
        port->ops->wake(port);
        return;
    }
    (void)orion_exchange(&port->wake, 1);
    orion_fence_full(); /* the flag before the look at `sleeping`: pairs with the barrier in orion_wait_changed */
    uint32_t sleeping = orion_load_acquire(&port->sleeping);
    /* The loop sleeps on a word that only the client writes. Between its flag and its sleep a wake finds nobody: again,
   * until it has been woken or has left by itself. */
    while ((sleeping & 1) != 0 && orion_futex_wake(&port->command->head, 1) == 0) {
        (void)sched_yield();
        if (orion_load_acquire(&port->sleeping) != sleeping)
            break;
    }
}

/* ---- answers ---- */

void orion_port_reply(orion_port_t *port, uint32_t slot, uint32_t sequence, int32_t result, int32_t sticky,
                      const void *data, uint32_t bytes)
{
    if (__builtin_expect(port->ops != NULL, 0)) {
        port->ops->reply(port, slot, sequence, result, sticky, data, bytes);
        return;
    }
    if (slot >= ORION_REPLY_SLOTS)
        return;
    slot = (uint32_t)orion_index_nospec(slot, ORION_REPLY_SLOTS);
    if (bytes > ORION_REPLY_DATA)
        bytes = ORION_REPLY_DATA;
    orion_reply_t *reply = orion_reply_slot(port->reply, slot);
#ifdef __SANITIZE_THREAD__ /* the thread that answered here last is ordered before us by way of the client */
    (void)orion_load_acquire(&reply->sequence);
#endif
    /* The client looks at the first line all the time: it is written last and in one go, so that it is not taken away
   * from us in between. */
    if (bytes > ORION_REPLY_INLINE) {
        orion_copy_small(reply->data + ORION_REPLY_INLINE, (const uint8_t *)data + ORION_REPLY_INLINE,
                         bytes - ORION_REPLY_INLINE);
    }
    if (bytes != 0)
        orion_copy_small(reply->data, data, bytes < ORION_REPLY_INLINE ? bytes : ORION_REPLY_INLINE);
    reply->result = result;
    reply->bytes = bytes;
    reply->sticky = sticky;
    orion_store_release(&reply->sequence, sequence); /* release: pairs with the acquire in memory_await */
    orion_wake_order(port->policy.membarrier);
    if (__builtin_expect(orion_load_relaxed(&port->command->slots[slot].waiting) != 0, 0)) {
        (void)orion_futex_wake(&reply->sequence, ORION_WAKE_ALL);
    }
}

void *orion_port_stage(orion_port_t *port, uint32_t index)
{
    if (port->ops != NULL)
        return port->ops->stage(port, index);
    if (index >= ORION_STAGE_COUNT)
        return NULL;
    return orion_command_stage(port->command, (uint32_t)orion_index_nospec(index, ORION_STAGE_COUNT));
}

void orion_port_stage_done(orion_port_t *port, uint32_t index, uint32_t sequence)
{
    if (port->ops != NULL) {
        port->ops->stage_done(port, index, sequence);
        return;
    }
    if (index >= ORION_STAGE_COUNT)
        return;
    index = (uint32_t)orion_index_nospec(index, ORION_STAGE_COUNT);
    uint32_t *done = &port->reply->stages[index].done;
    orion_store_release(done, sequence); /* release: pairs with the acquire in stage_wait */
    orion_wake_order(port->policy.membarrier);
    if (orion_load_relaxed(&port->command->stage_waiting[index]) != 0)
        (void)orion_futex_wake(done, ORION_WAKE_ALL);
}

void orion_port_stage_give(orion_port_t *port, uint32_t index, uint32_t sequence, uint32_t bytes)
{
    if (port->ops != NULL) {
        port->ops->stage_give(port, index, sequence, bytes);
    } else {
        orion_port_stage_done(port, index, sequence); /* the client reads the chunk where it is */
    }
}

orion_status_t orion_port_event(orion_port_t *port, const void *data, uint32_t bytes)
{
    if (port->ops != NULL)
        return port->ops->event(port, data, bytes);
    if (bytes > ORION_EVENT_MAX)
        return ORION_TOO_BIG;
    uint32_t record_bytes = orion_record_round(ORION_RECORD_HEADER + bytes);
    (void)pthread_mutex_lock(&port->event_lock);
    orion_record_t *record = orion_ring_claim(&port->events, record_bytes);
    orion_status_t status = ORION_OK;
    if (record == NULL) {
        status = orion_ring_refresh(&port->events);
        if (status == ORION_OK)
            record = orion_ring_claim(&port->events, record_bytes);
        if (status == ORION_OK && record == NULL)
            status = ORION_AGAIN;
    }
    if (record != NULL) {
        record->opcode = 1; /* any but a pad */
        record->slot = ORION_SLOT_NONE;
        record->sequence = bytes; /* exact length */
        if (bytes != 0)
            memcpy(orion_record_payload(record), data, bytes);
        orion_ring_commit(&port->events);
        orion_wake_order(port->policy.membarrier);
        if (orion_load_relaxed(&port->command->event_sleeping) != 0) {
            (void)orion_futex_wake(&port->reply->event_head, ORION_WAKE_ALL);
        }
    }
    (void)pthread_mutex_unlock(&port->event_lock);
    return status;
}

void orion_port_drain(orion_port_t *port)
{
    if (port->ops != NULL)
        port->ops->drain(port);
}

void orion_port_idle(orion_port_t *port)
{
    if (port->ops != NULL)
        port->ops->idle(port);
}

/* ---- the end ---- */

void orion_port_close(orion_port_t *port)
{
    if (port == NULL)
        return;
    if (port->ops != NULL) {
        port->ops->close(port);
        return;
    }
    orion_segment_unlink(&port->command_segment, port->devshm_directory);
    orion_segment_unlink(&port->reply_segment, port->devshm_directory);
    orion_segment_close(&port->command_segment);
    orion_segment_close(&port->reply_segment);
    (void)pthread_mutex_destroy(&port->event_lock);
    free(port);
}

orion_status_t orion_reply_segment_wake_all(int reply_fd)
{
    if (orion_fd_size(reply_fd) != (int64_t)ORION_REPLY_SEGMENT_BYTES)
        return ORION_INVALID;
    void *reply = mmap(NULL, ORION_REPLY_SEGMENT_BYTES, PROT_READ, MAP_SHARED, reply_fd, 0);
    if (reply == MAP_FAILED)
        return ORION_SYSTEM;
    const orion_reply_control_t *control = reply;
    for (uint32_t i = 0; i < ORION_REPLY_SLOTS; i++) {
        (void)orion_futex_wake(&orion_reply_slot(reply, i)->sequence, ORION_WAKE_ALL);
    }
    for (uint32_t i = 0; i < ORION_STAGE_COUNT; i++)
        (void)orion_futex_wake(&control->stages[i].done, ORION_WAKE_ALL);
    (void)orion_futex_wake(&control->tail, ORION_WAKE_ALL);
    (void)orion_futex_wake(&control->event_head, ORION_WAKE_ALL);
    (void)munmap(reply, ORION_REPLY_SEGMENT_BYTES);
    return ORION_OK;
}
