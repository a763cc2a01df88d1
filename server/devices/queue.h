/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams as first-in first-out lists of operations: the part of a device that decides what may run when. One lock
 * guards all of it. Operations get a device-wide sequence number when they are enqueued; everything an operation can
 * wait for (the operation before it, the legacy stream, blocking streams, a recorded event) has a smaller one, so
 * waits cannot form a circle. Host gates are the exception: only their opener frees them.
 *
 * Whoever makes an operation ready starts it: the enqueuer, the thread that finished the one before, or the opener of
 * a gate (advance() in queue.c). Callbacks and long work run without the lock.
 */
#ifndef ORION_DEVICES_QUEUE_H
#define ORION_DEVICES_QUEUE_H

#include "base/copy.h"
#include "device.h"
#include "pool.h"

#include <pthread.h>

typedef struct orion_queue orion_queue_t;
typedef struct orion_op orion_op_t;

typedef enum orion_op_kind {
    ORION_OP_WORK,   /* start() runs or submits it */
    ORION_OP_NOTIFY, /* only its callback */
    ORION_OP_RECORD, /* an event's mark: remembers when the stream got there */
    ORION_OP_WAIT,   /* passes when its target, a mark, is finished */
    ORION_OP_GATE,   /* calls back, then waits to be opened */
    ORION_OP_FENCE   /* counts its target down: whole-device synchronisation */
} orion_op_kind_t;

typedef enum orion_transfer_kind { ORION_TRANSFER_COPY, ORION_TRANSFER_FILL } orion_transfer_kind_t;

typedef struct orion_transfer { /* transfer.c */
    orion_transfer_kind_t kind;
    uint32_t value, element; /* fill */
    uint64_t dst, src;
    uint64_t dst_pitch, src_pitch; /* bytes from row to row */
    uint64_t width, height;        /* bytes per row, rows */
    uint64_t part, parts;          /* rows (or bytes, if one row) per part; how many parts */
    uint64_t next;                 /* atomic: first part not claimed */
} orion_transfer_t;

typedef struct orion_run { /* cpu/launch.c */
    orion_function_t *function;
    uint32_t grid[3], block[3];
    uint32_t shared_bytes, flags;
    uint64_t blocks;
    uint64_t next;        /* atomic: first block (cooperative: first part) not claimed */
    uint64_t accepted_ns; /* 0: its latency is not measured */
    uint32_t begun;       /* atomic: a thread has come */
    uint32_t failed;      /* atomic: first orion_cpu_result_t that is not OK */
    CUresult result;
    void *workspace; /* cooperative launches */
} orion_run_t;

#define ORION_OP_INLINE 240u /* payload bytes inside an operation */
#define ORION_OP_KEEP 4096u  /* larger payload buffers go back to the system with the operation */

struct orion_op {
    orion_op_t *next; /* in its stream, the free list or the list of calls */
    orion_queue_t *queue;
    orion_stream_t *stream; /* NULL: in none */
    uint64_t sequence;
    orion_done_fn done;
    void *arg;
    orion_op_kind_t kind;
    uint32_t refs;                   /* the stream's, an event's, waiting operations', a gate handle's */
    uint8_t on_caller;               /* push() may hand it to the enqueuer */
    uint8_t passive;                 /* a notification of an ordinary stream: the legacy stream does not hold it */
    uint8_t finished;                /* atomic: set before its callback, so that a query from there sees it */
    uint8_t waiting;                 /* registered with its target */
    uint8_t reached, parked, opened; /* gate */
    uint32_t count;                  /* fence parent: streams that are not there yet; room: bound */
    uint64_t time_ns;                /* mark: when it finished */
    orion_op_t *target;              /* wait: mark; fence: parent; own reference */
    orion_op_t *waiters, *wait_next; /* mark: operations to look at when it finishes */
    orion_op_t *gate_next, *gate_previous;
    /* Called with the lock held when a WORK operation is its stream's turn. 1: done already, *result_p says how;
     * 0: orion_queue_complete() will come. */
    int (*start)(orion_op_t *op, CUresult *result_p);
    void (*forget)(orion_op_t *op); /* may be NULL; called instead of start when it is dropped */
    orion_job_t job;
    struct orion_board *board; /* mark of an event that other processes know, board.h; own reference */
    union {
        orion_transfer_t transfer;
        orion_run_t run;
        uint64_t record; /* mark: its number on the board */
    } u;
    void *payload; /* inline_payload or a buffer of its own */
    uint32_t payload_capacity;
    uint32_t payload_bytes;
    unsigned char inline_payload[ORION_OP_INLINE] __attribute__((aligned(16)));
};

struct orion_stream {
    orion_op_t *head, *tail; /* the head stays until it is finished */
    uint8_t blocking;        /* takes part in the legacy stream's rules */
    uint8_t running;         /* the head has been started */
    uint8_t queued;          /* in the list of streams to look at */
    uint8_t destroyed;
    orion_stream_t *work_next;
    orion_stream_t *active_next, *active_previous; /* streams that hold operations */
    orion_stream_t *next, *previous;               /* all streams */
    struct orion_pending_free *frees;              /* host.c: stream-ordered frees that wait, newest first */
};

struct orion_event {
    orion_op_t *mark; /* its latest record; NULL: none, or one of another process that has happened */
    uint32_t timing;
    uint32_t interprocess;
    struct orion_board *board; /* other processes know it; own reference */
    uint64_t seen;             /* the board's latest record as `mark` has it */
    orion_event_t *next, *previous;
};

typedef struct orion_awaited orion_awaited_t; /* board.c */

struct orion_queue {
    pthread_mutex_t lock;
    pthread_cond_t empty; /* for close */
    orion_pool_t *pool;
    int wake; /* a pool thread has to be woken when the lock is let go */
    uint64_t sequence;
    uint64_t pending;
    uint64_t closed_gates;
    uint64_t active_blocking; /* blocking streams that hold operations, the legacy stream left out */
    orion_stream_t legacy;
    orion_stream_t *active, *streams, *work_head, *work_tail;
    orion_event_t *events;
    orion_op_t *calls_head, *calls_tail; /* callbacks that belong to no stream, ready */
    orion_op_t *gates;                   /* handles not opened yet */
    int calling;                         /* a thread is at them */
    orion_op_t *room;
    orion_awaited_t *awaited; /* records of other processes */
    pthread_cond_t listen;    /* there is something in it, or the listener shall end */
    pthread_t listener;
    int has_listener, listener_stops;
    orion_shared_range_t shared[2]; /* of the device's configuration */
    orion_copier_t copier;          /* into them */
    orion_op_t *free_ops;
    uint32_t free_count;
    CUresult drop;   /* reset or close is under way: everything that waits ends with this */
    CUresult status; /* sticky */
    char text[256];
};

#define ORION_QUEUE_LIMIT (256u << 10)

int orion_queue_init(orion_queue_t *queue, orion_pool_t *pool);
void orion_queue_fini(orion_queue_t *queue); /* frees streams, events and operations; nothing may be pending */

static inline void orion_queue_lock(orion_queue_t *queue)
{
    pthread_mutex_lock(&queue->lock);
}
void orion_queue_unlock(orion_queue_t *queue);

/* --- with the lock held --- */
/* What enqueuing operations return before anything else. */
static inline CUresult orion_queue_refusal(const orion_queue_t *queue)
{
    if (__builtin_expect(queue->status != CUDA_SUCCESS, 0))
        return queue->status;
    return queue->drop;
}
orion_stream_t *orion_queue_stream(orion_queue_t *queue, orion_stream_t *stream); /* NULL becomes the legacy stream */
/* Nothing that is already enqueued has to finish before an operation that this stream gets now. */
int orion_queue_idle(const orion_queue_t *queue, const orion_stream_t *stream);
/* All that the stream was given is finished, even if its last callback is still being made. */
int orion_queue_quiet(const orion_queue_t *queue, const orion_stream_t *stream);
/* NULL: no memory, or too many operations wait. */
orion_op_t *orion_op_new(orion_queue_t *queue, orion_op_kind_t kind, orion_done_fn done, void *arg);
int orion_op_payload(orion_op_t *op, const void *data, uint32_t bytes); /* copies; 0: no memory */
int orion_op_reserve(orion_queue_t *queue, uint32_t count); /* so many will be had without fail; 0: no memory */
void orion_op_unref(orion_queue_t *queue, orion_op_t *op);
/* Enqueues. 1: op->on_caller was set and its turn is now; the caller unlocks, does it and completes it. */
int orion_queue_push(orion_queue_t *queue, orion_stream_t *stream, orion_op_t *op);
/* The head of the stream is done; the stream may be gone afterwards. advance() must follow. */
void orion_queue_retire(orion_queue_t *queue, orion_stream_t *stream);
void orion_queue_free_stream(orion_queue_t *queue, orion_stream_t *stream); /* it holds nothing */
/* The mark has happened: what waits for it is looked at by the next advance(). */
void orion_queue_finish_mark(orion_queue_t *queue, orion_op_t *mark);
/* Starts all that is ready. Lets go of the lock for callbacks. */
void orion_queue_advance(orion_queue_t *queue);
/* Has advance() make the operation's callback; it belongs to no stream. Takes the caller's reference. */
void orion_queue_call(orion_queue_t *queue, orion_op_t *op);

/* --- without the lock --- */
void orion_queue_fail(orion_queue_t *queue, CUresult status, const char *text); /* first one wins */
/* The end of a started WORK operation: its callback, then whatever waits for it. */
void orion_queue_complete(orion_op_t *op, CUresult result);
/* Calls done when all that is enqueued now has finished. Works whatever the status. */
CUresult orion_queue_fence(orion_queue_t *queue, orion_done_fn done, void *arg);
/* Drops all that waits with this result and opens the gates. */
void orion_queue_drop(orion_queue_t *queue, CUresult drop);
void orion_queue_wait_empty(orion_queue_t *queue);
void orion_queue_clear(orion_queue_t *queue); /* frees all streams and events */

/* stream.c and event.c: the operations of the same names in device.h. */
CUresult orion_stream_create(orion_queue_t *queue, uint32_t flags, orion_stream_t **stream_p);
void orion_stream_destroy(orion_queue_t *queue, orion_stream_t *stream);
CUresult orion_stream_query(orion_queue_t *queue, orion_stream_t *stream);
CUresult orion_stream_notify(orion_queue_t *queue, orion_stream_t *stream, orion_done_fn done, void *arg);
CUresult orion_stream_gate(orion_queue_t *queue, orion_stream_t *stream, orion_done_fn reached, void *arg,
                           orion_gate_t **gate_p);
void orion_stream_gate_open(orion_queue_t *queue, orion_gate_t *gate);
CUresult orion_queue_room(orion_queue_t *queue, uint64_t pending, orion_done_fn done, void *arg);

CUresult orion_event_create(orion_queue_t *queue, uint32_t flags, orion_event_t **event_p);
void orion_event_destroy(orion_queue_t *queue, orion_event_t *event);
CUresult orion_event_record(orion_queue_t *queue, orion_event_t *event, orion_stream_t *stream);
CUresult orion_event_wait(orion_queue_t *queue, orion_stream_t *stream, orion_event_t *event);
CUresult orion_event_query(orion_queue_t *queue, orion_event_t *event);
CUresult orion_event_notify(orion_queue_t *queue, orion_event_t *event, orion_done_fn done, void *arg);
CUresult orion_event_elapsed(orion_queue_t *queue, orion_event_t *start, orion_event_t *end, float *ms_p);

uint64_t orion_now_ns(void);

#endif
