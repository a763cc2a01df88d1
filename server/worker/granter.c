/* SPDX-License-Identifier: Apache-2.0 */
/* Extents; see granter.h. */
#include "worker/granter.h"

#include "shm/segment.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define IDLE_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

void orion_extents_init(orion_extents_t *extents, orion_control_line_t *line, uint64_t base, uint64_t arena_bytes)
{
    memset(extents, 0, sizeof *extents);
    extents->line = line;
    extents->base = base;
    extents->arena_bytes = arena_bytes;
    pthread_mutex_init(&extents->lock, NULL);
}

void orion_extents_fini(orion_extents_t *extents)
{
    pthread_mutex_destroy(&extents->lock);
}

static CUresult register_extent(orion_extents_t *extents, uint64_t address, uint64_t bytes, int fd)
{
    return extents->ops ? extents->ops->host_register(extents->device, address, bytes, fd, 0) : CUDA_SUCCESS;
}

/* The twin's way: a memfd of its own making; the client's half of the process maps the arena's extents once more. */
static CUresult map_alone(orion_extents_t *extents, uint64_t address, uint64_t bytes, uint64_t arena)
{
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    const int fd = orion_memfd_sized("orion-extent", bytes, NULL, 0);
    if (fd < 0)
        return result;
    void *want = (void *)(uintptr_t)address;
    if (mmap(want, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != want)
        goto err_close;
    if (arena && (result = register_extent(extents, address, bytes, fd)) != CUDA_SUCCESS)
        goto err_unmap;
    if (arena) {
        orion_notice_t notice;
        orion_notice_init(&notice, ORION_NOTICE_EXTENT);
        notice.offset = address - extents->base;
        notice.size = bytes;
        result = CUDA_ERROR_OUT_OF_MEMORY;
        if (!extents->notice || extents->notice(extents->notice_self, &notice, fd))
            goto err_unregister;
    } else
        close(fd);
    return CUDA_SUCCESS;

err_unregister:
    if (extents->ops)
        extents->ops->host_unregister(extents->device, address);
err_unmap:
    mmap(want, bytes, PROT_NONE, IDLE_FLAGS | MAP_FIXED, -1, 0);
err_close:
    close(fd);
    return result;
}

static CUresult map_extent(orion_extents_t *extents, uint64_t address, uint64_t bytes, uint64_t arena)
{
    void *want = (void *)(uintptr_t)address;
    if (!extents->line)
        return map_alone(extents, address, bytes, arena);
    orion_control_message_t answer;
    int fd;
    if (orion_control_ask(extents->line, ORION_CONTROL_GRANT, address, bytes, arena, NULL, 0, &answer, &fd))
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (answer.result != CUDA_SUCCESS || fd < 0) {
        if (fd >= 0)
            close(fd);
        return answer.result ? (CUresult)answer.result : CUDA_ERROR_OUT_OF_MEMORY;
    }
    void *got = mmap(want, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    CUresult result = got == want ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS && arena)
        result = register_extent(extents, address, bytes, fd);
    close(fd);
    if (result == CUDA_SUCCESS)
        return result;
    mmap(want, bytes, PROT_NONE, IDLE_FLAGS | MAP_FIXED, -1, 0);
    orion_control_tell(extents->line, ORION_CONTROL_RELEASE, 0, address, bytes, NULL, 0);
    return result;
}

static void unmap_extent(orion_extents_t *extents, uint64_t address, uint64_t bytes)
{
    if (extents->ops)
        extents->ops->host_unregister(extents->device, address);
    mmap((void *)(uintptr_t)address, bytes, PROT_NONE, IDLE_FLAGS | MAP_FIXED, -1, 0);
    if (extents->line)
        orion_control_tell(extents->line, ORION_CONTROL_RELEASE, 0, address, bytes, NULL, 0);
}

static CUresult grant_heap(void *self, uint64_t address, uint64_t bytes)
{
    return map_extent(self, address, bytes, 0);
}

static void release_heap(void *self, uint64_t address, uint64_t bytes)
{
    unmap_extent(self, address, bytes);
}

orion_granter_t orion_extents_granter(orion_extents_t *extents)
{
    return (orion_granter_t){.self = extents, .grant = grant_heap, .release = release_heap};
}

CUresult orion_arena_extend(orion_extents_t *extents, uint64_t bytes, uint64_t *offset_p)
{
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t offset = 0;
    uint32_t at = 0;
    if (!extents->base || !extents->arena_bytes)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (bytes == 0 || bytes % ORION_EXTENT_GRANULE || bytes > extents->arena_bytes)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&extents->lock);
    while (at < extents->count && extents->arena[at].offset - offset < bytes) { /* first fit */
        offset = extents->arena[at].offset + extents->arena[at].bytes;
        at++;
    }
    if (extents->count < ORION_ARENA_EXTENTS && offset <= extents->arena_bytes - bytes) {
        result = map_extent(extents, extents->base + offset, bytes, 1);
        if (result == CUDA_ERROR_OUT_OF_MEMORY && extents->trim && extents->trim(extents->device))
            result = map_extent(extents, extents->base + offset, bytes, 1);
    }
    if (result == CUDA_SUCCESS) {
        memmove(extents->arena + at + 1, extents->arena + at, (extents->count - at) * sizeof extents->arena[0]);
        extents->arena[at].offset = offset;
        extents->arena[at].bytes = bytes;
        extents->count++;
        *offset_p = offset;
    }
    pthread_mutex_unlock(&extents->lock);
    return result;
}

bool orion_arena_release(orion_extents_t *extents, uint64_t offset, uint64_t *bytes_p)
{
    bool found = false;
    pthread_mutex_lock(&extents->lock);
    for (uint32_t at = 0; at < extents->count && !found; at++) {
        if (extents->arena[at].offset != offset)
            continue;
        *bytes_p = extents->arena[at].bytes;
        extents->count--;
        memmove(extents->arena + at, extents->arena + at + 1, (extents->count - at) * sizeof extents->arena[0]);
        unmap_extent(extents, extents->base + offset, *bytes_p);
        found = true;
    }
    pthread_mutex_unlock(&extents->lock);
    return found;
}

void orion_arena_clear(orion_extents_t *extents)
{
    uint64_t bytes;
    while (extents->count)
        orion_arena_release(extents, extents->arena[extents->count - 1].offset, &bytes);
    while (extents->adopted_count)
        orion_disown(extents, extents->adopted[extents->adopted_count - 1].address);
}

CUresult orion_heap_expose(orion_extents_t *extents, uint64_t address, uint64_t *offset_p, uint64_t *bytes_p)
{
    orion_control_message_t answer;
    int fd;
    *offset_p = *bytes_p = 0;
    if (!extents->line)
        return CUDA_SUCCESS; /* a twin's client is in the same process */
    if (!extents->arena_bytes)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (orion_control_ask(extents->line, ORION_CONTROL_EXPOSE, address, 0, 0, NULL, 0, &answer, &fd))
        return CUDA_ERROR_UNKNOWN;
    if (fd >= 0)
        close(fd);
    if (answer.result != CUDA_SUCCESS)
        return (CUresult)answer.result;
    *offset_p = answer.a - extents->base;
    *bytes_p = answer.b;
    return CUDA_SUCCESS;
}
