/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's end of the control line; see control.h. */
#include "worker/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEADER_BYTES offsetof(orion_control_message_t, text)

void orion_control_init(orion_control_line_t *line, int fd)
{
    line->fd = fd;
    line->next_id = 1;
    pthread_mutex_init(&line->lock, NULL);
}

void orion_control_fini(orion_control_line_t *line)
{
    if (line->fd >= 0)
        close(line->fd);
    line->fd = -1;
    pthread_mutex_destroy(&line->lock);
}

/* Async-signal-safe: no lock, no allocation; a packet is sent whole or not at all. */
static orion_status_t send_message(int fd, const orion_control_message_t *message, const int *fds, unsigned fd_count)
{
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = HEADER_BYTES + message->text_bytes};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd < 0)
        return ORION_PEER_GONE;
    if (fd_count) {
        memset(&control, 0, sizeof control);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, fd_count * sizeof(int));
    }
    for (int attempt = 0; attempt < 16; attempt++) {
        if (sendmsg(fd, &header, MSG_NOSIGNAL) >= 0)
            return ORION_OK;
        if (errno != EINTR)
            break;
    }
    return errno == EPIPE || errno == ECONNRESET ? ORION_PEER_GONE : ORION_SYSTEM;
}

static void fill(orion_control_message_t *m, uint16_t kind, const void *text, size_t text_bytes)
{
    if (text_bytes > ORION_CONTROL_TEXT)
        text_bytes = ORION_CONTROL_TEXT;
    memset(m, 0, HEADER_BYTES);
    m->magic = ORION_CONTROL_MAGIC;
    m->kind = kind;
    m->text_bytes = (uint16_t)text_bytes;
    if (text_bytes)
        memcpy(m->text, text, text_bytes);
}

orion_status_t orion_control_tell(const orion_control_line_t *line, uint16_t kind, int32_t result, uint64_t a,
                                  uint64_t b, const void *text, size_t text_bytes)
{
    orion_control_message_t m;
    fill(&m, kind, text, text_bytes);
    m.result = result;
    m.a = a;
    m.b = b;
    return send_message(line->fd, &m, NULL, 0);
}

orion_status_t orion_control_ready(const orion_control_line_t *line, const orion_ready_t *ready, uint64_t base,
                                   uint64_t arena_bytes, uint64_t heap_bytes, int command_fd, int reply_fd)
{
    orion_control_message_t m;
    const int fds[2] = {command_fd, reply_fd};
    fill(&m, ORION_CONTROL_READY, ready, sizeof *ready);
    m.a = base;
    m.b = arena_bytes;
    m.c = heap_bytes;
    return send_message(line->fd, &m, fds, command_fd >= 0 ? 2 : 0); /* /dev/shm mode has names instead */
}

/* Takes one packet; a descriptor that came with it is in *fd_p. */
static orion_status_t receive(int fd, orion_control_message_t *m, int *fd_p)
{
    union {
        char bytes[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = m, .iov_len = sizeof *m};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t got;

    *fd_p = -1;
    do
        got = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        return ORION_PEER_GONE;
    if (got < 0)
        return errno == EAGAIN ? ORION_AGAIN : ORION_PEER_GONE;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int one;
            memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof one);
            if (*fd_p < 0)
                *fd_p = one;
            else
                close(one);
        }
    }
    if ((size_t)got < HEADER_BYTES || m->magic != ORION_CONTROL_MAGIC || (size_t)got < HEADER_BYTES + m->text_bytes) {
        if (*fd_p >= 0)
            close(*fd_p);
        *fd_p = -1;
        return ORION_PROTOCOL;
    }
    return ORION_OK;
}

orion_status_t orion_control_receive(const orion_control_line_t *line, int timeout_ms, orion_control_message_t *m,
                                     int *fd_p)
{
    struct pollfd wait = {.fd = line->fd, .events = POLLIN};
    *fd_p = -1;
    if (poll(&wait, 1, timeout_ms) <= 0)
        return ORION_AGAIN;
    return receive(line->fd, m, fd_p);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

orion_status_t orion_control_ask(orion_control_line_t *line, uint16_t kind, uint64_t a, uint64_t b, uint64_t c,
                                 const void *text, size_t text_bytes, orion_control_message_t *answer_p, int *fd_p)
{
    orion_control_message_t m;
    orion_status_t status;

    *fd_p = -1;
    fill(&m, kind, text, text_bytes);
    m.a = a;
    m.b = b;
    m.c = c;
    pthread_mutex_lock(&line->lock);
    m.id = line->next_id++;
    status = send_message(line->fd, &m, NULL, 0);
    const int64_t deadline = now_ms() + ORION_CONTROL_TIMEOUT_S * 1000;
    while (status == ORION_OK) {
        struct pollfd wait = {.fd = line->fd, .events = POLLIN};
        const int64_t left = deadline - now_ms();
        if (left <= 0)
            status = ORION_TIMEOUT;
        else if (poll(&wait, 1, (int)left) > 0) {
            status = receive(line->fd, answer_p, fd_p);
            if (status == ORION_OK && answer_p->id == m.id)
                break;
            if (status == ORION_OK && *fd_p >= 0)
                close(*fd_p); /* the answer to a question that timed out */
            if (status == ORION_AGAIN)
                status = ORION_OK;
        }
    }
    pthread_mutex_unlock(&line->lock);
    return status;
}

int orion_control_alive(const orion_control_line_t *line)
{
    struct pollfd look = {.fd = line->fd, .events = POLLRDHUP};
    if (line->fd < 0)
        return 1; /* a twin has no supervisor */
    if (poll(&look, 1, 0) <= 0)
        return 1;
    return !(look.revents & (POLLHUP | POLLERR | POLLNVAL | POLLRDHUP));
}
