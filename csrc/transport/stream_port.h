/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's end of a session without shared memory: a connected stream socket, see wire/frame.h. */
#ifndef ORION_TRANSPORT_STREAM_PORT_H
#define ORION_TRANSPORT_STREAM_PORT_H

#include "transport/port.h"

/* The socket is taken over, also on failure; hello and welcome have gone, or go, over it before anything of ours. It
 * makes its descriptors here, so that a cage may be entered afterwards. Of the config epoch, nonce, stream and key count. */
orion_status_t orion_port_create_stream(const orion_port_config_t *config, int socket, orion_port_t **port_p, char *why,
                                        size_t why_bytes);

#endif
