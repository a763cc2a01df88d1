/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between ordinary memory of this process and memory of the device, in chunks through the staging area. */
#ifndef ORION_CLIENT_BULK_H
#define ORION_CLIENT_BULK_H

#include "image.h"
#include "session.h"

/* Where bytes that come from the device go: rows of width bytes, which lie from_pitch apart at the device and
 * to_pitch apart here. A linear copy is one row. */
typedef struct {
    uint8_t *to;
    size_t width, from_pitch, to_pitch;
} orion_rows_t;

/* The source may be reused when this returns; the copy itself is ordered within the stream. No round trip. */
CUresult orion_bulk_in(orion_session_t *session, uint64_t to, const void *from, size_t bytes, uint64_t stream);
/* Complete when this returns. bytes counts the gaps between rows. */
CUresult orion_bulk_out(orion_session_t *session, const orion_rows_t *rows, uint64_t from, size_t bytes,
                        uint64_t stream);
/* Sends a module image, of which the server keeps a private copy under the number *upload_p. */
CUresult orion_bulk_upload(orion_session_t *session, const orion_image_t *image, uint32_t *upload_p);

#endif
