/* SPDX-License-Identifier: Apache-2.0 */
/* The ABI between transport/local.c and a worker library: the same worker, as threads of the client's own process. */
#ifndef ORION_TRANSPORT_TWIN_H
#define ORION_TRANSPORT_TWIN_H

#include <stddef.h>
#include <stdint.h>

#include "wire/hello.h"

#define ORION_TWIN_ABI 1u

typedef struct orion_twin {
    uint32_t abi;   /* ORION_TWIN_ABI */
    uint32_t bytes; /* sizeof(orion_twin_t) */
    void *command;  /* zeroed segments of shm/layout.h; they outlive the worker */
    void *reply;
    const orion_hello_t *hello;
    const char *options; /* behind '?' in the address: "device=null"; "" = none */
    uint64_t range_base; /* reserved already, in this very process; 0 = none */
    uint64_t range_bytes;
    orion_welcome_t *welcome;      /* out: filled by the worker before orion_twin_start returns */
    void **worker_p;               /* out: handed to stop */
    void (**stop_p)(void *worker); /* out: ends and joins the worker's threads */
    /* What the supervisor would send on the socket: extents (fd is taken over) and the epitaph. From any thread. */
    int (*notice)(void *self, const orion_notice_t *notice, int fd);
    void *self;
    char *why; /* one sentence when orion_twin_start fails */
    size_t why_bytes;
} orion_twin_t;

/* Exported by the worker library. Returns 0, or -1 with a sentence in why. */
typedef int (*orion_twin_start_fn)(const orion_twin_t *twin);
int orion_twin_start(const orion_twin_t *twin);

#endif
