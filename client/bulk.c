/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staging is a ring of chunks. Going in, this thread fills the next chunk while the server empties earlier ones; coming
 * out, several chunks are asked for ahead of the one being read. Nothing waits for a reply but the last few bytes of a
 * copy out, whose reply carries the result of it all.
 */
#include "bulk.h"

#include "orion_generated/calls.h"

#include <string.h>

#define INLINE_IN 4096
#define INLINE_OUT 4032
#define IN_FLIGHT 8 /* of 16 chunks: 2 MiB ahead */

static orion_lock_t lock; /* one bulk copy at a time owns the ring's order */
static uint32_t next_upload;

CUresult orion_bulk_in(orion_session_t *session, uint64_t to, const void *from, size_t bytes, uint64_t stream)
{
    const uint8_t *p = from;
    CUresult result = CUDA_SUCCESS;

    if (bytes <= INLINE_IN)
        return bytes ? orion_post_orionCopyIn(session, to, stream, (uint32_t)bytes, p) : CUDA_SUCCESS;
    orion_lock(&lock);
    size_t left = bytes;
    while (left && !result) {
        orion_stage_t stage;
        orion_status_t status = orion_link_stage_claim(session->link, &stage);
        if (status) {
            result = orion_session_lost(session, status);
            break;
        }
        size_t n = orion_stage_part(&stage, bytes);
        if (n > left)
            n = left;
        status = orion_link_stage_send(session->link, &stage, p, n);
        result = status ? orion_session_lost(session, status)
                        : orion_post_orionCopyInStage(session, to, stream, (uint32_t)n, stage.index, stage.sequence);
        if (result)
            orion_link_stage_abort(session->link, &stage);
        p += n;
        to += n;
        left -= n;
    }
    orion_unlock(&lock);
    return result;
}

static void scatter(const orion_rows_t *rows, size_t position, const uint8_t *data, size_t bytes)
{
    while (bytes) {
        size_t row = position / rows->from_pitch, column = position % rows->from_pitch;
        size_t span = rows->from_pitch - column;
        if (span > bytes)
            span = bytes;
        if (column < rows->width) {
            size_t wanted = rows->width - column;
            memcpy(rows->to + row * rows->to_pitch + column, data, span < wanted ? span : wanted);
        }
        position += span;
        data += span;
        bytes -= span;
    }
}

static CUresult staged_out(orion_session_t *session, const orion_rows_t *rows, uint64_t from, size_t bytes,
                           uint64_t stream)
{
    struct {
        orion_stage_t stage;
        size_t at, bytes;
    } window[IN_FLIGHT];
    unsigned first = 0, count = 0;
    size_t asked = 0;
    CUresult result = CUDA_SUCCESS;

    orion_lock(&lock);
    while (!result && (asked < bytes || count)) {
        orion_status_t status;
        if (asked < bytes && count < IN_FLIGHT) {
            unsigned last = (first + count) % IN_FLIGHT;
            orion_stage_t *stage = &window[last].stage;
            status = orion_link_stage_claim(session->link, stage);
            if (status) {
                result = orion_session_lost(session, status);
                break;
            }
            size_t n = orion_stage_part(stage, bytes);
            if (n > bytes - asked)
                n = bytes - asked;
            window[last].at = asked;
            window[last].bytes = n;
            result = orion_post_orionCopyOutStage(session, from + asked, stream, (uint32_t)n, stage->index,
                                                  stage->sequence);
            if (result) {
                orion_link_stage_abort(session->link, stage);
                break;
            }
            asked += n;
            count++;
            continue;
        }
        const orion_stage_t *done = &window[first].stage;
        size_t at = window[first].at, n = window[first].bytes;
        int linear = at + n <= rows->width; /* all within the first row */
        status = linear ? orion_link_stage_collect(session->link, done, rows->to + at, n)
                        : orion_link_stage_await(session->link, done);
        if (status) {
            result = orion_session_lost(session, status);
            break;
        }
        if (!linear)
            scatter(rows, at, done->data, n);
        first = (first + 1) % IN_FLIGHT;
        count--;
    }
    orion_unlock(&lock);
    return result;
}

CUresult orion_bulk_out(orion_session_t *session, const orion_rows_t *rows, uint64_t from, size_t bytes,
                        uint64_t stream)
{
    uint8_t tail[INLINE_OUT];
    size_t tail_bytes = bytes < INLINE_OUT ? bytes : INLINE_OUT, head = bytes - tail_bytes;
    uint32_t got = 0;
    CUresult result = CUDA_SUCCESS;

    if (!bytes)
        return CUDA_SUCCESS;
    if (head)
        result = staged_out(session, rows, from, head, stream);
    if (!result)
        result = orion_call_orionCopyOut(session, from + head, stream, (uint32_t)tail_bytes, tail, sizeof tail, &got);
    if (!result && got != tail_bytes)
        result = orion_session_lost(session, ORION_PROTOCOL);
    if (!result)
        scatter(rows, head, tail, tail_bytes);
    return result;
}

CUresult orion_bulk_upload(orion_session_t *session, const orion_image_t *image, uint32_t *upload_p)
{
    uint32_t upload = __atomic_add_fetch(&next_upload, 1, __ATOMIC_RELAXED);
    size_t part = 0, in_part = 0;
    uint64_t offset = 0;

    CUresult result = orion_post_orionUploadBegin(session, upload, image->bytes);
    orion_lock(&lock);
    while (!result && offset < image->bytes) {
        orion_stage_t stage;
        orion_status_t status = orion_link_stage_claim(session->link, &stage);
        if (status) {
            result = orion_session_lost(session, status);
            break;
        }
        size_t filled = 0;
        while (filled < stage.bytes && part < image->count) {
            size_t n = image->parts[part].bytes - in_part;
            if (n > stage.bytes - filled)
                n = stage.bytes - filled;
            memcpy((uint8_t *)stage.data + filled, (const uint8_t *)image->parts[part].data + in_part, n);
            filled += n;
            in_part += n;
            if (in_part == image->parts[part].bytes) {
                part++;
                in_part = 0;
            }
        }
        status = orion_link_stage_send(session->link, &stage, stage.data, filled);
        result = status ? orion_session_lost(session, status)
                        : orion_post_orionUploadChunk(session, upload, stage.index, stage.sequence, (uint32_t)filled,
                                                      offset);
        if (result)
            orion_link_stage_abort(session->link, &stage);
        offset += filled;
    }
    orion_unlock(&lock);
    *upload_p = upload;
    return result;
}
