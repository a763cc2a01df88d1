/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a stream of frames, arriving in pieces: the first byte says how large. Frames that come out are whole and
 * within the buffer, chunks stay within their places, and nothing comes twice. */
#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"
#include "transport/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct target {
    uint8_t *chunk; /* of exactly the bytes that may come: the sanitizer watches its end */
    uint32_t bytes;
} target_t;

static uint8_t *place(void *self, const orion_record_t *frame, uint32_t bytes)
{
    target_t *t = self;
    if (bytes > ORION_STAGE_BYTES)
        abort();
    if (frame->slot >= ORION_STAGE_COUNT)
        return NULL;
    free(t->chunk);
    t->chunk = malloc(bytes + 1u);
    t->bytes = bytes;
    return t->chunk;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    orion_frames_t frames;
    target_t target = {0};
    uint8_t *buffer = NULL;
    size_t at = 1, total = 0;
    uint32_t sequence;
    if (size < 1 || posix_memalign((void **)&buffer, 64, ORION_FRAMES_BUFFER) != 0)
        return 0;
    size_t piece = 1 + data[0] % 64u * 37u;
    orion_frames_init(&frames, buffer, 7, place, &target);
    for (;;) {
        const orion_record_t *frame;
        struct iovec room[2];
        orion_status_t status = orion_frames_next(&frames, &frame);
        if (status == ORION_PROTOCOL) {
            if (frames.complaint == NULL)
                abort();
            break;
        }
        if (status == ORION_OK) {
            if (frame->opcode == ORION_FRAME_STAGE) {
                if (frame->bytes - ORION_RECORD_HEADER != target.bytes)
                    abort();
            } else {
                const uint8_t *end = (const uint8_t *)frame + frame->bytes;
                volatile uint8_t last = end[-1];
                (void)last;
                if ((const uint8_t *)frame < buffer || end > buffer + ORION_FRAMES_BUFFER || frame->bytes < 16)
                    abort();
            }
            total += frame->bytes;
            if (frame->epoch != 7 || total > size)
                abort();
            (void)orion_frames_peek(&frames, ORION_FRAME_CREDIT, &sequence);
            continue;
        }
        if (at == size)
            break;
        int count = orion_frames_room(&frames, room);
        size_t n = piece < size - at ? piece : size - at, got = 0;
        for (int i = 0; i < count && n > 0; i++) {
            size_t here = room[i].iov_len < n ? room[i].iov_len : n;
            memcpy(room[i].iov_base, data + at, here);
            at += here;
            n -= here;
            got += here;
        }
        if (got == 0)
            abort(); /* it wants more and takes nothing */
        orion_frames_received(&frames, got);
        uint8_t tail[ORION_EPITAPH_FRAME_BYTES];
        (void)orion_frames_last(&frames, tail, sizeof(tail));
    }
    free(target.chunk);
    free(buffer);
    return 0;
}
