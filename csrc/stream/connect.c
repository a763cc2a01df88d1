/* SPDX-License-Identifier: Apache-2.0 */
/* How a socket to another host is connected, judged and kept alive, see socket.h. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "stream/socket.h"

#define CONNECT_NS (5 * ORION_NS_PER_S)
#define LOOPBACK_NS (25 * ORION_NS_PER_MS) /* within this host an answer comes at once, or never */
#define KEEPALIVE_IDLE_S 5
#define KEEPALIVE_PROBES 3

#ifndef TCP_USER_TIMEOUT
#define TCP_USER_TIMEOUT 18
#endif

static int connect_within(int fd, const struct addrinfo *to, int64_t limit_ns)
{
    if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -1;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int64_t deadline = orion_clock_ns() + limit_ns, left = limit_ns;
    int rc;
    do {
        rc = poll(&p, 1, (int)(left / ORION_NS_PER_MS) + 1);
        left = deadline - orion_clock_ns();
    } while (rc < 0 && errno == EINTR && left > 0);
    int error = rc == 0 ? ETIMEDOUT : errno;
    socklen_t size = sizeof(error);
    if (rc > 0)
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    errno = error;
    return rc > 0 && error == 0 ? 0 : -1;
}

/* On the loopback a request that comes just as its listener dies can be lost, and the kernel repeats it in vain for as
 * long as one waits. One from another port is refused at once. */
static int connect_patiently(const struct addrinfo *to, int64_t limit_ns)
{
    int64_t deadline = orion_clock_ns() + limit_ns, left = limit_ns;
    int64_t patience = orion_socket_is_loopback(to->ai_addr) ? LOOPBACK_NS : limit_ns;
    do {
        int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect_within(fd, to, patience < left ? patience : left) == 0)
            return fd;
        int error = errno;
        orion_fd_close(fd);
        errno = error;
        patience *= 2;
        left = deadline - orion_clock_ns();
    } while (errno == ETIMEDOUT && left > 0);
    return -1;
}

int orion_socket_dial(const char *host, const char *port, int64_t limit_ns, char *why, size_t why_bytes)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc != 0) {
        orion_explain(why, why_bytes, "cannot resolve the address %s:%s: %s", host, port, gai_strerror(rc));
        errno = 0;
        return -1;
    }
    int fd = -1, error = 0;
    for (const struct addrinfo *to = list; to != NULL && fd < 0; to = to->ai_next) {
        fd = connect_patiently(to, limit_ns);
        error = errno;
    }
    freeaddrinfo(list);
    if (fd < 0) {
        orion_explain_errno(why, why_bytes, error, "cannot connect to %s:%s", host, port);
        errno = error;
        return -1;
    }
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

int orion_socket_connect(const char *address, char *why, size_t why_bytes)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t length = colon != NULL ? (size_t)(colon - address) : 0;
    if (length == 0 || length >= sizeof(host) || colon[1] == '\0') {
        orion_explain(why, why_bytes, "\"%s\" is no server address; use unix:PATH, HOST:PORT or local:LIBRARY",
                      address);
        return -1;
    }
    memcpy(host, address, length);
    host[length] = '\0';
    char *name = host;
    if (name[0] == '[' && name[length - 1] == ']') { /* [::1]:4000 */
        name[length - 1] = '\0';
        name++;
    }
    int fd = orion_socket_dial(name, colon + 1, CONNECT_NS, why, why_bytes);
    if (fd < 0 && errno != 0)
        orion_explain_errno(why, why_bytes, errno,
                            "cannot connect to an Orion server at %s (start one with `orion up --bind %s`)", address,
                            address);
    return fd;
}

bool orion_socket_is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

bool orion_socket_is_local(int socket)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_bytes = sizeof(here), there_bytes = sizeof(there);
    if (getsockname(socket, (struct sockaddr *)&here, &here_bytes) != 0)
        return false;
    if (orion_socket_is_loopback((struct sockaddr *)&here))
        return true; /* whoever was there may have gone: then nobody can say its address */
    if (getpeername(socket, (struct sockaddr *)&there, &there_bytes) != 0 || here.ss_family != there.ss_family)
        return false;
    if (here.ss_family == AF_INET)
        return ((struct sockaddr_in *)&here)->sin_addr.s_addr == ((struct sockaddr_in *)&there)->sin_addr.s_addr ||
               orion_socket_is_loopback((struct sockaddr *)&there);
    return here.ss_family == AF_INET6 &&
           memcmp(&((struct sockaddr_in6 *)&here)->sin6_addr, &((struct sockaddr_in6 *)&there)->sin6_addr,
                  sizeof(struct in6_addr)) == 0;
}

bool orion_socket_is_gateway(int socket)
{
    struct sockaddr_in there = {0};
    socklen_t bytes = sizeof(there);
    char line[256], wanted[16]; /* the table: interface, destination, gateway, ... with tabs between */
    bool found = false;
    if (getpeername(socket, (struct sockaddr *)&there, &bytes) != 0 || there.sin_family != AF_INET)
        return false;
    snprintf(wanted, sizeof(wanted), "%08X\t", there.sin_addr.s_addr); /* in the processor's order, as the kernel's */
    FILE *routes = fopen("/proc/net/route", "re");
    while (routes != NULL && !found && fgets(line, sizeof(line), routes) != NULL) {
        const char *gateway = strchr(line, '\t');
        gateway = gateway != NULL ? strchr(gateway + 1, '\t') : NULL;
        found = gateway != NULL && strncmp(gateway + 1, wanted, strlen(wanted)) == 0;
    }
    if (routes != NULL)
        (void)fclose(routes);
    return found;
}

void orion_socket_keep_alive(int socket, int patience_s)
{
    int on = 1, idle_s = KEEPALIVE_IDLE_S, probes = KEEPALIVE_PROBES;
    int every_s = patience_s > KEEPALIVE_IDLE_S + KEEPALIVE_PROBES ? (patience_s - KEEPALIVE_IDLE_S) / KEEPALIVE_PROBES
                                                                   : 1;
    if (patience_s == 0)
        return;
    (void)setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
    (void)setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}
