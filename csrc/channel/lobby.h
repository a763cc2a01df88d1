/* SPDX-License-Identifier: Apache-2.0 */
/* Who has connected to a listener and not yet said hello. They wait side by side, so that one who stays silent holds up
 * nobody else. */
#ifndef ORION_CHANNEL_LOBBY_H
#define ORION_CHANNEL_LOBBY_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/status.h"

#define ORION_LOBBY_SEATS 64
#define ORION_LOBBY_NS (1000 * ORION_NS_PER_MS) /* for one that connected to say hello; it does so at once */

typedef struct orion_guest {
    int socket;
    int64_t deadline; /* monotonic ns */
} orion_guest_t;

typedef struct orion_lobby {
    int listener;       /* not ours to close */
    size_t hello_bytes; /* of a stream socket: a hello shorter than that has not come yet; 0 = packets */
    pid_t owner;        /* atomic */
    int bell;           /* eventfd: guests were left here by a thread that went away with another */
    pthread_mutex_t lock;
    unsigned count;
    orion_guest_t guests[ORION_LOBBY_SEATS]; /* oldest first; private memory, guarded by lock */
} orion_lobby_t;

orion_status_t orion_lobby_open(orion_lobby_t *lobby, int listener, size_t hello_bytes);
void orion_lobby_close(orion_lobby_t *lobby);

/* The next one whose hello has come, or who has hung up. ORION_TIMEOUT: nobody before the deadline (monotonic ns; < 0 =
 * no limit), nor within the time for a hello after it from those who were here. ORION_AGAIN: look at what the listener
 * was told, and come again. ORION_SYSTEM: errno. Threads may wait side by side; a forked child has a lobby of its own. */
orion_status_t orion_lobby_next(orion_lobby_t *lobby, int64_t deadline, int *socket_p);

#endif
