/* SPDX-License-Identifier: Apache-2.0 */
/* The shared memory of a channel. Each side has one segment, which it alone writes and the other maps read-only:
 *
 *   control, 8 KiB | ring, 256 KiB: its messages | 32 reply slots of 4 KiB: its answers to the other side's calls
 *
 * and up to 64 extents, memory of its arena. Words that are written at different times by different threads are on
 * lines of their own. */
#ifndef ORION_CHANNEL_LAYOUT_H
#define ORION_CHANNEL_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "orion/channel.h"
#include "shm/layout.h"
#include "wire/record.h"

#define ORION_CHANNEL_MAGIC 0x6c6e6e686341524fULL
#define ORION_CHANNEL_VERSION 1u

#define ORION_CHANNEL_RING_BYTES (256u * 1024u)
#define ORION_CHANNEL_EXTENTS 64u
#define ORION_CHANNEL_REFERENCES 1024u /* blocks that the other side may hold at once */

/* In orion_channel_control_t.slot_waiting, beside the number of sleeping threads. */
#define ORION_SLOT_BELL 0x80000000u

typedef struct orion_channel_control {
    orion_segment_header_t header;
    uint8_t pad0[ORION_SPACING - sizeof(orion_segment_header_t)];
    /* 128: with each message */
    uint32_t head; /* free-running byte index behind the newest record; futex word of the reader */
    uint8_t pad1[ORION_SPACING - 4];
    /* 256: as the reader of the other side's ring */
    uint32_t tail; /* free-running byte index of what has been consumed; futex word of a full ring */
    uint8_t pad2[ORION_SPACING - 4];
    /* 384: rarely written; the other side looks here after each message. The first two are read as one */
    uint32_t sleeping;      /* counts: odd = asleep on the other side's head. One wake per odd value is enough */
    uint32_t bell;          /* counts: odd = wants a packet on the socket with the next message */
    uint32_t cpu;           /* where a thread of ours last waited, + 1; 0 = unknown */
    uint32_t closed;        /* we went on purpose */
    uint32_t space_waiting; /* threads asleep on the other side's tail */
    uint32_t arena_waiting; /* threads asleep on the other side's releases */
    uint8_t pad3[ORION_SPACING - 24];
    /* 512 */
    uint32_t releases; /* of the other side's blocks, so far; futex word */
    uint8_t pad4[ORION_SPACING - 4];
    /* 640: written when a caller goes to sleep, read with each reply */
    uint32_t slot_waiting[ORION_CHANNEL_CALLS]; /* threads asleep on the slot's sequence | ORION_SLOT_BELL */
    /* 768: while a long message is copied into the arena; the other side may copy along */
    uint32_t filled; /* pages of it that are there */
    uint8_t pad5[4096 - 772];
    /* 4096 */
    uint32_t released[ORION_CHANNEL_REFERENCES]; /* the generation of the reference that was released last */
} orion_channel_control_t;

#define ORION_CHANNEL_RING_OFFSET ((uint32_t)sizeof(orion_channel_control_t))
#define ORION_CHANNEL_SLOTS_OFFSET (ORION_CHANNEL_RING_OFFSET + ORION_CHANNEL_RING_BYTES)
#define ORION_CHANNEL_SEGMENT_BYTES (ORION_CHANNEL_SLOTS_OFFSET + ORION_CHANNEL_CALLS * ORION_REPLY_BYTES)

static_assert(offsetof(orion_channel_control_t, head) == 128, "shared layout");
static_assert(offsetof(orion_channel_control_t, tail) == 256, "shared layout");
static_assert(offsetof(orion_channel_control_t, sleeping) == 384, "shared layout");
static_assert(offsetof(orion_channel_control_t, bell) == 388, "read together with sleeping");
static_assert(offsetof(orion_channel_control_t, releases) == 512, "shared layout");
static_assert(offsetof(orion_channel_control_t, slot_waiting) == 640, "shared layout");
static_assert(offsetof(orion_channel_control_t, filled) == 768, "shared layout");
static_assert(offsetof(orion_channel_control_t, released) == 4096, "shared layout");
static_assert(sizeof(orion_channel_control_t) == 8192, "whole pages");
static_assert(ORION_CHANNEL_SEGMENT_BYTES % 4096 == 0, "whole pages");
static_assert(ORION_CHANNEL_INLINE <= ORION_REPLY_DATA, "a reply holds what a message holds");

static inline uint8_t *orion_channel_ring(const orion_channel_control_t *control)
{
    return (uint8_t *)(uintptr_t)control + ORION_CHANNEL_RING_OFFSET;
}
static inline orion_reply_t *orion_channel_slot(const orion_channel_control_t *control, uint32_t slot)
{
    return (orion_reply_t *)(void *)((uint8_t *)(uintptr_t)control + ORION_CHANNEL_SLOTS_OFFSET) + slot;
}

/* ---- what is in a record, and in a reply's `result` ---- */

/* opcode: kind, 3 bits | BULK | bytes of padding, 3 bits | WHOLE | tag, 8 bits */
#define ORION_CHANNEL_PART 3u          /* a record: the next piece of the message before it */
#define ORION_CHANNEL_FILLED 4u        /* a record: the message before it, which was still being copied, is complete */
#define ORION_CHANNEL_BULK 0x0008u     /* the payload begins with an orion_bulk_place_t */
#define ORION_CHANNEL_PADDING_SHIFT 4u /* the payload's length is a multiple of 8 in the ring */
#define ORION_CHANNEL_WHOLE 0x0080u    /* the bulk is the message */
#define ORION_CHANNEL_TAG_SHIFT 8u

typedef struct orion_bulk_place {
    uint64_t offset;     /* in the extent */
    uint64_t bytes;      /* in pieces: of all of them */
    uint32_t extent;     /* ORION_EXTENT_PIECES: pieces follow, each a record of kind PART */
    uint32_t reference;  /* index into released[] of the receiver */
    uint32_t generation; /* what to write there */
    uint32_t filling; /* 1: of a message in the ring whose bytes are still being copied; a record FILLED comes next */
} orion_bulk_place_t;

#define ORION_EXTENT_PIECES 0xffffffffu
#define ORION_FILLED_PAGE 4096u /* unit of `filled` */

static_assert(sizeof(orion_bulk_place_t) == 32, "wire layout");
static_assert(sizeof(((orion_message_t *)0)->copy) >=
                  sizeof(orion_record_t) + sizeof(orion_bulk_place_t) + ORION_CHANNEL_INLINE,
              "the longest record fits a message");

#define ORION_CHANNEL_RECORD_MAX (ORION_RECORD_HEADER + (uint32_t)sizeof(orion_bulk_place_t) + ORION_CHANNEL_INLINE)

#endif
