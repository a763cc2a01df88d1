/* SPDX-License-Identifier: Apache-2.0 */
/* Channels: duplex messages between two processes. Over shared memory (one host) each side writes a segment of its own
 * that the other maps read-only; over a byte stream (tcp) the same messages travel as frames.
 *
 *   orion_listener_open, orion_listener_accept   |   orion_channel_connect
 *   orion_channel_send  ---------------------------> orion_channel_receive, orion_message_release
 *   orion_channel_call  ---------------------------> orion_channel_receive, orion_channel_reply
 *   orion_block_create, fill, orion_channel_send --> message.bulk.data is that memory, not copied
 *
 * Addresses: "name" or "shm://name" (a name of this user on this host; leaves nothing behind), "/path" or
 * "shm:///path" (a unix socket there), "tcp://host:port" and "ucx://host:port" (other hosts, too; port 0 to listen: any).
 *
 * Threads: everything may be called from any thread, except that orion_channel_free comes last. A channel belongs to the
 * process that opened it: in a forked child every function answers ORION_INVALID.
 * Timeouts are nanoseconds: negative = no limit, 0 = only if it can be done now. ORION_TIMEOUT: nothing was done.
 * A failure other than ORION_TIMEOUT, ORION_INVALID and ORION_TOO_BIG is the end of the channel; orion_channel_why tells
 * it in a sentence. Nothing that the other side writes is believed: it can end the channel and no more. */
#ifndef ORION_CHANNEL_H
#define ORION_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "orion/status.h"

#define ORION_CHANNEL_INLINE 4080u /* bytes of a message that ride in the ring; more goes through the arena */
#define ORION_CHANNEL_TAG_MAX 255u /* a tag is the application's: what the bytes are */
#define ORION_CHANNEL_CALLS 32u    /* calls that may be open at once, each way */
#define ORION_BLOCK_ALIGN 128u     /* of every block of the arena */

typedef struct orion_channel orion_channel_t;
typedef struct orion_listener orion_listener_t;
typedef struct orion_block orion_block_t;

typedef struct orion_channel_options {
    uint64_t
        arena_limit; /* bytes of shared memory for large messages that this side may create; 0 = 1 GiB. Over tcp and
                           * ucx: bytes of them that it holds for the other side */
    /* Bytes of the longest message that this side takes. What has no room in the arena comes in pieces and is put together
     * in memory of this process: no more than this. 0 = four times arena_limit, at least 64 MiB; never below arena_limit. */
    uint64_t message_limit;
    bool any_user; /* let processes of other users be the other end (default: this user and root) */
    /* tcp:// and ucx:// alone. "ID.SECRET", the same on both sides, which prove it to each other; NULL = ORION_TOKEN of the
     * environment, "" = none. With one, what goes to another host is encrypted (ORION_TLS=auto | off | required). */
    const char *token;
    bool insecure; /* listen for other hosts without a token, send to them unencrypted: on networks that you trust */
    /* NULL, or asked now and then by a thread that waits to send: false gives up, with ORION_TIMEOUT */
    bool (*keep_waiting)(void);
} orion_channel_options_t;

/* ---- opening; on failure `why` holds one sentence that names the address and the remedy ---- */

orion_status_t orion_listener_open(const char *address, const orion_channel_options_t *options,
                                   orion_listener_t **listener_p, char *why, size_t why_bytes);
/* The next process that connects. One that does not speak our protocol, or may not connect, is dismissed and waiting
 * goes on. */
orion_status_t orion_listener_accept(orion_listener_t *listener, int64_t timeout_ns, orion_channel_t **channel_p,
                                     char *why, size_t why_bytes);
int orion_listener_fd(const orion_listener_t *listener);              /* readable when somebody connects */
const char *orion_listener_address(const orion_listener_t *listener); /* with the port that was chosen for port 0 */
/* Wakes threads in accept: they get ORION_INVALID. */
void orion_listener_shutdown(orion_listener_t *listener);
void orion_listener_free(orion_listener_t *listener);

/* ORION_REFUSED: nobody listens there, or may not. ORION_TIMEOUT: nobody accepted. */
orion_status_t orion_channel_connect(const char *address, const orion_channel_options_t *options, int64_t timeout_ns,
                                     orion_channel_t **channel_p, char *why, size_t why_bytes);
/* Over a connected unix socket (SOCK_SEQPACKET; taken over, also on failure): both ends call this. */
orion_status_t orion_channel_open_socket(int socket, const orion_channel_options_t *options, int64_t timeout_ns,
                                         orion_channel_t **channel_p, char *why, size_t why_bytes);

/* ---- memory that both sides see ---- */

/* Room in this side's arena, filled by the caller and then sent any number of times without being copied. Over tcp and ucx
 * it is memory of this process, and a message that names it is a copy of what it held when it was sent.
 * ORION_NO_MEMORY: the arena's limit, or the machine's memory. Waits at most timeout_ns for the other side to release. */
orion_status_t orion_block_create(orion_channel_t *channel, size_t bytes, int64_t timeout_ns, orion_block_t **block_p);
void *orion_block_data(const orion_block_t *block);
size_t orion_block_bytes(const orion_block_t *block);
/* The memory is used again when this was called and the other side has released every message that names it. */
void orion_block_free(orion_block_t *block);

/* What goes along with a message, beyond its own bytes. */
typedef struct orion_bulk {
    const void *data;
    size_t bytes;
    orion_block_t *block; /* data lies in this block and is not copied; NULL: any memory, copied once into the arena
                           * (in pieces, and once more by the receiver, where the arena has no room for all of it) */
} orion_bulk_t;

/* ---- messages ---- */

typedef enum orion_message_kind {
    ORION_MESSAGE_NONE = 0,
    ORION_MESSAGE_SEND = 1,  /* wants no answer */
    ORION_MESSAGE_CALL = 2,  /* the other side waits for orion_channel_reply */
    ORION_MESSAGE_REPLY = 3, /* what orion_channel_call returns */
    ORION_MESSAGE_ERROR = 4  /* a reply by which the other side says that the call failed; the bytes say why */
} orion_message_kind_t;

/* Filled by receive and call. Give it to orion_message_release before it is used again. Begins as zeros. */
typedef struct orion_message {
    orion_message_kind_t kind;
    uint32_t tag;
    const void *data; /* the message: a private copy in `copy`, or, if it is long, as bulk.data */
    size_t bytes;
    struct {
        const void *data; /* NULL = none. Written by the other side, which can change it still: copy, then check */
        size_t bytes;
    } bulk;
    /* the library's */
    orion_channel_t *channel;
    uint64_t reference; /* of a block of the other side, to be released */
    void *assembled;    /* private memory that holds the bulk */
    uint32_t slot, sequence;
    _Alignas(16) uint8_t copy[48 + ORION_CHANNEL_INLINE];
} orion_message_t;

/* data: at most ORION_CHANNEL_INLINE bytes if there is bulk; else any length. Returns when the bytes may be used again.
 * ORION_TOO_BIG: the message is longer than the other side takes (orion_channel_message_limit); nothing was sent. */
orion_status_t orion_channel_send(orion_channel_t *channel, uint32_t tag, const void *data, size_t bytes,
                                  const orion_bulk_t *bulk, int64_t timeout_ns);
orion_status_t orion_channel_receive(orion_channel_t *channel, int64_t timeout_ns, orion_message_t *message_p);
/* The same for who wants a long message in memory of its own: its bulk goes to `to`, along with the sender's copying, which
 * is faster than receiving it and then copying; bulk.data (and data, of a message that is nothing else) is `to`.
 * ORION_TOO_BIG: a message is being copied whose bulk.bytes are more than `capacity`; nothing was done: call again with
 * that much room, or orion_channel_receive. What does not fit and is complete stays in shared memory, as there. */
orion_status_t orion_channel_receive_into(orion_channel_t *channel, int64_t timeout_ns, void *to, size_t capacity,
                                          orion_message_t *message_p);
void orion_message_release(orion_message_t *message);
/* Takes the bulk out of the message: it stays valid until orion_held_release, also after orion_channel_free. */
typedef struct orion_held orion_held_t;
orion_status_t orion_message_hold(orion_message_t *message, orion_held_t **held_p);
void orion_held_release(orion_held_t *held);

/* Sends a call and waits for its reply. */
orion_status_t orion_channel_call(orion_channel_t *channel, uint32_t tag, const void *data, size_t bytes,
                                  const orion_bulk_t *bulk, int64_t timeout_ns, orion_message_t *reply_p);
/* The same in two steps, for event loops and for several calls at once. Each call that was begun is ended by an await
 * that does not return ORION_TIMEOUT, or by a cancel. */
orion_status_t orion_channel_call_begin(orion_channel_t *channel, uint32_t tag, const void *data, size_t bytes,
                                        const orion_bulk_t *bulk, int64_t timeout_ns, uint64_t *call_p);
orion_status_t orion_channel_call_await(orion_channel_t *channel, uint64_t call, int64_t timeout_ns,
                                        orion_message_t *reply_p);
void orion_channel_call_cancel(orion_channel_t *channel, uint64_t call);
/* kind: ORION_MESSAGE_REPLY or ORION_MESSAGE_ERROR. Once for each call; the request may have been released. */
orion_status_t orion_channel_reply(orion_channel_t *channel, const orion_message_t *request, orion_message_kind_t kind,
                                   uint32_t tag, const void *data, size_t bytes, const orion_bulk_t *bulk,
                                   int64_t timeout_ns);

/* Is a message (or the reply to a call) there? Looks for about look_ns, 0 = once, without a system call; once, too, where
 * looking does not pay because both sides share a processor. Over tcp and ucx it looks at the stream, once. */
bool orion_channel_ready(orion_channel_t *channel, uint32_t look_ns);
bool orion_channel_call_ready(orion_channel_t *channel, uint64_t call, uint32_t look_ns);

/* ---- event loops ---- */

/* A descriptor that becomes readable when what was armed for has come, or the channel has ended. It costs the other
 * side nothing until something is armed. */
int orion_channel_fd(const orion_channel_t *channel);
/* Arms for the next message. ORION_AGAIN: there is one already, nothing was armed. */
orion_status_t orion_channel_arm(orion_channel_t *channel);
/* Arms for the reply to this call. ORION_AGAIN: it is there already. */
orion_status_t orion_channel_call_arm(orion_channel_t *channel, uint64_t call);
/* Takes what lies in the descriptor, so that it is not readable any more, and says whether the channel still lives. */
orion_status_t orion_channel_disarm(orion_channel_t *channel);

/* ---- the end ---- */

/* How the channel stands: ORION_OK, ORION_PEER_GONE, ORION_PROTOCOL, or ORION_INVALID (shut down here, or a forked
 * child). A system call. */
orion_status_t orion_channel_state(orion_channel_t *channel);
/* One sentence on why the channel ended, or "". *clean_p: the other side closed it, rather than died. */
const char *orion_channel_why(const orion_channel_t *channel, bool *clean_p);
const char *orion_channel_transport(const orion_channel_t *channel);  /* "shm", "tcp", "tls" or "ucx" */
uint64_t orion_channel_message_limit(const orion_channel_t *channel); /* bytes of the longest message it takes there */
int32_t orion_channel_peer_pid(const orion_channel_t *channel);       /* as this process sees it; 0 = not known */

/* Ends the channel: waiting threads of both sides return at once. What was sent and not yet received is still received
 * by the other side; over tcp and ucx this waits until its host has it, at most a second. Blocks and held messages stay
 * valid. */
void orion_channel_shutdown(orion_channel_t *channel);
/* Shuts down and gives everything back, memory when its last block or held message goes. */
void orion_channel_free(orion_channel_t *channel);

#endif
