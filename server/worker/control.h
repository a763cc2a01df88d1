/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker and the supervisor say to each other over their SOCK_SEQPACKET pair: one message is one packet, a
 * header and at most ORION_CONTROL_TEXT bytes. orion_server/messages.py mirrors the layout. Any thread of the worker
 * may ask; one lock keeps question and answer together. Every question is answered within a bounded time or fails.
 */
#ifndef ORION_WORKER_CONTROL_H
#define ORION_WORKER_CONTROL_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define ORION_CONTROL_MAGIC 0x4c54434fu /* "OCTL" */
#define ORION_CONTROL_TEXT 1024u
#define ORION_CONTROL_TIMEOUT_S 20
#define ORION_CACHE_KEY 32u /* bytes of an object's key */

enum orion_control_kind {
    ORION_CONTROL_READY = 1,      /* a range base, b arena bytes, c heap bytes, text: orion_ready_t; +2 fds */
    ORION_CONTROL_FAILED = 2,     /* the session cannot start: result, text */
    ORION_CONTROL_GRANT = 3,      /* a address, b bytes, c 1 for the arena; answered with a fd */
    ORION_CONTROL_RELEASE = 4,    /* a address, b bytes; not answered */
    ORION_CONTROL_FAULT = 5,      /* last words: result, text; not answered, sent from signal handlers too */
    ORION_CONTROL_CACHE_GET = 6,  /* text: key; answered with a readable fd and b bytes */
    ORION_CONTROL_CACHE_SLOT = 7, /* b bytes; answered with a fd to fill */
    ORION_CONTROL_CACHE_PUT = 8,  /* text: key; keeps what the slot holds; not answered */
    ORION_CONTROL_LOG = 9,        /* text; not answered */
    ORION_CONTROL_GOODBYE = 10,   /* the client left in order; not answered */
    ORION_CONTROL_START = 11,     /* supervisor to worker, first of all: text: orion_order_t */
    ORION_CONTROL_EXPOSE = 12,    /* a address in a heap extent; the client gets that extent; answered with it: a, b */
    ORION_CONTROL_ADOPT = 14,     /* a address, b bytes that the client has offered; answered with its descriptor */
    ORION_CONTROL_PROVEN = 13,    /* /dev/shm mode: both sides have the files; the supervisor, who may, unlinks them */
    ORION_CONTROL_SHARE = 20,   /* text: orion_share_text_t; answered with it, and a descriptor if bytes are to move */
    ORION_CONTROL_MOVED = 21,   /* a id: they have; not answered */
    ORION_CONTROL_UNMOVE = 22,  /* a id: they are free; answered with the extent's descriptor, b offset in it */
    ORION_CONTROL_UNSHARE = 23, /* a id; not answered */
    ORION_CONTROL_OPEN = 24,    /* text: orion_share_text_t; answered with it, and a descriptor if there is one */
    ORION_CONTROL_CLOSE = 25,   /* a id, b party; not answered */
    ORION_CONTROL_BELL = 26     /* answered with the bell of the client's user */
};

typedef struct orion_control_message {
    uint32_t magic;
    uint16_t kind;
    uint16_t text_bytes;
    uint32_t id; /* an answer carries its question's */
    int32_t result;
    uint64_t a, b, c;
    char text[ORION_CONTROL_TEXT];
} orion_control_message_t;

_Static_assert(offsetof(orion_control_message_t, text) == 40, "orion_server/messages.py reads this layout");

/* The text of ORION_CONTROL_START: which client the worker shall serve. Workers are forked ahead of their clients. */
typedef struct orion_order {
    uint64_t memory_limit;
    uint64_t range_bytes; /* 0: no common range */
    uint64_t candidates[8];
    uint32_t flags; /* of the client's hello */
    uint32_t devshm;
    uint32_t owner_uid; /* /dev/shm mode */
    uint32_t stream;    /* enum orion_order_stream */
    uint32_t has_key;
    uint32_t reserved;
    uint8_t key[32]; /* of this session alone */
} orion_order_t;

/* The client's socket comes along, unless NONE: the session is on it. */
enum orion_order_stream { ORION_ORDER_NONE = 0, ORION_ORDER_TCP = 1, ORION_ORDER_TLS = 2, ORION_ORDER_UCX = 3 };

_Static_assert(sizeof(orion_order_t) == 136, "orion_server/messages.py writes this layout");

/* The text of ORION_CONTROL_SHARE and ORION_CONTROL_OPEN and of their answers: orion_shared_t, field by field. */
typedef struct orion_share_text {
    uint32_t kind;
    uint32_t is_opaque;
    uint64_t id, address, bytes, asked, first;
    uint32_t party;
    uint32_t reserved;
    unsigned char handle[64];
    unsigned char opaque[64];
} orion_share_text_t;

_Static_assert(sizeof(orion_share_text_t) == 184, "orion_server/messages.py reads and writes this layout");

/* The text of ORION_CONTROL_READY. */
typedef struct orion_ready {
    uint64_t nonce;
    uint32_t flags;
    uint32_t slots;
    char device[64];
    char command_name[64]; /* /dev/shm mode: the files that the supervisor removes if the worker can't */
    char reply_name[64];
} orion_ready_t;

_Static_assert(sizeof(orion_ready_t) == 208, "orion_server/messages.py reads this layout");

typedef struct orion_control_line {
    int fd;
    pthread_mutex_t lock;
    uint32_t next_id;
} orion_control_line_t;

void orion_control_init(orion_control_line_t *line, int fd);
void orion_control_fini(orion_control_line_t *line);

/* Sends without waiting for an answer; async-signal-safe. */
orion_status_t orion_control_tell(const orion_control_line_t *line, uint16_t kind, int32_t result, uint64_t a,
                                  uint64_t b, const void *text, size_t text_bytes);

/* Sends the two descriptors of a session with ORION_CONTROL_READY. */
orion_status_t orion_control_ready(const orion_control_line_t *line, const orion_ready_t *ready, uint64_t base,
                                   uint64_t arena_bytes, uint64_t heap_bytes, int command_fd, int reply_fd);

/* Asks and waits. The answer's result is in answer_p->result; *fd_p is its descriptor or -1 and the caller's to close. */
orion_status_t orion_control_ask(orion_control_line_t *line, uint16_t kind, uint64_t a, uint64_t b, uint64_t c,
                                 const void *text, size_t text_bytes, orion_control_message_t *answer_p, int *fd_p);

/* The next message, within timeout_ms (AGAIN: none came). A descriptor that comes with it is the caller's. */
orion_status_t orion_control_receive(const orion_control_line_t *line, int timeout_ms, orion_control_message_t *m,
                                     int *fd_p);

/* The supervisor still holds its end. */
int orion_control_alive(const orion_control_line_t *line);

#endif
