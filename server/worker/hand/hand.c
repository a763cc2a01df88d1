/* SPDX-License-Identifier: Apache-2.0 */
/* Deferred answers and text events, shared by the chapters. Device callbacks run here on any thread. */
#include "worker/hand/hand.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROOM_TURNS 5000 /* of a millisecond; a client that does not read its events loses text, not time */

orion_deferred_t *orion_defer(orion_worker_t *w, orion_ticket_t ticket, orion_answer_fn answer)
{
    orion_deferred_t *deferred = malloc(sizeof *deferred);
    if (deferred)
        *deferred = (orion_deferred_t){w, ticket, answer};
    return deferred;
}

void orion_deferred_done(void *arg, CUresult result)
{
    orion_deferred_t *deferred = arg;
    orion_worker_device_failed(deferred->worker, result);
    deferred->answer(deferred->worker, deferred->ticket, result);
    free(deferred);
}

CUresult orion_deferred_begun(orion_deferred_t *deferred, CUresult result)
{
    if (result == CUDA_SUCCESS)
        return ORION_DEFERRED;
    orion_worker_device_failed(deferred->worker, result);
    free(deferred);
    return result;
}

void orion_quiet_done(void *arg, CUresult result)
{
    orion_worker_device_failed(arg, result);
}

void orion_worker_print(orion_worker_t *w, uint32_t kind, const char *text, size_t bytes)
{
    struct {
        uint32_t kind, bytes;
        uint64_t cookie;
        char data[1024];
    } event;
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    while (bytes) {
        const size_t part = bytes < sizeof event.data ? bytes : sizeof event.data;
        event.kind = kind;
        event.bytes = (uint32_t)part;
        event.cookie = 0;
        memcpy(event.data, text, part);
        orion_status_t status = ORION_AGAIN;
        for (int turn = 0; turn < ROOM_TURNS && status == ORION_AGAIN; turn++) {
            status = orion_port_event(w->port, &event, (uint32_t)(sizeof event - sizeof event.data + part));
            if (status == ORION_AGAIN)
                nanosleep(&pause, NULL);
        }
        if (status != ORION_OK)
            return;
        text += part;
        bytes -= part;
    }
}
