/* SPDX-License-Identifier: Apache-2.0 */
/* The one thing a client sends on its session's socket after the hello: a descriptor of memory that its worker shall map
 * at the same address. The call that has the worker do it goes through the ring as usual, after this. */
#ifndef ORION_TRANSPORT_OFFER_H
#define ORION_TRANSPORT_OFFER_H

#include "transport/link.h"

/* One caller at a time. ORION_REFUSED: the link has no socket that carries descriptors. In a twin there is nothing to
 * send: ORION_OK. */
orion_status_t orion_link_offer(orion_link_t *link, uint64_t address, uint64_t bytes, int fd);

#endif
