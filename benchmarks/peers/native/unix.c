/* SPDX-License-Identifier: Apache-2.0 */
/* A raw UNIX stream socket, blocking. Its buffers are made as large as they may be. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "twin.h"

static int fd = -1;

static void unix_open(int side)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int bytes = 4 << 20;
    twin_path(address.sun_path, sizeof(address.sun_path), "sock");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    twin_must(fd >= 0, "socket");
    if (side == 1) {
        int listener = fd;
        (void)unlink(address.sun_path);
        twin_must(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 1) == 0,
                  "listen");
        (void)twin_exchange("", 1, NULL);
        fd = accept(listener, NULL, NULL);
        twin_must(fd >= 0, "accept");
        (void)close(listener);
        (void)unlink(address.sun_path);
    } else {
        (void)twin_exchange("", 1, NULL);
        twin_must(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect");
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

static void unix_close(void)
{
    (void)close(fd);
}

static void unix_send(const void *out, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = send(fd, (const char *)out + done, bytes - done, MSG_NOSIGNAL);
        twin_must(n > 0 || errno == EINTR, "send");
        done += n > 0 ? (size_t)n : 0;
    }
}

static void unix_receive(void *buffer, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = recv(fd, (char *)buffer + done, bytes - done, 0);
        twin_must(n > 0, "recv");
        done += (size_t)n;
    }
}

static void unix_call(const void *out, void *in, size_t bytes)
{
    unix_send(out, bytes);
    unix_receive(in, bytes);
}

static void unix_answer(void *buffer, size_t bytes)
{
    unix_receive(buffer, bytes);
    unix_send(buffer, bytes);
}

const twin_t twin = {.name = "unix socket",
                     .call_max = 1 << 16,
                     .send_max = 1 << 30,
                     .open = unix_open,
                     .close = unix_close,
                     .call = unix_call,
                     .answer = unix_answer,
                     .send = unix_send,
                     .receive = unix_receive};
