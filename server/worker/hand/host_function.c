/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host functions run in the client: when a stream gets to one, the worker sends an event with its cookie and the
 * stream waits at a gate until the client says that the function has returned.
 */
#include "worker/hand/hand.h"

#include <stdlib.h>

typedef struct gate {
    struct gate *next;
    orion_worker_t *worker;
    orion_gate_t *gate;
    uint64_t cookie;
    bool unsent;  /* the stream is here, the event ring was full */
    bool failed;  /* the stream got here with an error: the function is not called, the gate falls */
    bool reached; /* the device is done with this struct */
    bool opened;  /* out of the list; whoever of the two comes second frees */
} gate_t;

struct orion_gates {
    pthread_mutex_t lock;
    gate_t *first, **last;
    _Atomic uint32_t unsent;
};

struct orion_gates *orion_gates_new(void)
{
    struct orion_gates *gates = calloc(1, sizeof *gates);
    if (!gates)
        return NULL;
    pthread_mutex_init(&gates->lock, NULL);
    gates->last = &gates->first;
    return gates;
}

/* After a reset or at the end: the device calls none of them any more. */
void orion_gates_clear(struct orion_gates *gates)
{
    pthread_mutex_lock(&gates->lock);
    while (gates->first) {
        gate_t *gate = gates->first;
        gates->first = gate->next;
        free(gate);
    }
    gates->last = &gates->first;
    atomic_store(&gates->unsent, 0);
    pthread_mutex_unlock(&gates->lock);
}

void orion_gates_free(struct orion_gates *gates)
{
    if (!gates)
        return;
    orion_gates_clear(gates);
    pthread_mutex_destroy(&gates->lock);
    free(gates);
}

static bool send_event(orion_worker_t *w, uint64_t cookie)
{
    const struct {
        uint32_t kind, bytes;
        uint64_t cookie;
    } event = {ORION_EVENT_HOST_FUNCTION, 0, cookie};
    return orion_port_event(w->port, &event, sizeof event) != ORION_AGAIN;
}

static void reached(void *arg, CUresult result)
{
    gate_t *gate = arg;
    struct orion_gates *gates = gate->worker->gates;
    /* after a reset or at the end there is nothing to open, and orion_gates_clear() follows */
    const bool failed = result != CUDA_SUCCESS && result != CUDA_ERROR_CONTEXT_IS_DESTROYED;
    const bool sent = result != CUDA_SUCCESS || send_event(gate->worker, gate->cookie);
    pthread_mutex_lock(&gates->lock);
    const bool last = gate->opened;
    gate->reached = true;
    gate->unsent = !sent && !last;
    gate->failed = failed && !last;
    if (gate->unsent || gate->failed)
        atomic_fetch_add(&gates->unsent, 1);
    pthread_mutex_unlock(&gates->lock);
    if (last)
        free(gate);
}

void orion_gates_retry(orion_worker_t *w)
{
    struct orion_gates *gates = w->gates;
    gate_t *fallen = NULL;
    if (atomic_load_explicit(&gates->unsent, memory_order_relaxed) == 0)
        return;
    pthread_mutex_lock(&gates->lock);
    for (gate_t **at = &gates->first; *at;) {
        gate_t *gate = *at;
        if (gate->failed) { /* opened here and not in reached(), which may run before the gate is known */
            *at = gate->next;
            if (!gate->next)
                gates->last = at;
            atomic_fetch_sub(&gates->unsent, 1);
            gate->next = fallen;
            fallen = gate;
            continue;
        }
        if (gate->unsent && send_event(w, gate->cookie)) {
            gate->unsent = false;
            atomic_fetch_sub(&gates->unsent, 1);
        }
        at = &gate->next;
    }
    pthread_mutex_unlock(&gates->lock);
    while (fallen) { /* without the lock: the stream may get to its next gate inside */
        gate_t *gate = fallen;
        fallen = gate->next;
        w->ops->host_gate_open(w->device, gate->gate);
        free(gate);
    }
}

CUresult orion_serve_orionHostFunc(orion_worker_t *w, orion_stream_t *stream, unsigned long long cookie)
{
    gate_t *gate = calloc(1, sizeof *gate);
    if (!gate)
        return CUDA_ERROR_OUT_OF_MEMORY;
    gate->worker = w;
    gate->cookie = cookie;
    const CUresult result = w->ops->host_gate(w->device, stream, reached, gate, &gate->gate);
    if (result != CUDA_SUCCESS) {
        free(gate);
        return result;
    }
    pthread_mutex_lock(&w->gates->lock);
    *w->gates->last = gate;
    w->gates->last = &gate->next;
    pthread_mutex_unlock(&w->gates->lock);
    return CUDA_SUCCESS;
}

CUresult orion_serve_orionHostFuncDone(orion_worker_t *w, unsigned long long cookie)
{
    struct orion_gates *gates = w->gates;
    gate_t *found = NULL;
    pthread_mutex_lock(&gates->lock);
    for (gate_t **at = &gates->first; *at; at = &(*at)->next) {
        if ((*at)->cookie != cookie || (*at)->unsent || (*at)->failed)
            continue;
        found = *at;
        *at = found->next;
        if (!found->next)
            gates->last = at;
        break;
    }
    orion_gate_t *gate = found ? found->gate : NULL;
    const bool last = found && found->reached;
    if (found)
        found->opened = true;
    pthread_mutex_unlock(&gates->lock);
    if (!found)
        return CUDA_ERROR_INVALID_VALUE;
    if (last)
        free(found);
    w->ops->host_gate_open(w->device, gate);
    return CUDA_SUCCESS;
}
