/* SPDX-License-Identifier: Apache-2.0 */
/* Socket helpers, see fd.h. */
#define _GNU_SOURCE
#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"

void orion_fd_close(int fd)
{
    if (fd < 0)
        return;
    int saved = errno;
    (void)close(fd);
    errno = saved;
}

typedef union control { /* the union aligns the buffer */
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * ORION_FDS_MAX)];
} control_t;

static void attach(struct msghdr *message, control_t *control, const int *fds, int fd_count)
{
    memset(control, 0, sizeof(*control));
    message->msg_control = control->bytes;
    message->msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * (size_t)fd_count);
}

orion_status_t orion_fd_send(int socket, const void *data, size_t bytes, const int *fds, int fd_count)
{
    control_t control;
    if (fd_count < 0 || fd_count > ORION_FDS_MAX)
        return ORION_INVALID;
    const char *at = data;
    while (bytes > 0) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)at, .iov_len = bytes};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (fd_count > 0)
            attach(&message, &control, fds, fd_count);
        ssize_t n = sendmsg(socket, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? ORION_PEER_GONE : ORION_SYSTEM;
        at += n;
        bytes -= (size_t)n;
        fd_count = 0;
    }
    return ORION_OK;
}

/* Takes the descriptors out of one received message. */
static void collect(struct msghdr *message, int *fds, int fd_room, int *count_p)
{
    for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h != NULL; h = CMSG_NXTHDR(message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS || h->cmsg_len < CMSG_LEN(0))
            continue;
        size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
            if (*count_p < fd_room) {
                fds[(*count_p)++] = fd;
            } else {
                orion_fd_close(fd);
            }
        }
    }
}

orion_status_t orion_fd_await_readable(int socket, int64_t deadline_ns)
{
    for (;;) {
        int timeout_ms = -1;
        if (deadline_ns >= 0) {
            int64_t left = deadline_ns - orion_clock_ns();
            if (left < 0)
                left = 0;
            timeout_ms = (int)((left + ORION_NS_PER_MS - 1) / ORION_NS_PER_MS);
        }
        struct pollfd p = {.fd = socket, .events = POLLIN};
        int rc = poll(&p, 1, timeout_ms);
        if (rc > 0)
            return ORION_OK;
        if (rc == 0)
            return ORION_TIMEOUT;
        if (errno != EINTR)
            return ORION_SYSTEM;
    }
}

orion_status_t orion_fd_receive(int socket, void *data, size_t bytes, int *fds, int fd_room, int64_t deadline_ns)
{
    control_t control;
    int count = 0;
    for (int i = 0; i < fd_room; i++)
        fds[i] = -1;
    orion_status_t status = ORION_OK;
    char *at = data;
    while (bytes > 0) {
        status = orion_fd_await_readable(socket, deadline_ns);
        if (status != ORION_OK)
            goto err;
        struct iovec part = {.iov_base = at, .iov_len = bytes};
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n >= 0)
            collect(&message, fds, fd_room, &count);
        if (n <= 0) {
            status = n == 0 || errno == ECONNRESET ? ORION_PEER_GONE : ORION_SYSTEM;
            goto err;
        }
        at += n;
        bytes -= (size_t)n;
    }
    return ORION_OK;
err:
    for (int i = 0; i < count; i++) {
        orion_fd_close(fds[i]);
        fds[i] = -1;
    }
    return status;
}

orion_status_t orion_fd_receive_packet(int socket, void *data, size_t room, size_t *bytes_p, int *fds, int fd_room)
{
    control_t control;
    int count = 0, saved = errno;
    for (int i = 0; i < fd_room; i++)
        fds[i] = -1;
    struct iovec part = {.iov_base = data, .iov_len = room};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
    ssize_t n;
    bool reset = false; /* said once, before what lies there can be read: the other end closed with packets unread */
    do {
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !reset && (reset = true))));
    orion_status_t status = ORION_OK;
    if (n > 0) {
        collect(&message, fds, fd_room, &count);
        *bytes_p = (size_t)n;
    } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        status = ORION_AGAIN;
    } else {
        status = n == 0 || errno == ECONNRESET ? ORION_PEER_GONE : ORION_SYSTEM;
    }
    errno = saved;
    return status;
}

orion_status_t orion_fd_send_packet(int socket, const void *data, size_t bytes, const int *fds, int fd_count)
{
    control_t control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count < 0 || fd_count > ORION_FDS_MAX)
        return ORION_INVALID;
    if (fd_count > 0)
        attach(&message, &control, fds, fd_count);
    ssize_t n;
    int saved = errno;
    do {
        n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    int error = errno;
    errno = saved;
    if (n == (ssize_t)bytes)
        return ORION_OK;
    if (n < 0 && (error == EAGAIN || error == EWOULDBLOCK || error == ETOOMANYREFS))
        return ORION_AGAIN;
    return n < 0 && (error == EPIPE || error == ECONNRESET || error == ENOTCONN) ? ORION_PEER_GONE : ORION_SYSTEM;
}

orion_status_t orion_fd_witness(int socket)
{
    char byte;
    ssize_t n;
    int saved = errno;
    do {
        n = recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    orion_status_t status = ORION_PEER_GONE;
    if (n > 0)
        status = ORION_AGAIN;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        status = ORION_OK;
    errno = saved;
    return status;
}
