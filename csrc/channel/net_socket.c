/* SPDX-License-Identifier: Apache-2.0 */
/* tcp://HOST:PORT and ucx://HOST:PORT: the sockets below the stream, and who may listen where. See net.h. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "channel/net.h"
#include "stream/socket.h"

#define BACKLOG 128
#define CONNECT_NS (10 * ORION_NS_PER_S) /* where our caller has no limit */

orion_status_t orion_net_token(const orion_channel_options_t *options, orion_token_t *token_p, bool *has_p, char *why,
                               size_t why_bytes)
{
    const char *text = options->token != NULL ? options->token : getenv("ORION_TOKEN");
    *has_p = text != NULL && text[0] != '\0';
    if (!*has_p || orion_token_parse(text, token_p, why, why_bytes))
        return ORION_OK;
    return ORION_INVALID;
}

bool orion_net_insecure(const orion_channel_options_t *options)
{
    const char *text = getenv("ORION_INSECURE_TCP");
    return options->insecure || (text != NULL && strcmp(text, "1") == 0);
}

/* ---- listening ---- */

typedef union endpoint {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage room;
} endpoint_t;

/* What others can reach wants to know who they are; and UCX does not encrypt. */
static orion_status_t may_listen(const orion_address_t *address, const struct sockaddr *at, bool has_token,
                                 bool insecure, char *why, size_t why_bytes)
{
    if (orion_socket_is_loopback(at) || insecure || (has_token && address->scheme == ORION_SCHEME_TCP))
        return ORION_OK;
    if (address->scheme == ORION_SCHEME_UCX)
        orion_explain(why, why_bytes,
                      "%s can be reached by other hosts, and UCX neither encrypts nor checks what its peers send: use "
                      "tcp:// with a token, or insecure=True on a network that you trust",
                      address->text);
    else
        orion_explain(why, why_bytes,
                      "%s can be reached by other hosts: give a token=ID.SECRET (or ORION_TOKEN) that both sides have, "
                      "listen at 127.0.0.1, or say insecure=True on a network that you trust",
                      address->text);
    return ORION_INVALID;
}

static void name_port(orion_address_t *address, int fd)
{
    endpoint_t at = {.room = {0}};
    socklen_t bytes = sizeof(at);
    if (getsockname(fd, &at.any, &bytes) != 0)
        return;
    unsigned port = ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
    bool v6 = strchr(address->host, ':') != NULL;
    (void)snprintf(address->port, sizeof(address->port), "%u", port);
    (void)snprintf(address->text, sizeof(address->text), "%s://%s%s%s:%u",
                   address->scheme == ORION_SCHEME_UCX ? "ucx" : "tcp", v6 ? "[" : "", address->host, v6 ? "]" : "",
                   port);
}

static int bind_one(const struct addrinfo *to)
{
    int on = 1, fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* connections of an earlier listener may linger */
    if (bind(fd, to->ai_addr, to->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    orion_fd_close(fd);
    return -1;
}

orion_status_t orion_net_listen(orion_address_t *address, const orion_channel_options_t *options, bool has_token,
                                int *socket_p, char *why, size_t why_bytes)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    int rc = getaddrinfo(address->host, address->port, &hints, &list);
    if (rc != 0) {
        orion_explain(why, why_bytes, "%s: cannot resolve the host: %s", address->text, gai_strerror(rc));
        return ORION_INVALID;
    }
    orion_status_t status = may_listen(address, list->ai_addr, has_token, orion_net_insecure(options), why, why_bytes);
    if (status == ORION_OK) {
        *socket_p = bind_one(list);
        if (*socket_p < 0) {
            status = errno == EADDRINUSE ? ORION_REFUSED : ORION_SYSTEM;
            orion_explain_errno(why, why_bytes, errno, "cannot listen at %s", address->text);
        }
    }
    freeaddrinfo(list);
    if (status == ORION_OK)
        name_port(address, *socket_p);
    return status;
}

/* ---- connecting ---- */

orion_status_t orion_net_connect(const orion_address_t *address, const orion_channel_options_t *options,
                                 int64_t deadline, orion_channel_t **channel_p, char *why, size_t why_bytes)
{
    char complaint[300] = "";
    orion_token_t token;
    bool has_token;
    orion_status_t status = orion_net_token(options, &token, &has_token, why, why_bytes);
    if (status != ORION_OK)
        return status;
    int64_t left = deadline == INT64_MAX ? CONNECT_NS : deadline - orion_clock_ns();
    int socket = orion_socket_dial(address->host, address->port, left > ORION_NS_PER_MS ? left : ORION_NS_PER_MS,
                                   complaint, sizeof(complaint));
    if (socket < 0) {
        int error = errno;
        orion_forget_bytes(&token, sizeof(token));
        orion_explain(why, why_bytes, "%s: %s", address->text, complaint);
        if (error == 0)
            return ORION_INVALID;
        if (error == ECONNREFUSED || error == ECONNRESET) /* reset: whoever listened died just now */
            return ORION_REFUSED;
        return error == ETIMEDOUT ? ORION_TIMEOUT : ORION_SYSTEM;
    }
    status = orion_net_greet(socket, address->scheme == ORION_SCHEME_UCX, options, has_token ? &token : NULL, false,
                             deadline, channel_p, complaint, sizeof(complaint));
    orion_forget_bytes(&token, sizeof(token));
    if (status != ORION_OK)
        orion_explain(why, why_bytes, "%s: %s", address->text, complaint);
    return status;
}
