/* SPDX-License-Identifier: Apache-2.0 */
/* The plain byte stream: a connected socket. And how a socket to another host is connected, judged and kept alive. */
#ifndef ORION_STREAM_SOCKET_H
#define ORION_STREAM_SOCKET_H

#include "stream/stream.h"

/* Takes the socket over, also on failure (ORION_NO_MEMORY). */
orion_status_t orion_bytestream_of_socket(int socket, orion_bytestream_t **stream_p);

/* What both the plain stream and those above a socket set: records go when we send them, a waiting recv returns after
 * ORION_BYTESTREAM_SLICE_NS. */
void orion_socket_set_up(int socket);
/* One system call each, as orion_bytestream_send and _receive. */
orion_status_t orion_socket_send(int socket, const struct iovec *parts, size_t count, size_t *sent_p);
orion_status_t orion_socket_receive(int socket, const struct iovec *room, size_t count, bool wait, size_t *received_p);

/* A socket connected within the limit, for each of the host's addresses, or -1 with a sentence, and errno: 0 where there
 * is no such host. */
int orion_socket_dial(const char *host, const char *port, int64_t limit_ns, char *why, size_t why_bytes);
/* To a server: a socket connected to "HOST:PORT" or "[V6]:PORT" within 5 seconds, or -1 with a sentence. */
int orion_socket_connect(const char *address, char *why, size_t why_bytes);
struct sockaddr;
bool orion_socket_is_loopback(const struct sockaddr *address);
/* Both ends of the connection have one address, or one of them has a loopback one: it never leaves this host. */
bool orion_socket_is_local(int socket);
/* The other end is a gateway of this network namespace: to a container on a bridge that is its own host. */
bool orion_socket_is_gateway(int socket);
/* Asks the kernel to notice within about `patience_s` seconds that the other host has gone. 0: leaves that alone. */
void orion_socket_keep_alive(int socket, int patience_s);

#endif
