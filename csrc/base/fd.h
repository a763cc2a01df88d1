/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors over unix sockets, and whole-message reads and writes with a deadline. */
#ifndef ORION_BASE_FD_H
#define ORION_BASE_FD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define ORION_FDS_MAX 4 /* more than any message of ours carries */

/* Sends all `bytes`, the descriptors with the first of them. ORION_PEER_GONE when the other end is closed. */
orion_status_t orion_fd_send(int socket, const void *data, size_t bytes, const int *fds, int fd_count);

/* Receives exactly `bytes` before `deadline_ns` (monotonic; < 0 = no limit), and up to fd_room descriptors; those
 * that do not fit are closed. Unused places of `fds` are -1. On failure no descriptor is left open. */
orion_status_t orion_fd_receive(int socket, void *data, size_t bytes, int *fds, int fd_room, int64_t deadline_ns);

/* One packet that is there already, of a socket that keeps packets apart (SOCK_SEQPACKET): at most `room` bytes of it, and
 * its descriptors as above. ORION_AGAIN: there is none; ORION_PEER_GONE: there will be none. */
orion_status_t orion_fd_receive_packet(int socket, void *data, size_t room, size_t *bytes_p, int *fds, int fd_room);

/* Sends one packet at once or not at all: ORION_AGAIN when the other end has not read what lies there already. */
orion_status_t orion_fd_send_packet(int socket, const void *data, size_t bytes, const int *fds, int fd_count);

/* Readable before the deadline (monotonic; < 0 = no limit)? ORION_TIMEOUT if not. */
orion_status_t orion_fd_await_readable(int socket, int64_t deadline_ns);

/* Has the other end hung up? ORION_OK, ORION_AGAIN when there is something to read, ORION_PEER_GONE. */
orion_status_t orion_fd_witness(int socket);

/* close() that is fine with -1 and leaves errno alone. */
void orion_fd_close(int fd);

#endif
