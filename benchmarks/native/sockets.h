/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks over sockets begin with. */
#ifndef ORION_BENCH_SOCKETS_H
#define ORION_BENCH_SOCKETS_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static inline void must(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

/* Two connected sockets over loopback. */
static inline void connect_pair(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(pair[0], (struct sockaddr *)&address, size) == 0, "connect");
    pair[1] = accept(listener, NULL, NULL);
    must(pair[1] >= 0, "accept");
    for (int i = 0; i < 2; i++)
        must(setsockopt(pair[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, "TCP_NODELAY");
    (void)close(listener);
}

#endif
