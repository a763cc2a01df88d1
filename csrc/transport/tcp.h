/* SPDX-License-Identifier: Apache-2.0 */
/* The client's end to a server that is reached by HOST:PORT. */
#ifndef ORION_TRANSPORT_TCP_H
#define ORION_TRANSPORT_TCP_H

#include "transport/link.h"

/* Takes the best transport that works: files in /dev/shm when the server is on this host and shares them, else the
 * socket itself, and says in one line which and why. hello->transport narrows the choice. transport/protect.h says when
 * the socket is encrypted, and refused. ORION_TCP_TIMEOUT: seconds of silence, while an answer is due, after which the
 * server is given up; default 10, 0 = never. */
orion_status_t orion_tcp_open(const char *address, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                              orion_link_t **link_p, char *why, size_t why_bytes);

/* The stream transport on a connected socket, which is taken over also on failure. name: of the server, for messages. */
orion_status_t orion_tcp_open_socket(int socket, const char *name, const orion_hello_t *hello,
                                     orion_welcome_t *welcome_p, orion_link_t **link_p, char *why, size_t why_bytes);

#endif
