/* SPDX-License-Identifier: Apache-2.0 */
/* Copies and fills: short ones on the caller, long ones in parts on the pool. Any thread. */
#ifndef ORION_DEVICES_TRANSFER_H
#define ORION_DEVICES_TRANSFER_H

#include "queue.h"

CUresult orion_transfer_copy(orion_queue_t *queue, orion_stream_t *stream, uint64_t dst, uint64_t dst_pitch,
                             uint64_t src, uint64_t src_pitch, uint64_t width, uint64_t height, orion_done_fn done,
                             void *arg);
CUresult orion_transfer_write(orion_queue_t *queue, orion_stream_t *stream, uint64_t dst, const void *data,
                              uint32_t bytes);
CUresult orion_transfer_fill(orion_queue_t *queue, orion_stream_t *stream, uint64_t dst, uint32_t value,
                             uint32_t element, uint64_t pitch, uint64_t width, uint64_t height, orion_done_fn done,
                             void *arg);

#endif
