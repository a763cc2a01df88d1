/* SPDX-License-Identifier: Apache-2.0 */
/* The header of every record in a ring, and of every reply. Little endian, 8-byte aligned, no pointers. */
#ifndef ORION_WIRE_RECORD_H
#define ORION_WIRE_RECORD_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define ORION_RECORD_ALIGN 8u
#define ORION_RECORD_MAX (32u * 1024u) /* whole record, header included */
#define ORION_OPCODE_PAD 0u            /* skip `bytes`: a record never wraps around the end of the ring */
#define ORION_SLOT_NONE 0xffffu        /* nobody waits for an answer */

typedef struct orion_record {
    uint32_t bytes;    /* whole record with this header; a multiple of 8 */
    uint16_t opcode;   /* csrc/spec/opcodes.toml; 0 = pad */
    uint16_t slot;     /* reply slot, or ORION_SLOT_NONE */
    uint32_t sequence; /* of the slot's thread: the answer carries it back */
    uint32_t epoch;    /* of the session: words of an earlier life are recognised as such */
} orion_record_t;

static_assert(sizeof(orion_record_t) == 16, "the record header is 16 bytes on the wire");
static_assert(offsetof(orion_record_t, opcode) == 4, "wire layout");
static_assert(offsetof(orion_record_t, sequence) == 8, "wire layout");

#define ORION_RECORD_HEADER ((uint32_t)sizeof(orion_record_t))
#define ORION_PAYLOAD_MAX (ORION_RECORD_MAX - ORION_RECORD_HEADER)

static inline void *orion_record_payload(orion_record_t *record)
{
    return record + 1;
}
static inline const void *orion_record_payload_const(const orion_record_t *record)
{
    return record + 1;
}
static inline uint32_t orion_record_payload_bytes(const orion_record_t *record)
{
    return record->bytes - ORION_RECORD_HEADER;
}
static inline uint32_t orion_record_round(uint32_t bytes)
{
    return (bytes + (ORION_RECORD_ALIGN - 1)) & ~(ORION_RECORD_ALIGN - 1);
}

/* A reply slot: one per client thread; the first 48 bytes of data share the line of the sequence. */
#define ORION_REPLY_BYTES 4096u
#define ORION_REPLY_DATA (ORION_REPLY_BYTES - 16u)
#define ORION_REPLY_INLINE 48u /* of the data ride in the line of the sequence */

typedef struct orion_reply {
    uint32_t sequence; /* futex word; written last, with release */
    int32_t result;    /* CUresult of this call */
    uint32_t bytes;    /* valid bytes of data */
    int32_t sticky;    /* CUresult of an earlier asynchronous failure, or 0 */
    uint8_t data[ORION_REPLY_DATA];
} orion_reply_t;

static_assert(sizeof(orion_reply_t) == ORION_REPLY_BYTES, "a reply slot is one page");
static_assert(offsetof(orion_reply_t, data) == 16, "48 bytes of data ride in the line of the sequence");

#endif
