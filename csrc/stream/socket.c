/* SPDX-License-Identifier: Apache-2.0 */
/* The plain byte stream, see socket.h. */
#define _GNU_SOURCE
#include "stream/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/fd.h"

orion_status_t orion_socket_send(int socket, const struct iovec *parts, size_t count, size_t *sent_p)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = count};
    orion_status_t status = ORION_OK;
    int saved = errno;
    ssize_t n;
    do {
        n = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n > 0)
        *sent_p = (size_t)n;
    else
        status = n == 0 || errno == EAGAIN || errno == EWOULDBLOCK ? ORION_AGAIN : ORION_PEER_GONE;
    errno = saved;
    return status;
}

orion_status_t orion_socket_receive(int socket, const struct iovec *room, size_t count, bool wait, size_t *received_p)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)room, .msg_iovlen = count};
    orion_status_t status = ORION_OK;
    int saved = errno;
    ssize_t n;
    do {
        n = recvmsg(socket, &message, wait ? 0 : MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0)
        *received_p = (size_t)n;
    else
        status = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? ORION_AGAIN : ORION_PEER_GONE;
    errno = saved;
    return status;
}

void orion_socket_set_up(int socket)
{
    int on = 1, no = 0;
    struct timeval slice = {.tv_usec = ORION_BYTESTREAM_SLICE_NS / 1000};
    (void)ioctl(socket, FIONBIO, &no); /* fcntl has a new symbol version */
    (void)setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice));
    (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* a test's socket may be no TCP one */
}

static orion_status_t socket_send(orion_bytestream_t *s, const struct iovec *parts, size_t count, size_t *sent_p)
{
    return orion_socket_send(s->socket, parts, count, sent_p);
}

static orion_status_t socket_receive(orion_bytestream_t *s, const struct iovec *room, size_t count, bool wait,
                                     size_t *received_p)
{
    return orion_socket_receive(s->socket, room, count, wait, received_p);
}

static int socket_arm(orion_bytestream_t *s, unsigned wishes, struct pollfd polled[ORION_BYTESTREAM_FDS])
{
    short events = (short)((wishes & ORION_BYTESTREAM_READ ? POLLIN : 0) |
                           (wishes & ORION_BYTESTREAM_WRITE ? POLLOUT : 0));
    polled[0] = (struct pollfd){.fd = s->socket, .events = events};
    return 1;
}

static void socket_fork_child(orion_bytestream_t *s)
{
    orion_fd_close(s->socket);
    s->socket = -1;
}

static void socket_close(orion_bytestream_t *s)
{
    orion_fd_close(s->socket);
    free(s);
}

static const orion_bytestream_ops_t socket_ops = {
    .name = "tcp",
    .send = socket_send,
    .receive = socket_receive,
    .arm = socket_arm,
    .fork_child = socket_fork_child,
    .close = socket_close,
};

orion_status_t orion_bytestream_of_socket(int socket, orion_bytestream_t **stream_p)
{
    orion_bytestream_t *s = malloc(sizeof(*s));
    if (s == NULL) {
        orion_fd_close(socket);
        return ORION_NO_MEMORY;
    }
    *s = (orion_bytestream_t){.ops = &socket_ops, .socket = socket, .over_socket = true};
    orion_socket_set_up(socket);
    *stream_p = s;
    return ORION_OK;
}
