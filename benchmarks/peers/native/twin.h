/* SPDX-License-Identifier: Apache-2.0 */
/* One way of passing messages between two processes, driven through the same rows as every other (twin.c). A twin is
 * one file that defines `twin`; side 0 asks, side 1 answers. Each message lands in memory of the receiver's own. */
#ifndef ORION_BENCH_TWIN_H
#define ORION_BENCH_TWIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct twin {
    const char *name;
    size_t call_max;   /* longest message of a round trip */
    size_t send_max;   /* longest one-way message; 0 = it has none */
    bool by_launcher;  /* two processes are started by the peer's own launcher, which says which side we are */
    int (*side)(void); /* of a launcher's process */
    void (*open)(int side);
    void (*close)(void); /* NULL: it cannot be opened twice in a process */
    void (*end)(void);   /* NULL, or what a process of the launcher does last */
    /* side 0: sends `bytes` of out, waits for as many in `in`. side 1: receives, sends back what it received */
    void (*call)(const void *out, void *in, size_t bytes);
    void (*answer)(void *buffer, size_t bytes);
    /* side 0 sends and goes on; side 1 receives */
    void (*send)(const void *out, size_t bytes);
    void (*receive)(void *buffer, size_t bytes);
    /* side 0 hands over memory that side 1 can read, and has it back; nothing is copied. NULL: it cannot */
    void (*hand)(uint64_t stamp, size_t bytes);
    void (*take)(uint64_t *first_p, uint64_t *last_p);
} twin_t;

extern const twin_t twin;

/* Our own twins with only_spins.c: this process's waits never sleep from now on, or sleep again. Others have none. */
void twin_only_spin(bool only) __attribute__((weak));

/* Gives the other side up to 32 KiB (an address, a name) and returns what it gave; both sides call it. */
const void *twin_exchange(const void *mine, size_t bytes, size_t *theirs_p);
/* A path for sockets and the like, in a folder that goes away; the same on both sides. */
void twin_path(char *path, size_t path_bytes, const char *name);

static inline void twin_must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s: %s failed\n", twin.name, what);
    exit(1);
}

#endif
