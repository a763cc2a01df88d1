/* SPDX-License-Identifier: Apache-2.0 */
/* Staging chunks and the event ring of a memory link: what flows beside calls. The contracts are those of link.h. */
#ifndef ORION_TRANSPORT_STREAMS_H
#define ORION_TRANSPORT_STREAMS_H

#include "transport/memory.h"

orion_status_t orion_memory_stage_claim(orion_link_t *base, orion_stage_t *stage_p);
orion_status_t orion_memory_stage_send(orion_link_t *base, const orion_stage_t *stage, const void *from, size_t bytes);
void orion_memory_stage_abort(orion_link_t *base, const orion_stage_t *stage);
orion_status_t orion_memory_stage_await(orion_link_t *base, const orion_stage_t *stage);
orion_status_t orion_memory_stage_collect(orion_link_t *base, const orion_stage_t *stage, void *to, size_t bytes);
orion_status_t orion_memory_event_wait(orion_link_t *base, int64_t timeout_ns, void *buffer, size_t capacity,
                                       size_t *bytes_p);

#endif
