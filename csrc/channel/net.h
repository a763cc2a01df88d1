/* SPDX-License-Identifier: Apache-2.0 */
/* A channel over a byte stream. It has the two segments of one over shared memory, both in private memory: what this side
 * writes into its own is told by frames (net_frame.h), and what the other side tells is written into the copy of its
 * segment. So the ring, the slots and everything above them are the same code; only places that would wake the other
 * side, or sleep on it, come here. They cost the fast path nothing: in the copy the other side always seems to sleep.
 *
 *   net_open.c   over a connected stream; the end       net_out.c    frames out, and the thread for what is left over
 *   net_in.c     frames in                              net_wait.c   waiting: who waits reads for all; event loops
 *   net_bulk.c   long payloads                          net_greet.c  hello, tokens, TLS or UCX
 *   net_socket.c tcp://HOST:PORT and ucx://HOST:PORT
 *
 * The sender never has more under way than the receiver has promised room for (the ring, arena_limit), so reading
 * never has to stop: whoever waits to send reads meanwhile, and two ends that send at once do not block each other.
 *
 * Locks: in_lock is entered by trying only, out_lock is held for no longer than a system call that does not wait; both come
 * after send, receive and arena, and before notices. */
#ifndef ORION_CHANNEL_NET_H
#define ORION_CHANNEL_NET_H

#include <pthread.h>
#include <sys/uio.h>

#include "channel/address.h"
#include "channel/channel.h"
#include "channel/net_frame.h"
#include "stream/spin.h"
#include "stream/stream.h"
#include "wire/token.h"

#define ORION_NET_BUFFER 65536u
#define ORION_NET_NOTES (2 * ORION_CHANNEL_REFERENCES) /* one RELEASE and one DROP for each */

/* Of a bulk that comes. */
enum { ORION_BULK_NONE = 0, ORION_BULK_COMING = 1, ORION_BULK_THERE = 2, ORION_BULK_NAMED = 3 };

typedef struct orion_coming {
    uint32_t state; /* ORION_BULK_..., atomic */
    uint32_t generation;
    uint8_t *data;
    uint64_t bytes, filled;
} orion_coming_t;

typedef struct orion_net_note {
    uint16_t kind, index;
    uint32_t sequence;
} orion_net_note_t;

struct orion_net {
    int socket; /* the stream's, to hang up */
    bool local; /* the other end is on this host */

    /* in: with in_lock */
    _Alignas(ORION_SPACING) orion_lock_t in_lock;
    orion_bytestream_t *stream; /* NULL = closed; to send, with out_lock */
    orion_spin_t spin;
    orion_net_frame_t frame; /* whose payload is coming */
    bool in_payload;
    struct iovec payload[2]; /* where the rest of it goes */
    uint32_t head;           /* of the copy of the other side's ring */
    uint32_t at, end;        /* what of the buffer is not read yet */
    const char *complaint;
    _Alignas(16) uint8_t buffer[ORION_NET_BUFFER];
    orion_coming_t coming[ORION_CHANNEL_REFERENCES];
    uint64_t coming_bytes; /* atomic: of all that is not given back */

    /* those who wait while another one reads */
    _Alignas(ORION_SPACING) uint32_t news; /* counts; futex word */
    uint32_t waiters;

    /* out: with out_lock */
    _Alignas(ORION_SPACING) orion_lock_t out_lock;
    orion_net_frame_t header; /* of the frame that is on its way */
    struct iovec parts[3];    /* what of it is still to be sent */
    bool busy, broken, closing, closed;
    uint64_t frames;               /* how many have been begun */
    uint32_t ring_sent, tail_sent; /* ring_sent is read by the receiver, too */
    uint32_t replies;              /* a bit for each slot whose answer is to be sent */
    uint8_t *rest;                 /* of a bulk whose sender could not wait */
    uint32_t note_first, note_count;
    orion_net_note_t notes[ORION_NET_NOTES];

    /* the thread that sends what nobody waits for */
    bool has_flusher, stopping; /* with out_lock */
    pthread_t flusher;
    uint32_t flusher_asleep;

    /* event loops: with the notice lock */
    int event_fd;
    uint32_t armed; /* atomic */
    int watched[ORION_BYTESTREAM_FDS], watched_count;
};
typedef struct orion_net orion_net_t;

/* ---- net_in.c ---- */

/* Where the next bytes belong, never empty; then, that so many came. How many frames became complete; < 0: nonsense,
 * net->complaint. With in_lock. */
int orion_net_room(orion_net_t *net, struct iovec room[3]);
int orion_net_received(orion_channel_t *channel, size_t bytes);
/* Reads what is there, a bounded number of times; wait: for ORION_BYTESTREAM_SLICE_NS if nothing is. How many frames; the
 * channel may have ended. With in_lock. */
int orion_net_pump(orion_channel_t *channel, bool wait);

/* ---- net_out.c ---- */

/* Sends what the stream takes. With out_lock. ORION_OK: nothing is left. ORION_AGAIN, ORION_PEER_GONE. */
orion_status_t orion_net_flush_locked(orion_channel_t *channel);
/* The same; what is left is sent soon. */
void orion_net_flush(orion_channel_t *channel);
/* Begins a BULK frame; none is on its way. With out_lock. */
void orion_net_begin_bulk(orion_net_t *net, uint16_t index, uint32_t generation, uint64_t total, const void *data,
                          uint32_t bytes);
/* Whoever owns the payload on its way cannot wait any longer: keeps a copy. With out_lock. false: no memory. */
bool orion_net_keep_rest(orion_net_t *net);
void orion_net_note(orion_channel_t *channel, orion_net_kind_t kind, uint32_t index, uint32_t sequence);
void orion_net_soon(orion_channel_t *channel);
void orion_net_stop_flusher(orion_channel_t *channel);

/* ---- net_wait.c ---- */

/* Leaves in_lock: one of those who wait may read now. */
void orion_net_leave(orion_channel_t *channel);
/* Waits until the stream may take more, and reads meanwhile. ORION_OK: try again; ORION_TIMEOUT: our caller gave up. */
orion_status_t orion_net_wait_writable(orion_channel_t *channel, int64_t limit_ns);
/* Nothing can be sent: how the channel ended. */
orion_status_t orion_net_lost(orion_channel_t *channel);

/* ---- net_open.c ---- */

/* What both sides have agreed on. */
typedef struct orion_net_terms {
    uint32_t epoch, peer_epoch;
    orion_channel_limits_t limits, peer_limits;
} orion_net_terms_t;

/* The stream is taken over, also on failure. */
orion_status_t orion_net_open(orion_bytestream_t *stream, const orion_channel_options_t *options,
                              const orion_net_terms_t *terms, orion_channel_t **channel_p, char *why, size_t why_bytes);

/* ---- net_greet.c ---- */

/* Over a connected socket, which is taken over, also on failure. token: NULL = none. */
orion_status_t orion_net_greet(int socket, bool ucx, const orion_channel_options_t *options, const orion_token_t *token,
                               bool listening, int64_t deadline, orion_channel_t **channel_p, char *why,
                               size_t why_bytes);

/* ---- net_socket.c ---- */

/* Which token counts for these options: theirs, else ORION_TOKEN. *has_p: there is one. */
orion_status_t orion_net_token(const orion_channel_options_t *options, orion_token_t *token_p, bool *has_p, char *why,
                               size_t why_bytes);
/* Is data that others on the network can read fine, by these options or ORION_INSECURE_TCP=1? */
bool orion_net_insecure(const orion_channel_options_t *options);
/* A listening socket, and its port in the address's text. */
orion_status_t orion_net_listen(orion_address_t *address, const orion_channel_options_t *options, bool has_token,
                                int *socket_p, char *why, size_t why_bytes);
orion_status_t orion_net_connect(const orion_address_t *address, const orion_channel_options_t *options,
                                 int64_t deadline, orion_channel_t **channel_p, char *why, size_t why_bytes);

#endif
