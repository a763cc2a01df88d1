/* SPDX-License-Identifier: Apache-2.0 */
/* The common address range of a session, see range.h. */
#define _GNU_SOURCE
#include "shm/range.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17; older kernels take it as a hint, which is checked */
#endif

#define PAGE_MASK 4095ULL

#ifdef __SANITIZE_THREAD__ /* its own books lie where ours would be */
const uint64_t orion_range_bases[8] = {0x7e8000000000ULL, 0x560000000000ULL, 0};
#else
const uint64_t orion_range_bases[8] = {0x100000000000ULL, 0x200000000000ULL, 0x300000000000ULL, 0x400000000000ULL,
                                       0x180000000000ULL, 0x280000000000ULL, 0x080000000000ULL, 0};
#endif

bool orion_range_reserve(uint64_t base, uint64_t bytes)
{
    void *wanted = (void *)(uintptr_t)base;
    int saved = errno;
    void *got = mmap(wanted, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
                     0);
    if (got != MAP_FAILED && got != wanted) {
        (void)munmap(got, bytes);
        got = MAP_FAILED;
    }
    errno = saved;
    if (got == MAP_FAILED)
        return false;
    (void)madvise(got, bytes, MADV_DONTDUMP); /* half a terabyte of nothing in a core file */
    errno = saved;
    return true;
}

uint64_t orion_range_reserve_first(const uint64_t *candidates, size_t count, uint64_t bytes)
{
    if (bytes == 0 || (bytes & PAGE_MASK) != 0)
        return 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t base = candidates[i];
        if (base == 0 || (base & PAGE_MASK) != 0 || base + bytes < base || base + bytes > 1ULL << 47)
            continue;
        if (orion_range_reserve(base, bytes))
            return base;
    }
    return 0;
}

void orion_range_release(uint64_t base, uint64_t bytes)
{
    if (base != 0)
        (void)munmap((void *)(uintptr_t)base, bytes);
}

static bool within(uint64_t base, uint64_t range_bytes, uint64_t offset, uint64_t bytes)
{
    return base != 0 && bytes != 0 && ((offset | bytes) & PAGE_MASK) == 0 && offset < range_bytes &&
           bytes <= range_bytes - offset;
}

orion_status_t orion_range_map(uint64_t base, uint64_t range_bytes, uint64_t offset, uint64_t bytes, int fd)
{
    if (!within(base, range_bytes, offset, bytes))
        return ORION_INVALID;
    void *at = (void *)(uintptr_t)(base + offset);
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return ORION_SYSTEM;
    return ORION_OK;
}

orion_status_t orion_range_unmap(uint64_t base, uint64_t range_bytes, uint64_t offset, uint64_t bytes)
{
    if (!within(base, range_bytes, offset, bytes))
        return ORION_INVALID;
    void *at = (void *)(uintptr_t)(base + offset);
    if (mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        return ORION_SYSTEM;
    }
    return ORION_OK;
}
