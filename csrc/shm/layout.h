/* SPDX-License-Identifier: Apache-2.0 */
/* Every struct that lives in the two shared segments of a session. Each writer's words are on lines of their own.
 *
 *   command segment (the client writes, the worker reads and fills staging)
 *     control, 16 KiB | command ring, 256 KiB | staging, 16 x 256 KiB
 *   reply segment (the worker writes, the client maps it read-only)
 *     control, 4 KiB | 128 reply slots of 4 KiB | event ring, 64 KiB
 */
#ifndef ORION_SHM_LAYOUT_H
#define ORION_SHM_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/record.h"

#define ORION_LINE 64u
#define ORION_SPACING 128u /* two lines: processors fetch lines in pairs */

#define ORION_COMMAND_MAGIC 0x31646d43724fULL
#define ORION_REPLY_MAGIC 0x31796c7052724fULL
#define ORION_LAYOUT_VERSION 1u

#define ORION_RING_BYTES (256u * 1024u)
#define ORION_EVENT_BYTES (64u * 1024u)
#define ORION_REPLY_SLOTS 128u
#define ORION_STAGE_COUNT 16u
#define ORION_STAGE_BYTES (256u * 1024u)

typedef struct orion_segment_header { /* written by the worker at creation, never after */
    uint64_t magic;
    uint32_t version;
    uint32_t epoch;
    uint64_t segment_bytes;
    uint64_t nonce;
} orion_segment_header_t;

typedef struct orion_waiting_line {
    uint32_t waiting; /* != 0: the slot's thread sleeps on the sequence of its reply slot */
    uint8_t pad[ORION_LINE - 4];
} orion_waiting_line_t;

/* Written by the client. The worker believes nothing in here. */
typedef struct orion_command_control {
    orion_segment_header_t header;
    uint64_t proof; /* /dev/shm mode: the nonce of the reply segment, copied by the client */
    uint8_t pad0[ORION_SPACING - sizeof(orion_segment_header_t) - 8];
    /* 128: the line of each publication */
    uint32_t head;       /* free-running byte index behind the newest record; the futex word the worker sleeps on */
    uint32_t client_cpu; /* where a thread of the client last waited, + 1; 0 = unknown */
    uint8_t pad1[ORION_SPACING - 8];
    /* 256: the event ring's reader */
    uint32_t event_tail;     /* free-running byte index of what the client has consumed */
    uint32_t event_sleeping; /* != 0: the client sleeps on event_head */
    uint8_t pad2[ORION_SPACING - 8];
    /* 384: rarely written, read by the worker after it published */
    uint32_t space_waiting;                    /* != 0: the client sleeps on tail, the ring being full */
    uint32_t stage_waiting[ORION_STAGE_COUNT]; /* number of client threads that sleep on stage_done[i] */
    uint8_t pad3[ORION_SPACING - 4 - 4 * ORION_STAGE_COUNT];
    /* 512 */
    orion_waiting_line_t slots[ORION_REPLY_SLOTS];
} orion_command_control_t;

typedef struct orion_stage_line {
    uint32_t done; /* sequence of the last use the worker is done with; futex word */
    uint8_t pad[ORION_LINE - 4];
} orion_stage_line_t;

/* Written by the worker, which never reads it back. */
typedef struct orion_reply_control {
    orion_segment_header_t header;
    uint8_t pad0[ORION_SPACING - sizeof(orion_segment_header_t)];
    /* 128 */
    uint32_t tail; /* free-running byte index of what the worker has consumed; futex word of a full ring */
    uint8_t pad1[ORION_SPACING - 4];
    /* 256: read by the client at each commit */
    uint32_t worker_sleeping; /* counts: odd = asleep on head. One wake per odd value is enough */
    uint32_t worker_cpu;      /* where the worker's loop last waited, + 1; 0 = unknown */
    uint8_t pad2[ORION_SPACING - 8];
    /* 384 */
    uint64_t heartbeat; /* monotonic ns of the worker's loop when it last went to sleep or woke */
    uint8_t pad3[ORION_SPACING - 8];
    /* 512 */
    uint32_t event_head; /* free-running byte index behind the newest event; futex word */
    uint8_t pad4[ORION_SPACING - 4];
    /* 640 */
    orion_stage_line_t stages[ORION_STAGE_COUNT];
} orion_reply_control_t;

#define ORION_COMMAND_CONTROL_BYTES (16u * 1024u)
#define ORION_REPLY_CONTROL_BYTES 4096u

#define ORION_COMMAND_RING_OFFSET ORION_COMMAND_CONTROL_BYTES
#define ORION_COMMAND_STAGE_OFFSET (ORION_COMMAND_RING_OFFSET + ORION_RING_BYTES)
#define ORION_COMMAND_SEGMENT_BYTES (ORION_COMMAND_STAGE_OFFSET + ORION_STAGE_COUNT * ORION_STAGE_BYTES)

#define ORION_REPLY_SLOTS_OFFSET ORION_REPLY_CONTROL_BYTES
#define ORION_REPLY_EVENT_OFFSET (ORION_REPLY_SLOTS_OFFSET + ORION_REPLY_SLOTS * ORION_REPLY_BYTES)
#define ORION_REPLY_SEGMENT_BYTES (ORION_REPLY_EVENT_OFFSET + ORION_EVENT_BYTES)

static_assert(sizeof(orion_segment_header_t) == 32, "shared layout");
static_assert(offsetof(orion_command_control_t, head) == 128, "shared layout");
static_assert(offsetof(orion_command_control_t, event_tail) == 256, "shared layout");
static_assert(offsetof(orion_command_control_t, space_waiting) == 384, "shared layout");
static_assert(offsetof(orion_command_control_t, slots) == 512, "shared layout");
static_assert(sizeof(orion_waiting_line_t) == ORION_LINE, "one line per thread");
static_assert(sizeof(orion_command_control_t) == 512 + 64 * ORION_REPLY_SLOTS, "shared layout");
static_assert(sizeof(orion_command_control_t) <= ORION_COMMAND_CONTROL_BYTES, "fits its pages");
static_assert(offsetof(orion_reply_control_t, tail) == 128, "shared layout");
static_assert(offsetof(orion_reply_control_t, worker_sleeping) == 256, "shared layout");
static_assert(offsetof(orion_reply_control_t, heartbeat) == 384, "shared layout");
static_assert(offsetof(orion_reply_control_t, event_head) == 512, "shared layout");
static_assert(offsetof(orion_reply_control_t, stages) == 640, "shared layout");
static_assert(sizeof(orion_reply_control_t) <= ORION_REPLY_CONTROL_BYTES, "fits its page");
static_assert((ORION_RING_BYTES & (ORION_RING_BYTES - 1)) == 0, "indices are masked");
static_assert((ORION_EVENT_BYTES & (ORION_EVENT_BYTES - 1)) == 0, "indices are masked");
static_assert(ORION_RECORD_MAX <= ORION_RING_BYTES / 4, "a record and its padding always fit an empty ring");
static_assert(ORION_COMMAND_SEGMENT_BYTES % 4096 == 0 && ORION_REPLY_SEGMENT_BYTES % 4096 == 0, "whole pages");

/* Where things are in a mapped segment. */
static inline uint8_t *orion_command_ring(void *command)
{
    return (uint8_t *)command + ORION_COMMAND_RING_OFFSET;
}
static inline uint8_t *orion_command_stage(void *command, uint32_t index)
{
    return (uint8_t *)command + ORION_COMMAND_STAGE_OFFSET + (size_t)index * ORION_STAGE_BYTES;
}
static inline orion_reply_t *orion_reply_slot(void *reply, uint32_t slot)
{
    return (orion_reply_t *)((uint8_t *)reply + ORION_REPLY_SLOTS_OFFSET) + slot;
}
static inline uint8_t *orion_reply_events(void *reply)
{
    return (uint8_t *)reply + ORION_REPLY_EVENT_OFFSET;
}

#endif
