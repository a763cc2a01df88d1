/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a channel; orion/channel.h is what users see.
 *
 *   open.c      the handshake: segments made, exchanged, mapped       state.c   life and death, notices on the socket
 *   send.c      messages out, calls begun                             receive.c messages in
 *   call.c      reply slots                                           bulk.c    blocks of our arena
 *   held.c      memory of the other side's arena                      bell.c    event loops
 *   listen.c    listeners and connecting                              fork.c    what a forked child finds
 *   net.h       the same over a byte stream
 *
 * Locks are taken in the order send, arena, notices; receive before notices. */
#ifndef ORION_CHANNEL_CHANNEL_H
#define ORION_CHANNEL_CHANNEL_H

#include "base/clock.h"
#include "base/copy.h"
#include "base/lock.h"
#include "channel/arena.h"
#include "channel/layout.h"
#include "channel/ring.h"
#include "channel/wait.h"
#include "orion/channel.h"
#include "shm/segment.h"

/* Of a channel; in a page that the kernel zeroes in a forked child, so that a child finds 0. */
enum { ORION_CHANNEL_FORKED = 0, ORION_CHANNEL_LIVE = 1, ORION_CHANNEL_GONE = 2, ORION_CHANNEL_SHUT = 3 };

struct orion_block { /* under the arena's lock */
    orion_channel_t *channel;
    orion_span_t *span; /* NULL over a stream */
    uint8_t *data;      /* NULL: over a stream, stands for memory of the other side */
    size_t bytes;
    uint32_t users;      /* the handle, and each reference that the other side holds */
    orion_block_t *next; /* spare ones */
};

typedef struct orion_reference { /* a block that the other side holds */
    orion_block_t *block;
    uint32_t generation;
} orion_reference_t;

typedef struct orion_mapped { /* an extent, of either side */
    uint8_t *data;
    uint64_t bytes;
} orion_mapped_t;

/* Of a slot: taken under the send lock, given back by whoever has it. */
enum { ORION_CALL_FREE = 0, ORION_CALL_OPEN = 1, ORION_CALL_CANCELLED = 2 /* free when the late reply has come */ };

typedef struct orion_open_call {
    _Alignas(ORION_LINE) orion_wait_t wait; /* two threads' waits never share a line */
    uint32_t sequence;
    uint32_t state; /* ORION_CALL_... */
} orion_open_call_t;

struct orion_channel {
    /* constant while it lives */
    uint32_t *state; /* ORION_CHANNEL_..., alone in its page */
    orion_channel_control_t *own;
    const orion_channel_control_t *peer;
    orion_wait_policy_t policy;
    bool movable;                       /* the listening side's waits may move their thread off a shared processor */
    uint64_t send_limit, receive_limit; /* bytes of arena */
    uint64_t send_max, receive_max;     /* bytes of a message */
    bool (*keep_waiting)(void);         /* NULL = for ever */
    struct orion_net *net;              /* NULL = over shared memory */
    const char *transport;              /* its name */
    int32_t peer_pid;
    orion_segment_t own_segment, peer_segment;

    /* senders */
    _Alignas(ORION_SPACING) orion_lock_t send_lock;
    orion_ring_producer_t out;
    uint32_t woken, rung; /* the values of peer->sleeping and bell that we have sent a wake for */
    uint32_t asleep;      /* the last odd value of peer->sleeping, and when it was first seen */
    int64_t asleep_at;
    uint32_t sequence;  /* of the newest call */
    uint32_t slot_hint; /* where a free one is likely */
    orion_wait_t space_wait;
    orion_copier_t copier; /* into our arena */

    /* receivers */
    _Alignas(ORION_SPACING) orion_lock_t receive_lock;
    orion_ring_consumer_t in;
    orion_wait_t wait;
    uint32_t streak, sent;   /* messages in a row with nothing sent by us; our own->head at the last of them */
    uint32_t sleeping, bell; /* private copies of own->sleeping, own->bell */
    struct {                 /* a message of which not all has come */
        uint8_t *data;       /* NULL = none, or it does not come in pieces */
        bool filling;        /* it does not come in pieces, and is still being copied into the arena */
        uint64_t bytes, filled;
        uint32_t record_bytes;
        _Alignas(16) uint8_t record[ORION_CHANNEL_RECORD_MAX];
    } pieces;

    /* callers: a slot belongs to its call from begin to the end of await */
    _Alignas(ORION_SPACING) uint32_t slots_freed; /* counts, while somebody seeks one; futex word */
    uint32_t slot_seekers;
    orion_open_call_t calls[ORION_CHANNEL_CALLS];

    /* our arena */
    orion_lock_t arena_lock;
    orion_arena_t arena;
    orion_mapped_t extents[ORION_CHANNEL_EXTENTS];
    uint64_t arena_bytes;    /* of extents; over a stream, of blocks */
    uint64_t promised_bytes; /* over a stream: of what the other side holds */
    orion_reference_t references[ORION_CHANNEL_REFERENCES];
    uint16_t held_out[ORION_CHANNEL_REFERENCES], spare[ORION_CHANNEL_REFERENCES]; /* indices of references */
    uint32_t held_count, spare_count;
    uint32_t releases_seen;
    orion_block_t *spare_blocks;

    /* what comes on the socket, and how the channel ended */
    orion_lock_t notice_lock;
    int socket, pidfd; /* -1 = none */
    orion_mapped_t peer_extents[ORION_CHANNEL_EXTENTS];
    uint32_t peer_extent_count; /* atomic; those below it are constant */
    uint64_t peer_extent_bytes;
    orion_status_t end; /* ORION_OK while it lives */
    bool clean;
    char why[256];
    uint32_t polls; /* about how often time was up */

    uint32_t users; /* atomic: the owner, blocks, held bulks: the memory goes with the last */
    uint32_t closing;
    orion_channel_t *next, *previous; /* all channels of the process (fork.c) */
};

/* ---- state.c ---- */

static inline bool orion_channel_live(const orion_channel_t *channel)
{
    return orion_load_relaxed(channel->state) == ORION_CHANNEL_LIVE;
}

/* The channel is over; the first call decides why. Waiting threads of this process wake. */
void orion_channel_end(orion_channel_t *channel, orion_status_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Reads what came on the socket and looks whether the other side lives. Needs the notice lock. */
orion_status_t orion_channel_look_locked(orion_channel_t *channel);
void orion_channel_keep(orion_channel_t *channel); /* one user more */
void orion_channel_drop(orion_channel_t *channel);

/* A point in time from a timeout; INT64_MAX = never. Reads no clock for "at once" and "never". */
static inline int64_t orion_deadline(int64_t timeout_ns)
{
    if (timeout_ns < 0)
        return INT64_MAX;
    return timeout_ns == 0 ? 0 : orion_clock_ns() + timeout_ns;
}
/* What is left until then, at most ORION_SLEEP_MAX_NS; <= 0: nothing. */
static inline int64_t orion_time_left(int64_t deadline)
{
    if (deadline == 0)
        return 0;
    int64_t left = deadline == INT64_MAX ? ORION_SLEEP_MAX_NS : deadline - orion_clock_ns();
    return left < ORION_SLEEP_MAX_NS ? left : ORION_SLEEP_MAX_NS;
}

/* Time is up: ORION_TIMEOUT, or how the channel ended. Whoever only ever polls is told of a death, too: now and then this
 * is a system call. */
orion_status_t orion_channel_time_up(orion_channel_t *channel);
/* A sender's wait ended without what it waited for: does the other side live, does our caller still want it? */
orion_status_t orion_channel_wait_on(orion_channel_t *channel);
/* Enters a lock before the time is up; ORION_INVALID in a forked child. */
orion_status_t orion_channel_enter_slow(orion_channel_t *channel, orion_lock_t *lock, int64_t timeout_ns);

static inline orion_status_t orion_channel_enter(orion_channel_t *channel, orion_lock_t *lock, int64_t timeout_ns)
{
    if (__builtin_expect(orion_lock_try(lock), 1))
        return ORION_OK;
    return orion_channel_enter_slow(channel, lock, timeout_ns);
}

/* Where a thread waits for a word of the other side. */
static inline orion_wait_place_t orion_channel_place(orion_channel_t *channel, const uint32_t *word, uint32_t *sleeping)
{
    return (orion_wait_place_t){.word = word,
                                .sleeping = sleeping,
                                .leave = (uint32_t)-1,
                                .movable = channel->movable,
                                .cpu = &channel->own->cpu,
                                .peer_cpu = &channel->peer->cpu};
}

/* ---- net.h: what a channel over a stream does where one over shared memory wakes or sleeps ---- */

void orion_net_flush(orion_channel_t *channel);                /* tells what was written into our segment */
void orion_net_reply(orion_channel_t *channel, uint32_t slot); /* the answer that was written there */
/* As orion_wait_changed. */
orion_status_t orion_net_wait(orion_channel_t *channel, const uint32_t *word, uint32_t old, int64_t limit_ns);
void orion_net_look(orion_channel_t *channel);   /* reads what is there */
void orion_net_notify(orion_channel_t *channel); /* something came, or the end: to the other threads of this process */
/* A bulk to the place whose reference was taken for it. ORION_TIMEOUT: none of it counts. */
orion_status_t orion_net_send_bulk(orion_channel_t *channel, const orion_bulk_place_t *place, const void *data,
                                   int64_t deadline);
void orion_net_drop_bulk(orion_channel_t *channel, const orion_bulk_place_t *place);
orion_status_t orion_net_resolve(orion_channel_t *channel, const orion_bulk_place_t *place, const void **data_p);
void orion_net_release(orion_channel_t *channel, uint32_t index, uint32_t generation);
/* Arms for a change of the word. ORION_AGAIN: it has changed, or the channel has ended. */
orion_status_t orion_net_arm(orion_channel_t *channel, const uint32_t *word, uint32_t old);
void orion_net_disarm(orion_channel_t *channel);
void orion_net_hang_up(orion_channel_t *channel);
void orion_net_close(orion_channel_t *channel, bool live); /* says goodbye if it lives */
void orion_net_free(orion_channel_t *channel);
void orion_net_destroy(orion_channel_t *channel);
void orion_net_fork_child(orion_channel_t *channel);

static inline orion_status_t orion_channel_wait(orion_channel_t *channel, orion_wait_t *wait,
                                                const orion_wait_place_t *place, uint32_t old, int64_t limit_ns)
{
    if (channel->net != NULL)
        return orion_net_wait(channel, place->word, old, limit_ns);
    return orion_wait_changed(wait, &channel->policy, place, old, limit_ns);
}

/* ---- send.c ---- */

/* A record of `bytes` (header included) in the ring, under the send lock. */
orion_status_t orion_channel_claim(orion_channel_t *channel, uint32_t bytes, int64_t deadline,
                                   orion_record_t **record_p);
void orion_channel_commit(orion_channel_t *channel);

/* ---- bulk.c ---- */

/* A block of our arena with one user, the caller. It waits a little for one to come back before the arena grows beyond
 * what a stream needs, and until the deadline where it cannot grow. */
orion_status_t orion_block_obtain(orion_channel_t *channel, size_t bytes, int64_t deadline, orion_block_t **block_p);
void orion_block_drop(orion_block_t *block);
/* One reference more for the other side, to `bytes` at `data` in the block. */
orion_status_t orion_block_refer(orion_block_t *block, const void *data, size_t bytes, int64_t deadline,
                                 orion_bulk_place_t *place_p);
/* The message that named it was not sent after all. */
void orion_block_unrefer(orion_channel_t *channel, const orion_bulk_place_t *place);
/* A new block and a place that refers to it, for a message that may be split: it waits a little at most. */
orion_status_t orion_bulk_reserve(orion_channel_t *channel, size_t bytes, int64_t deadline, orion_bulk_place_t *place_p,
                                  orion_block_t **block_p);
/* Makes a place of a bulk: refers to its block, or copies it into a new one. *copied_p: that one, to be dropped. A copy
 * that might go in pieces (`may_split`) waits a little at most. */
orion_status_t orion_bulk_place(orion_channel_t *channel, const orion_bulk_t *bulk, bool may_split, int64_t deadline,
                                orion_bulk_place_t *place_p, orion_block_t **copied_p);

/* ---- held.c ---- */

/* The memory that a place of the other side names. ORION_PROTOCOL: there is none. */
orion_status_t orion_place_resolve(orion_channel_t *channel, const orion_bulk_place_t *place, const void **data_p);
void orion_place_release(orion_channel_t *channel, uint64_t reference);
static inline uint64_t orion_place_reference(const orion_bulk_place_t *place)
{
    return (uint64_t)place->generation << 32 | place->reference;
}

/* ---- bell.c ---- */

void orion_channel_ring_bell(orion_channel_t *channel);

/* ---- call.c ---- */

static inline uint64_t orion_call_id(uint32_t slot, uint32_t sequence)
{
    return (uint64_t)sequence << 32 | slot;
}
/* Makes slot_hint a free slot; under the send lock. false: there is none. */
bool orion_call_find(orion_channel_t *channel);
/* Waits for a slot to be given back; without the lock. */
orion_status_t orion_call_seek(orion_channel_t *channel, int64_t deadline);
void orion_call_close(orion_channel_t *channel, uint32_t slot);

/* A slot and a sequence for the next call, under the send lock. ORION_AGAIN: all are in use. */
static inline orion_status_t orion_call_open(orion_channel_t *channel, uint32_t *slot_p, uint32_t *sequence_p)
{
    /* acquire: pairs with the release in orion_call_close */
    if (__builtin_expect(orion_load_acquire(&channel->calls[channel->slot_hint].state) != ORION_CALL_FREE, 0) &&
        !orion_call_find(channel))
        return ORION_AGAIN;
    orion_open_call_t *call = &channel->calls[channel->slot_hint];
    if (++channel->sequence == 0)
        channel->sequence = 1; /* 0 is what an unused slot says */
    call->sequence = channel->sequence;
    orion_store_relaxed(&call->state, ORION_CALL_OPEN);
    *slot_p = channel->slot_hint;
    *sequence_p = channel->sequence;
    return ORION_OK;
}

/* ---- open.c, fork.c ---- */

/* What a side gives the other one room for; told in the hello. */
typedef struct orion_channel_limits {
    uint64_t arena, message;
} orion_channel_limits_t;

orion_channel_limits_t orion_channel_limits(const orion_channel_options_t *options);
void orion_channel_agree(orion_channel_t *channel, orion_channel_limits_t mine, orion_channel_limits_t theirs);
orion_channel_t *orion_channel_allocate(const orion_channel_options_t *options);
void orion_channel_abandon(orion_channel_t *channel); /* one that nobody has seen yet */

orion_status_t orion_channel_open(int socket, const orion_channel_options_t *options, bool listening,
                                  int64_t timeout_ns, orion_channel_t **channel_p, char *why, size_t why_bytes);
void orion_channels_add(orion_channel_t *channel);
void orion_channels_remove(orion_channel_t *channel);
/* No fork of this process happens in between, and one thread at a time gets in. */
void orion_fork_hold(void);
void orion_fork_allow(void);

#endif
