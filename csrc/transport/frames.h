/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts the bytes of a stream into frames. A frame is complete and checked before anything in it is believed: its
 * length before room is made for it, its epoch, its alignment. Ordinary frames are handed out in place, from a private
 * buffer; the bytes of a staging chunk go straight to where the owner wants them. Used by one thread at a time. */
#ifndef ORION_TRANSPORT_FRAMES_H
#define ORION_TRANSPORT_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/status.h"
#include "stream/stream.h"
#include "wire/frame.h"

#define ORION_FRAMES_BUFFER (4u * ORION_RECORD_MAX)

/* Where the `bytes` bytes of this staging frame go, or NULL: it may not come now. */
typedef uint8_t *(*orion_frames_place_fn)(void *self, const orion_record_t *frame, uint32_t bytes);

typedef struct orion_frames {
    uint32_t epoch;
    orion_frames_place_fn place;
    void *self;
    uint8_t *buffer;       /* ORION_FRAMES_BUFFER bytes, 16-aligned, the owner's */
    uint32_t at, end;      /* what of it is not read yet */
    orion_record_t staged; /* the staging frame whose bytes are coming */
    uint8_t *body;         /* where the next of them goes */
    uint32_t body_left;
    bool in_body;
    uint32_t bulk; /* frames since the last staging frame, downwards: while there are such, little is read ahead */
    const char *complaint;
} orion_frames_t;

void orion_frames_init(orion_frames_t *frames, uint8_t *buffer, uint32_t epoch, orion_frames_place_fn place,
                       void *self);

/* The next complete frame, valid until the next call of either function. Of a staging frame only the header comes, when
 * all its bytes are in place. ORION_AGAIN: more bytes are needed. ORION_PROTOCOL: frames->complaint says why. */
orion_status_t orion_frames_next(orion_frames_t *frames, const orion_record_t **frame_p);

/* Where the next bytes of the stream belong: one or two pieces, never empty after orion_frames_next said AGAIN. */
int orion_frames_room(orion_frames_t *frames, struct iovec room[2]);
void orion_frames_received(orion_frames_t *frames, size_t bytes);

/* Both with a receive between. ORION_OK: something came. ORION_AGAIN: nothing is there, or (wait) came in a slice.
 * ORION_PEER_GONE: the stream has ended. ORION_PROTOCOL: what came is none of its bytes; frames->complaint. */
orion_status_t orion_frames_receive(orion_frames_t *frames, orion_bytestream_t *stream, bool wait);

/* Never waits, and leaves the frame that orion_frames_next gave last where it is. */
orion_status_t orion_frames_receive_behind(orion_frames_t *frames, orion_bytestream_t *stream);
/* The sequence of the last complete frame of that kind that lies in the buffer, unread; nothing is consumed. */
bool orion_frames_peek(const orion_frames_t *frames, uint16_t kind, uint32_t *sequence_p);
/* The last bytes that came, whatever they belong to. false: so many do not lie together. */
bool orion_frames_last(const orion_frames_t *frames, void *to, uint32_t bytes);

#endif
