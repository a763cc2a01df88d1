/* SPDX-License-Identifier: Apache-2.0 */
/* Host gates: a host function of the driver that tells whoever wants to know, then waits until it may return. */
#include "cuda/device.h"

#include <stdlib.h>

static void release(orion_gate_t *gate)
{
    if (__atomic_sub_fetch(&gate->references, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->lock);
    free(gate);
}

/* Takes the gate out of the device's list; whoever does owns the list's reference. */
static bool unlink_gate(orion_device_t *device, orion_gate_t *gate)
{
    bool found = false;
    pthread_mutex_lock(&device->lock);
    for (orion_gate_t **at = &device->gates; *at && !found; at = &(*at)->next) {
        if (*at != gate)
            continue;
        *at = gate->next;
        device->closed_gates--;
        found = true;
        break;
    }
    pthread_mutex_unlock(&device->lock);
    return found;
}

static void tell(orion_gate_t *gate, CUresult result)
{
    pthread_mutex_lock(&gate->lock);
    const bool first = !gate->told;
    gate->told = true;
    pthread_mutex_unlock(&gate->lock);
    if (first && gate->reached)
        gate->reached(gate->arg, result);
}

static void open_gate(orion_gate_t *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->opened = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

/* On a thread of the driver. */
void orion_cuda_gate_reached(void *arg)
{
    orion_gate_t *gate = arg;
    tell(gate, CUDA_SUCCESS);
    pthread_mutex_lock(&gate->lock);
    while (!gate->opened)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
    release(gate);
}

CUresult orion_cuda_host_gate(orion_device_t *device, orion_stream_t *stream, orion_done_fn reached, void *arg,
                              orion_gate_t **gate_p)
{
    orion_gate_t *gate = calloc(1, sizeof *gate);
    if (!gate)
        return CUDA_ERROR_OUT_OF_MEMORY;
    gate->device = device;
    gate->reached = reached;
    gate->arg = arg;
    gate->references = 2;
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
    pthread_mutex_lock(&device->lock);
    gate->next = device->gates;
    device->gates = gate;
    device->closed_gates++;
    pthread_mutex_unlock(&device->lock);
    *gate_p = gate;
    orion_cuda_op_t op = {.kind = OP_GATE, .stream = stream, .u.gate = gate};
    const CUresult result = orion_cuda_submit(device, &op);
    if (result == CUDA_SUCCESS)
        return result;
    unlink_gate(device, gate);
    release(gate);
    release(gate);
    return result;
}

void orion_cuda_host_gate_open(orion_device_t *device, orion_gate_t *gate)
{
    const bool ours = unlink_gate(device, gate);
    if (!ours)
        return;
    open_gate(gate);
    release(gate);
}

/* All gates that are still closed: their streams don't get there any more. open: their handles are gone as well. */
void orion_cuda_gates_fail(orion_device_t *device, CUresult result, bool open)
{
    pthread_mutex_lock(&device->lock);
    uint32_t count = 0;
    for (orion_gate_t *gate = device->gates; gate; gate = gate->next)
        count++;
    orion_gate_t **all = count ? calloc(count, sizeof *all) : NULL;
    count = 0;
    for (orion_gate_t *gate = device->gates; all && gate; gate = gate->next) {
        __atomic_fetch_add(&gate->references, 1, __ATOMIC_RELAXED);
        all[count++] = gate;
    }
    pthread_mutex_unlock(&device->lock);
    for (uint32_t i = 0; i < count; i++) {
        tell(all[i], result);
        if (open)
            orion_cuda_host_gate_open(device, all[i]);
        else
            open_gate(all[i]); /* its stream does not wait, its handle stays valid */
        release(all[i]);
    }
    free(all);
}
