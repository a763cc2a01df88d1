/* SPDX-License-Identifier: Apache-2.0 */
/* ZeroMQ over ipc, blocking: a PAIR socket on each side. libzmq is loaded at run time (ORION_BENCH_ZMQ names the file:
 * the one that pyzmq brings), so its seven functions are declared here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

#include "twin.h"

enum { ZMQ_PAIR = 0, ZMQ_SNDHWM = 23, ZMQ_RCVHWM = 24, ZMQ_LINGER = 17 };

static struct {
    void *(*ctx_new)(void);
    int (*ctx_term)(void *);
    void *(*socket)(void *, int);
    int (*close)(void *);
    int (*setsockopt)(void *, int, const void *, size_t);
    int (*bind)(void *, const char *);
    int (*connect)(void *, const char *);
    int (*send)(void *, const void *, size_t, int);
    int (*recv)(void *, void *, size_t, int);
} zmq;

static void *context, *socket_;

static void *symbol(void *library, const char *name)
{
    void *p = dlsym(library, name);
    twin_must(p != NULL, name);
    return p;
}

static void load(void)
{
    const char *name = getenv("ORION_BENCH_ZMQ");
    void *library = dlopen(name != NULL ? name : "libzmq.so.5", RTLD_NOW);
    twin_must(library != NULL, "loading libzmq");
    *(void **)&zmq.ctx_new = symbol(library, "zmq_ctx_new");
    *(void **)&zmq.ctx_term = symbol(library, "zmq_ctx_term");
    *(void **)&zmq.socket = symbol(library, "zmq_socket");
    *(void **)&zmq.close = symbol(library, "zmq_close");
    *(void **)&zmq.setsockopt = symbol(library, "zmq_setsockopt");
    *(void **)&zmq.bind = symbol(library, "zmq_bind");
    *(void **)&zmq.connect = symbol(library, "zmq_connect");
    *(void **)&zmq.send = symbol(library, "zmq_send");
    *(void **)&zmq.recv = symbol(library, "zmq_recv");
}

static void zeromq_open(int side)
{
    char path[200], address[256];
    int most = 0; /* no limit: one-way messages are never held up by a count */
    if (zmq.send == NULL)
        load();
    twin_path(path, sizeof(path), "zmq");
    (void)snprintf(address, sizeof(address), "ipc://%s", path);
    context = zmq.ctx_new();
    socket_ = zmq.socket(context, ZMQ_PAIR);
    twin_must(socket_ != NULL, "zmq_socket");
    (void)zmq.setsockopt(socket_, ZMQ_SNDHWM, &most, sizeof(most));
    (void)zmq.setsockopt(socket_, ZMQ_RCVHWM, &most, sizeof(most));
    (void)zmq.setsockopt(socket_, ZMQ_LINGER, &most, sizeof(most));
    if (side == 1)
        twin_must(zmq.bind(socket_, address) == 0, "zmq_bind");
    (void)twin_exchange("", 1, NULL);
    if (side == 0)
        twin_must(zmq.connect(socket_, address) == 0, "zmq_connect");
}

static void zeromq_close(void)
{
    (void)zmq.close(socket_);
    (void)zmq.ctx_term(context);
}

static void zeromq_send(const void *out, size_t bytes)
{
    twin_must(zmq.send(socket_, out, bytes, 0) == (int)bytes, "zmq_send");
}

static void zeromq_receive(void *buffer, size_t bytes)
{
    twin_must(zmq.recv(socket_, buffer, bytes, 0) == (int)bytes, "zmq_recv");
}

static void zeromq_call(const void *out, void *in, size_t bytes)
{
    zeromq_send(out, bytes);
    zeromq_receive(in, bytes);
}

static void zeromq_answer(void *buffer, size_t bytes)
{
    zeromq_receive(buffer, bytes);
    zeromq_send(buffer, bytes);
}

const twin_t twin = {.name = "zeromq",
                     .call_max = 1 << 16,
                     .send_max = 1 << 30,
                     .open = zeromq_open,
                     .close = zeromq_close,
                     .call = zeromq_call,
                     .answer = zeromq_answer,
                     .send = zeromq_send,
                     .receive = zeromq_receive};
