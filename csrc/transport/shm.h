/* SPDX-License-Identifier: Apache-2.0 */
/* The client's end to a worker process on the same host: memfds over a unix socket, or files in /dev/shm. */
#ifndef ORION_TRANSPORT_SHM_H
#define ORION_TRANSPORT_SHM_H

#include "transport/link.h"

/* address: "unix:PATH" or "HOST:PORT". */
orion_status_t orion_shm_open(const char *address, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                              orion_link_t **link_p, char *why, size_t why_bytes);

/* On a connected socket, which is taken over also on failure. name: of the server, for messages. */
orion_status_t orion_shm_open_socket(int socket, const char *name, const orion_hello_t *hello,
                                     orion_welcome_t *welcome_p, orion_link_t **link_p, char *why, size_t why_bytes);

#endif
