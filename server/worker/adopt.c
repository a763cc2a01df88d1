/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the client brings along: its descriptor has gone to the supervisor, which has checked it, and the worker
 * maps it where the client has it. So a worker whose driver is a client of ours can hand on what it shares with its own
 * client, and every process of the chain sees the same bytes at the same address.
 */
#include "worker/granter.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define PAGE_MASK 4095ull
#define ADDRESS_END (1ull << 47)

/* In a twin the client's mapping is the worker's. */
static CUresult map_adopted(orion_extents_t *extents, uint64_t address, uint64_t bytes)
{
    orion_control_message_t answer;
    int fd;
    void *want = (void *)(uintptr_t)address;
    if (!extents->line)
        return CUDA_SUCCESS;
    if (orion_control_ask(extents->line, ORION_CONTROL_ADOPT, address, bytes, 0, NULL, 0, &answer, &fd))
        return CUDA_ERROR_MAP_FAILED;
    if (answer.result != CUDA_SUCCESS || fd < 0) {
        if (fd >= 0)
            close(fd);
        return answer.result ? (CUresult)answer.result : CUDA_ERROR_MAP_FAILED;
    }
    CUresult result = CUDA_SUCCESS;
    void *got = mmap(want, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    if (got != want) { /* EEXIST, or a kernel that takes the address for a hint */
        if (got != MAP_FAILED)
            munmap(got, bytes);
        result = CUDA_ERROR_MAP_FAILED;
    } else if (extents->ops) {
        result = extents->ops->host_register(extents->device, address, bytes, fd, 0);
        if (result != CUDA_SUCCESS)
            munmap(got, bytes);
    }
    close(fd);
    return result;
}

CUresult orion_adopt(orion_extents_t *extents, uint64_t address, uint64_t bytes)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    if (!address || !bytes || (address | bytes) & PAGE_MASK || address + bytes < address ||
        address + bytes > ADDRESS_END)
        return result;
    pthread_mutex_lock(&extents->lock);
    result = extents->adopted_count < ORION_ADOPTED_MOST ? map_adopted(extents, address, bytes)
                                                         : CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS) {
        extents->adopted[extents->adopted_count].address = address;
        extents->adopted[extents->adopted_count++].bytes = bytes;
    }
    pthread_mutex_unlock(&extents->lock);
    return result;
}

bool orion_disown(orion_extents_t *extents, uint64_t address)
{
    bool found = false;
    pthread_mutex_lock(&extents->lock);
    for (uint32_t at = 0; at < extents->adopted_count && !found; at++) {
        if (extents->adopted[at].address != address)
            continue;
        const uint64_t bytes = extents->adopted[at].bytes;
        extents->adopted[at] = extents->adopted[--extents->adopted_count];
        if (extents->ops)
            extents->ops->host_unregister(extents->device, address);
        if (extents->line)
            munmap((void *)(uintptr_t)address, bytes);
        found = true;
    }
    pthread_mutex_unlock(&extents->lock);
    return found;
}
