/* SPDX-License-Identifier: Apache-2.0 */
/* A small worker for tests and benchmarks of links and ports: echoes, counts, stages, sends events and extents, dies on
 * request. The same code serves a socket in another process and, as a library, the in-process twin. */
#ifndef ORION_TESTS_ECHO_WORKER_H
#define ORION_TESTS_ECHO_WORKER_H

#include <stdint.h>

#include "transport/port.h"

enum {
    ECHO_ECHO = 1,          /* answers with the payload, result = slot */
    ECHO_POST = 2,          /* one way: counted, payload summed */
    ECHO_COUNT = 3,         /* answers with {count, sum} of the posts so far */
    ECHO_STAGE_FILL = 4,    /* {stage, stage_sequence, byte}: fills the chunk */
    ECHO_STAGE_SUM = 5,     /* {stage, stage_sequence, bytes}: adds the chunk up into sum */
    ECHO_EVENTS = 6,        /* {first, count}: sends count events of one u32 each, waiting while the ring is full */
    ECHO_EXTENT = 7,        /* {offset, bytes} of u64: makes an extent whose every byte is 0x5a, answers */
    ECHO_PEEK = 8,          /* {offset} of u64: answers with the u32 at range_base + offset */
    ECHO_DIE = 9,           /* {u32 with_epitaph}: ends without an answer */
    ECHO_SLOW = 10,         /* {u32 microseconds}: another thread answers after that time */
    ECHO_STOP_READING = 11, /* {u32 microseconds}: the loop itself sleeps */
    ECHO_FALSE_STAGE = 12   /* {stage, stage_sequence}: publishes the chunk without touching it */
};

#define ECHO_EPITAPH_RESULT 719
#define ECHO_EPITAPH "the test worker was asked to die"

/* Serves one client on a connected socket until it leaves. Returns what ended the loop. */
orion_status_t echo_serve(int socket, int devshm);

/* How a client and its echo worker share data: echo_fork's last argument. */
enum { ECHO_MEMFD = 0, ECHO_DEVSHM = 1, ECHO_TCP = 2 };

/* Forks a server process for the other end of a socket pair (ECHO_TCP: of a connection over 127.0.0.1). Returns our
 * end. */
int echo_fork(int *pid_p, int how);
/* Two ends of one TCP connection over 127.0.0.1. */
int echo_tcp_pair(int pair[2]);

#endif
