/* SPDX-License-Identifier: Apache-2.0 */
/* What a session's socket carries where there is no shared memory. Everything is a frame: a record's header, then a
 * payload whose length is a multiple of 8. From the client come records, exactly as they would lie in the ring, with
 * frames of the transport's own between them; from the worker only the latter. */
#ifndef ORION_WIRE_FRAME_H
#define ORION_WIRE_FRAME_H

#include "wire/hello.h"
#include "wire/record.h"

typedef enum orion_frame_kind {
    ORION_FRAME_FIRST = 0xff00,  /* operations have smaller numbers */
    ORION_FRAME_STAGE = 0xff01,  /* both ways: slot = chunk, sequence = its use; payload = its bytes. The client's comes
                                  * before the record that names the chunk; the worker's says that it is done, too */
    ORION_FRAME_DONE = 0xff02,   /* worker: done with that use of the chunk; slot and sequence as above */
    ORION_FRAME_REPLY = 0xff03,  /* worker: slot, sequence; payload = orion_frame_reply_t and data */
    ORION_FRAME_EVENT = 0xff04,  /* worker: sequence = exact length of the payload */
    ORION_FRAME_CREDIT = 0xff05, /* client: sequence = bytes of event frames consumed so far, free-running */
    ORION_FRAME_PULSE = 0xff06,  /* worker: nothing but a sign of life, at most ORION_PULSE_NS after anything else */
    ORION_FRAME_NOTICE = 0xff07  /* supervisor, last of all: payload = orion_notice_t, the epitaph */
} orion_frame_kind_t;

#define ORION_PULSE_NS 1000000000LL
#define ORION_EVENT_WINDOW (64u * 1024u) /* bytes of event frames on their way, at most */

typedef struct orion_frame_reply {
    int32_t result;
    int32_t sticky;
    uint32_t bytes; /* exact length of the data */
    uint32_t reserved;
} orion_frame_reply_t;

#define ORION_EPITAPH_FRAME_BYTES (ORION_RECORD_HEADER + (uint32_t)sizeof(orion_notice_t))

static_assert(sizeof(orion_frame_reply_t) == 16, "wire layout");
static_assert(sizeof(orion_notice_t) % ORION_RECORD_ALIGN == 0, "a frame's payload");
static_assert(ORION_RECORD_HEADER + sizeof(orion_frame_reply_t) + ORION_REPLY_DATA <= ORION_RECORD_MAX, "replies fit");

#endif
