/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of a channel in one process, for tests: over shared memory, or over what ORION_TEST_CHANNEL names (tcp, tls,
 * ucx). */
#ifndef ORION_TESTS_CHANNEL_PAIR_H
#define ORION_TESTS_CHANNEL_PAIR_H

#include <pthread.h>
#include <sys/socket.h>

#include "../check.h"
#include "channel/channel.h"

typedef struct pair {
    orion_channel_t *a, *b;
} pair_t;

typedef struct pair_opening {
    int socket;
    const orion_channel_options_t *options;
    orion_channel_t *channel;
} pair_opening_t;

static inline void *pair_open_one(void *arg)
{
    pair_opening_t *o = arg;
    char why[256];
    if (orion_channel_open_socket(o->socket, o->options, 10000000000LL, &o->channel, why, sizeof(why)) != ORION_OK) {
        fprintf(stderr, "open: %s\n", why);
        exit(1);
    }
    return NULL;
}

static inline const char *pair_transport(void)
{
    const char *name = getenv("ORION_TEST_CHANNEL");
    return name != NULL && name[0] != '\0' ? name : "shm";
}

/* What a claim about shared memory itself asks first. */
static inline bool pair_over_shm(void)
{
    return strcmp(pair_transport(), "shm") == 0;
}

static inline void pair_must(orion_status_t status, const char *why)
{
    if (status == ORION_OK)
        return;
    fprintf(stderr, "open: %s\n", why);
    exit(1);
}

typedef struct pair_accepting {
    orion_listener_t *listener;
    orion_channel_t *channel;
} pair_accepting_t;

static inline void *pair_accept(void *arg)
{
    pair_accepting_t *a = arg;
    char why[256] = "";
    pair_must(orion_listener_accept(a->listener, 10000000000LL, &a->channel, why, sizeof(why)), why);
    return NULL;
}

static inline pair_t pair_open_stream(const orion_channel_options_t *options)
{
    orion_channel_options_t o = options != NULL ? *options : (orion_channel_options_t){0};
    pair_accepting_t a = {NULL, NULL};
    pair_t p;
    pthread_t thread;
    char why[256] = "";
    bool tls = strcmp(pair_transport(), "tls") == 0, ucx = strcmp(pair_transport(), "ucx") == 0;
    if (tls)
        MUST(setenv("ORION_TLS", "required", 1) == 0);
    o.token = tls ? "tests.a-secret-of-the-tests" : "";
    pair_must(orion_listener_open(ucx ? "ucx://127.0.0.1:0" : "tcp://127.0.0.1:0", &o, &a.listener, why, sizeof(why)),
              why);
    MUST(pthread_create(&thread, NULL, pair_accept, &a) == 0);
    pair_must(orion_channel_connect(orion_listener_address(a.listener), &o, 10000000000LL, &p.a, why, sizeof(why)),
              why);
    MUST(pthread_join(thread, NULL) == 0);
    orion_listener_free(a.listener);
    p.b = a.channel;
    MUST(strcmp(orion_channel_transport(p.a), pair_transport()) == 0);
    return p;
}

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer follows addresses, not the memory behind them: what one end stores and the other loads has to have
 * one address, or it sees no order between them. */
static inline void pair_see(orion_channel_t *one, const orion_channel_t *other)
{
    one->peer = other->own;
    one->in.data = orion_channel_ring(other->own);
    one->in.head_p = &other->own->head;
    one->out.tail_p = &other->own->tail;
}
#endif

static inline pair_t pair_open(const orion_channel_options_t *options)
{
    int sockets[2];
    pthread_t thread;
    if (!pair_over_shm())
        return pair_open_stream(options);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    pair_opening_t a = {sockets[0], options, NULL}, b = {sockets[1], options, NULL};
    MUST(pthread_create(&thread, NULL, pair_open_one, &b) == 0);
    (void)pair_open_one(&a);
    MUST(pthread_join(thread, NULL) == 0);
#ifdef __SANITIZE_THREAD__
    pair_see(a.channel, b.channel);
    pair_see(b.channel, a.channel);
#endif
    return (pair_t){a.channel, b.channel};
}

/* Both end before either goes: their memory may be one. */
static inline void pair_close(pair_t *p)
{
    if (p->a != NULL)
        orion_channel_shutdown(p->a);
    if (p->b != NULL)
        orion_channel_shutdown(p->b);
    orion_channel_free(p->a);
    orion_channel_free(p->b);
}

#endif
