/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners and connecting: sockets by address, then the handshake (open.c). */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "channel/address.h"
#include "channel/channel.h"
#include "channel/lobby.h"
#include "channel/net.h"
#include "channel/net_frame.h"

#define BACKLOG 128

struct orion_listener {
    int socket;
    orion_lobby_t lobby;
    pid_t owner;      /* who made the socket's file, and removes it */
    uint32_t closing; /* atomic */
    orion_address_t address;
    orion_channel_options_t options;
    bool has_token;
    orion_token_t token; /* of tcp:// and ucx:// */
};

static int unix_socket(int flags)
{
    return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
}

/* A file whose owner was killed refuses connections: it is in nobody's use. */
static bool remove_stale(const orion_address_t *address)
{
    int probe = unix_socket(0);
    if (probe < 0)
        return false;
    bool stale = connect(probe, (const struct sockaddr *)&address->socket, address->socket_bytes) != 0 &&
                 errno == ECONNREFUSED;
    orion_fd_close(probe);
    return stale && unlink(address->socket.sun_path) == 0;
}

static bool bind_socket(int socket, const orion_address_t *address)
{
    const struct sockaddr *at = (const struct sockaddr *)&address->socket;
    if (bind(socket, at, address->socket_bytes) == 0)
        return true;
    return errno == EADDRINUSE && address->file && remove_stale(address) &&
           bind(socket, at, address->socket_bytes) == 0;
}

/* Who may connect to a name is a question of users; a token would be asked of nobody. */
static orion_status_t want_no_token(const orion_channel_options_t *options, const char *address, char *why,
                                    size_t why_bytes)
{
    if (options->token == NULL || options->token[0] == '\0')
        return ORION_OK;
    orion_explain(why, why_bytes, "%s: a token is for tcp:// and ucx://; who may connect to a name is decided by user",
                  address);
    return ORION_INVALID;
}

static orion_status_t listen_at_name(orion_listener_t *listener, char *why, size_t why_bytes)
{
    orion_status_t status = want_no_token(&listener->options, listener->address.text, why, why_bytes);
    if (status != ORION_OK)
        return status;
    listener->socket = unix_socket(SOCK_NONBLOCK);
    if (listener->socket < 0) {
        orion_explain_errno(why, why_bytes, errno, "%s: cannot make a socket", listener->address.text);
        return ORION_SYSTEM;
    }
    if (bind_socket(listener->socket, &listener->address) && listen(listener->socket, BACKLOG) == 0)
        return ORION_OK;
    status = errno == EADDRINUSE ? ORION_REFUSED : ORION_SYSTEM;
    orion_explain_errno(why, why_bytes, errno, "cannot listen at %s", listener->address.text);
    orion_fd_close(listener->socket);
    return status;
}

static orion_status_t listen_at_port(orion_listener_t *listener, char *why, size_t why_bytes)
{
    orion_status_t status = orion_net_token(&listener->options, &listener->token, &listener->has_token, why, why_bytes);
    if (status != ORION_OK)
        return status;
    return orion_net_listen(&listener->address, &listener->options, listener->has_token, &listener->socket, why,
                            why_bytes);
}

orion_status_t orion_listener_open(const char *address, const orion_channel_options_t *options,
                                   orion_listener_t **listener_p, char *why, size_t why_bytes)
{
    orion_listener_t *listener = calloc(1, sizeof(*listener));
    if (listener == NULL) {
        orion_explain(why, why_bytes, "%s: not enough memory for a listener", address);
        return ORION_NO_MEMORY;
    }
    if (options != NULL)
        listener->options = *options;
    orion_status_t status = orion_address_parse(address, &listener->address, why, why_bytes);
    if (status != ORION_OK)
        goto err_free;
    if (listener->address.scheme == ORION_SCHEME_SHM)
        status = listen_at_name(listener, why, why_bytes);
    else
        status = listen_at_port(listener, why, why_bytes);
    if (status != ORION_OK)
        goto err_free;
    listener->options.token = NULL; /* our caller's memory */
    listener->owner = getpid();
    if (orion_lobby_open(&listener->lobby, listener->socket,
                         listener->address.scheme == ORION_SCHEME_SHM ? 0 : sizeof(orion_net_hello_t)) != ORION_OK) {
        orion_explain_errno(why, why_bytes, errno, "%s: cannot make an eventfd", address);
        status = ORION_SYSTEM;
        goto err_close;
    }
    *listener_p = listener;
    return ORION_OK;
err_close:
    orion_listener_shutdown(listener);
    orion_fd_close(listener->socket);
    orion_forget_bytes(&listener->token, sizeof(listener->token));
err_free:
    free(listener);
    return status;
}

int orion_listener_fd(const orion_listener_t *listener)
{
    return listener->socket;
}

const char *orion_listener_address(const orion_listener_t *listener)
{
    return listener->address.text;
}

static orion_status_t greet(const orion_listener_t *listener, int socket, orion_channel_t **channel_p, char *why,
                            size_t why_bytes)
{
    if (listener->address.scheme == ORION_SCHEME_SHM)
        return orion_channel_open(socket, &listener->options, true, ORION_LOBBY_NS, channel_p, why, why_bytes);
    return orion_net_greet(socket, listener->address.scheme == ORION_SCHEME_UCX, &listener->options,
                           listener->has_token ? &listener->token : NULL, true, orion_clock_ns() + ORION_LOBBY_NS,
                           channel_p, why, why_bytes);
}

orion_status_t orion_listener_accept(orion_listener_t *listener, int64_t timeout_ns, orion_channel_t **channel_p,
                                     char *why, size_t why_bytes)
{
    int64_t deadline = timeout_ns < 0 ? -1 : orion_clock_ns() + timeout_ns;
    for (;;) {
        int socket;
        orion_status_t status = orion_lobby_next(&listener->lobby, deadline, &socket);
        if (orion_load_acquire(&listener->closing) != 0) { /* pairs with the exchange in orion_listener_shutdown */
            if (status == ORION_OK)
                orion_fd_close(socket);
            orion_explain(why, why_bytes, "the listener at %s has been closed", listener->address.text);
            return ORION_INVALID;
        }
        if (status == ORION_AGAIN)
            continue;
        if (status == ORION_TIMEOUT) {
            orion_explain(why, why_bytes, "nobody connected to %s in time", listener->address.text);
            return status;
        }
        if (status != ORION_OK) {
            orion_explain_errno(why, why_bytes, errno, "cannot accept at %s", listener->address.text);
            return ORION_SYSTEM;
        }
        char complaint[200];
        status = greet(listener, socket, channel_p, complaint, sizeof(complaint));
        if (status == ORION_OK)
            return ORION_OK;
        if (status == ORION_NO_MEMORY) {
            orion_explain(why, why_bytes, "cannot accept at %s: %s", listener->address.text, complaint);
            return status;
        }
        orion_log(status == ORION_PEER_GONE ? ORION_LOG_DEBUG : ORION_LOG_INFO,
                  "dismissed a process that connected to %s: %s", listener->address.text, complaint);
    }
}

void orion_listener_shutdown(orion_listener_t *listener)
{
    if (orion_exchange(&listener->closing, 1) != 0)
        return;
    if (listener->owner != getpid())
        return; /* a forked child's copy: the socket goes on to listen for the parent */
    if (listener->address.file)
        (void)unlink(listener->address.socket.sun_path);
    (void)shutdown(listener->socket, SHUT_RDWR); /* wakes who waits in accept */
}

void orion_listener_free(orion_listener_t *listener)
{
    if (listener == NULL)
        return;
    orion_listener_shutdown(listener);
    orion_lobby_close(&listener->lobby);
    orion_fd_close(listener->socket);
    orion_forget_bytes(&listener->token, sizeof(listener->token));
    free(listener);
}

orion_status_t orion_channel_connect(const char *address, const orion_channel_options_t *options, int64_t timeout_ns,
                                     orion_channel_t **channel_p, char *why, size_t why_bytes)
{
    const orion_channel_options_t none = {0};
    orion_address_t a;
    int64_t deadline = orion_deadline(timeout_ns);
    orion_status_t status = orion_address_parse(address, &a, why, why_bytes);
    if (status != ORION_OK)
        return status;
    if (options == NULL)
        options = &none;
    if (a.scheme != ORION_SCHEME_SHM)
        return orion_net_connect(&a, options, deadline, channel_p, why, why_bytes);
    status = want_no_token(options, a.text, why, why_bytes);
    if (status != ORION_OK)
        return status;
    int socket = unix_socket(0);
    if (socket < 0) {
        orion_explain_errno(why, why_bytes, errno, "%s: cannot make a socket", a.text);
        return ORION_SYSTEM;
    }
    if (timeout_ns >= 0) { /* a full backlog makes connect wait */
        int64_t ns = timeout_ns < ORION_NS_PER_MS ? ORION_NS_PER_MS : timeout_ns;
        struct timeval limit = {.tv_sec = ns / ORION_NS_PER_S, .tv_usec = ns % ORION_NS_PER_S / ORION_NS_PER_US};
        (void)setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    }
    int rc;
    do {
        rc = connect(socket, (const struct sockaddr *)&a.socket, a.socket_bytes);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0) {
        int error = errno;
        orion_fd_close(socket);
        if (error == EAGAIN) {
            orion_explain(why, why_bytes, "%s: nobody accepted in time", a.text);
            return ORION_TIMEOUT;
        }
        orion_explain_errno(why, why_bytes, error, "cannot connect to %s", a.text);
        return error == ECONNREFUSED || error == ENOENT || error == EACCES ? ORION_REFUSED : ORION_SYSTEM;
    }
    int64_t left = -1;
    if (timeout_ns >= 0) {
        left = deadline - orion_clock_ns();
        left = left > 0 ? left : 0;
    }
    char complaint[200];
    status = orion_channel_open(socket, options, false, left, channel_p, complaint, sizeof(complaint));
    if (status != ORION_OK)
        orion_explain(why, why_bytes, "%s: %s", a.text, complaint);
    return status;
}
