/* SPDX-License-Identifier: Apache-2.0 */
/* The frame decoder, see frames.h. Fuzzed by tests/fuzz/fuzz_frames.c. */
#define _GNU_SOURCE
#include "transport/frames.h"

#include <string.h>

#include "base/atomic.h"
#include "shm/layout.h"

#define BULK_FRAMES 4   /* without a staging frame: the stream is no bulk transfer any more */
#define BULK_AHEAD 512u /* what is read with the end of a chunk: the next record and header, hardly of the next chunk */

void orion_frames_init(orion_frames_t *frames, uint8_t *buffer, uint32_t epoch, orion_frames_place_fn place, void *self)
{
    *frames = (orion_frames_t){.epoch = epoch, .place = place, .self = self, .buffer = buffer};
}

static orion_status_t refuse(orion_frames_t *frames, const char *complaint)
{
    frames->complaint = complaint;
    return ORION_PROTOCOL;
}

/* The header of a staging frame has been read: its bytes begin in the buffer and go on in the stream. */
static orion_status_t begin_body(orion_frames_t *frames, const orion_record_t *header)
{
    uint32_t bytes = header->bytes - ORION_RECORD_HEADER, here = frames->end - frames->at;
    frames->staged = *header;
    frames->body = frames->place(frames->self, &frames->staged, bytes);
    if (frames->body == NULL)
        return refuse(frames, "a staging chunk came that nobody can take now");
    if (here > bytes)
        here = bytes;
    memcpy(frames->body, frames->buffer + frames->at, here);
    frames->at += here;
    frames->body += here;
    frames->body_left = bytes - here;
    frames->in_body = true;
    frames->bulk = BULK_FRAMES;
    return ORION_OK;
}

orion_status_t orion_frames_next(orion_frames_t *frames, const orion_record_t **frame_p)
{
    if (frames->complaint != NULL)
        return ORION_PROTOCOL;
    if (!frames->in_body) {
        orion_record_t header;
        uint32_t available = frames->end - frames->at;
        if (available < ORION_RECORD_HEADER)
            return ORION_AGAIN;
        memcpy(&header, frames->buffer + frames->at, sizeof(header));
        if (header.bytes < ORION_RECORD_HEADER || header.bytes % ORION_RECORD_ALIGN != 0)
            return refuse(frames, "a frame's length is no multiple of 8 from 16 on");
        if (header.epoch != frames->epoch)
            return refuse(frames, "a frame belongs to another session");
        if (header.opcode == ORION_OPCODE_PAD)
            return refuse(frames, "a frame has no kind");
        if (header.opcode == ORION_FRAME_STAGE) {
            if (header.bytes - ORION_RECORD_HEADER > ORION_STAGE_BYTES)
                return refuse(frames, "a staging frame is longer than a chunk");
            frames->at += ORION_RECORD_HEADER;
            orion_status_t status = begin_body(frames, &header);
            if (status != ORION_OK)
                return status;
        } else {
            if (header.bytes > ORION_RECORD_MAX)
                return refuse(frames, "a frame is longer than allowed");
            if (header.bytes > available)
                return ORION_AGAIN;
            *frame_p = (const orion_record_t *)(const void *)(frames->buffer + frames->at);
            frames->at += (uint32_t)orion_index_nospec(header.bytes, (uint64_t)ORION_RECORD_MAX + 1);
            if (frames->bulk > 0)
                frames->bulk--;
            return ORION_OK;
        }
    }
    if (frames->body_left > 0)
        return ORION_AGAIN;
    frames->in_body = false;
    *frame_p = &frames->staged;
    return ORION_OK;
}

int orion_frames_room(orion_frames_t *frames, struct iovec room[2])
{
    int count = 0;
    if (frames->at == frames->end) {
        frames->at = frames->end = 0;
    } else if (ORION_FRAMES_BUFFER - frames->end < ORION_RECORD_MAX) { /* at least the rest of any frame fits then */
        memmove(frames->buffer, frames->buffer + frames->at, frames->end - frames->at);
        frames->end -= frames->at;
        frames->at = 0;
    }
    if (frames->body_left > 0)
        room[count++] = (struct iovec){.iov_base = frames->body, .iov_len = frames->body_left};
    uint32_t ahead = ORION_FRAMES_BUFFER - frames->end;
    if (frames->bulk > 0 && ahead > BULK_AHEAD && frames->end - frames->at < BULK_AHEAD)
        ahead = BULK_AHEAD;
    room[count++] = (struct iovec){.iov_base = frames->buffer + frames->end, .iov_len = ahead};
    return count;
}

void orion_frames_received(orion_frames_t *frames, size_t bytes)
{
    uint32_t to_body = bytes < frames->body_left ? (uint32_t)bytes : frames->body_left;
    if (to_body > 0) { /* there may be no body at all, and nothing may be added to nowhere */
        frames->body += to_body;
        frames->body_left -= to_body;
    }
    frames->end += (uint32_t)(bytes - to_body);
}

static orion_status_t receive(orion_frames_t *frames, orion_bytestream_t *stream, bool wait, const struct iovec *room,
                              int count)
{
    size_t bytes;
    if (room[0].iov_len == 0)
        return ORION_AGAIN; /* full of frames that nobody has taken */
    orion_status_t status = orion_bytestream_receive(stream, room, (size_t)count, wait, &bytes);
    if (status == ORION_OK)
        orion_frames_received(frames, bytes);
    else if (status == ORION_PROTOCOL)
        return refuse(frames, stream->complaint);
    return status;
}

orion_status_t orion_frames_receive(orion_frames_t *frames, orion_bytestream_t *stream, bool wait)
{
    struct iovec room[2];
    return receive(frames, stream, wait, room, orion_frames_room(frames, room));
}

orion_status_t orion_frames_receive_behind(orion_frames_t *frames, orion_bytestream_t *stream)
{
    struct iovec room = {.iov_base = frames->buffer + frames->end, .iov_len = ORION_FRAMES_BUFFER - frames->end};
    return frames->in_body ? ORION_AGAIN : receive(frames, stream, false, &room, 1);
}

bool orion_frames_peek(const orion_frames_t *frames, uint16_t kind, uint32_t *sequence_p)
{
    bool found = false;
    uint32_t at = frames->at;
    while (!frames->in_body && frames->end - at >= ORION_RECORD_HEADER) {
        orion_record_t header;
        memcpy(&header, frames->buffer + at, sizeof(header));
        if (header.bytes < ORION_RECORD_HEADER || header.bytes > frames->end - at || header.epoch != frames->epoch ||
            header.opcode == ORION_FRAME_STAGE)
            break;
        if (header.opcode == kind) {
            *sequence_p = header.sequence;
            found = true;
        }
        at += header.bytes;
    }
    return found;
}

bool orion_frames_last(const orion_frames_t *frames, void *to, uint32_t bytes)
{
    uint32_t of_body = frames->in_body ? frames->staged.bytes - ORION_RECORD_HEADER - frames->body_left : 0;
    const uint8_t *end = frames->in_body ? frames->body : frames->buffer + frames->end;
    if ((frames->in_body ? of_body : frames->end) < bytes)
        return false;
    memcpy(to, end - bytes, bytes);
    return true;
}
