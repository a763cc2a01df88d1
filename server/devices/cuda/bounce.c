/* SPDX-License-Identifier: Apache-2.0 */
/* Pinned memory for what comes from or goes to memory that the driver has not registered: a copy from there would make
 * the loop wait. Two sizes, in slabs that are added as they are needed. */
#include "cuda/device.h"

#include <stdlib.h>

static const uint32_t class_bytes[2] = {32u << 10, 256u << 10};
static const uint32_t slab_bytes[2] = {2u << 20, 4u << 20};
#define SLABS 16u

/* Under lock, which is let go. */
static bool grow(orion_device_t *device, uint32_t class)
{
    const uint32_t number = device->bounce_slabs[class];
    void *memory = NULL;
    if (number == SLABS)
        return false;
    device->bounce_slabs[class]++; /* one thread at a time gets this number */
    pthread_mutex_unlock(&device->lock);
    const CUresult result = device->driver.cuMemHostAlloc(&memory, slab_bytes[class], CU_MEMHOSTALLOC_PORTABLE);
    pthread_mutex_lock(&device->lock);
    if (orion_cuda_judge(device, result) != CUDA_SUCCESS)
        return false;
    device->slab[class][number] = memory;
    for (uint32_t at = 0; at < slab_bytes[class]; at += class_bytes[class]) {
        orion_bounce_t *bounce = malloc(sizeof *bounce);
        if (!bounce)
            break;
        *bounce = (orion_bounce_t){device->bounce[class], (unsigned char *)memory + at, class_bytes[class], class};
        device->bounce[class] = bounce;
    }
    return true;
}

orion_bounce_t *orion_bounce_take(orion_device_t *device, uint64_t bytes, bool may_wait)
{
    const uint32_t class = bytes > class_bytes[0];
    orion_bounce_t *bounce = NULL;
    pthread_mutex_lock(&device->lock);
    while (!(bounce = device->bounce[class])) {
        if (grow(device, class))
            continue;
        if (!may_wait || device->dropping || orion_cuda_sticky(device) || !device->slab[class][0])
            break;
        pthread_cond_wait(&device->returned, &device->lock);
    }
    if (bounce)
        device->bounce[class] = bounce->next;
    pthread_mutex_unlock(&device->lock);
    return bounce;
}

void orion_bounce_return(orion_device_t *device, orion_bounce_t *bounce)
{
    pthread_mutex_lock(&device->lock);
    bounce->next = device->bounce[bounce->class];
    device->bounce[bounce->class] = bounce;
    pthread_cond_broadcast(&device->returned);
    pthread_mutex_unlock(&device->lock);
}

void orion_bounce_forget(orion_device_t *device, bool context_is_alive)
{
    for (uint32_t class = 0; class < 2; class ++) {
        while (device->bounce[class]) {
            orion_bounce_t *bounce = device->bounce[class];
            device->bounce[class] = bounce->next;
            free(bounce);
        }
        for (uint32_t i = 0; i < device->bounce_slabs[class]; i++) {
            if (context_is_alive && device->slab[class][i])
                device->driver.cuMemFreeHost(device->slab[class][i]);
            device->slab[class][i] = NULL;
        }
        device->bounce_slabs[class] = 0;
    }
}
