/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traps, clocks and the device-side heap. Called from compiled kernels on the thread that runs the block.
 */
#include "runtime.h"

#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void name_thread(const orion_cpu_block_t *block, uint32_t t, char *text, size_t len)
{
    const uint32_t nx = block->ntid[0], ny = block->ntid[1];

    snprintf(text, len, "block (%u,%u,%u), thread (%u,%u,%u)", block->ctaid[0], block->ctaid[1], block->ctaid[2],
             t % nx, t / nx % ny, t / nx / ny);
}

_Noreturn void orion_cpu_trap(orion_cpu_block_t *block, uint32_t t)
{
    char who[96];

    name_thread(block, t, who, sizeof(who));
    orion_cpu_fail(block, ORION_CPU_TRAP, "trap in %s", who);
}

_Noreturn void orion_cpu_assert_fail(orion_cpu_block_t *block, uint32_t t, uint64_t message, uint64_t file,
                                     uint32_t line, uint64_t function, uint64_t char_size)
{
    char who[96], text[512];
    int len;

    (void)char_size;
    name_thread(block, t, who, sizeof(who));
    len = snprintf(text, sizeof(text), "%.128s:%u: %.128s: %s Assertion `%.128s` failed.\n",
                   (const char *)(uintptr_t)file, line, (const char *)(uintptr_t)function, who,
                   (const char *)(uintptr_t)message);
    if (len > 0 && block->launch->print != NULL)
        block->launch->print(block->launch->print_user, text,
                             (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
    orion_cpu_fail(block, ORION_CPU_ASSERT, "assertion `%.128s` failed in %s", (const char *)(uintptr_t)message, who);
}

_Noreturn void orion_cpu_bad_call(orion_cpu_block_t *block, uint32_t t, uint64_t value)
{
    char who[96];

    name_thread(block, t, who, sizeof(who));
    orion_cpu_fail(block, ORION_CPU_BAD_CALL, "call through 0x%" PRIx64 ", which is no function of this type, in %s",
                   value, who);
}

static int64_t now(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Moves by at least one at each reading, so that loops on a timeout end. One tick is a nanosecond. */
int64_t orion_cpu_clock(void)
{
    return now(CLOCK_MONOTONIC);
}

/* The calendar's time at the first reading, and from then on what has passed: a kernel that waits by it does not hang
 * when somebody sets the clock. The atomic guards itself alone. */
int64_t orion_cpu_globaltimer(void)
{
    static _Atomic int64_t first;
    int64_t offset = atomic_load_explicit(&first, memory_order_relaxed);

    if (offset == 0) {
        const int64_t mine = now(CLOCK_REALTIME) - now(CLOCK_MONOTONIC);
        if (atomic_compare_exchange_strong(&first, &offset, mine))
            offset = mine;
    }
    return offset + now(CLOCK_MONOTONIC);
}

void orion_cpu_pause(void)
{
    sched_yield();
}

uint64_t orion_cpu_malloc(orion_cpu_block_t *block, uint32_t t, uint64_t size)
{
    (void)block;
    (void)t;
    if (size == 0)
        return 0;
    return (uint64_t)(uintptr_t)malloc(size);
}

void orion_cpu_free(orion_cpu_block_t *block, uint32_t t, uint64_t address)
{
    (void)block;
    (void)t;
    free((void *)(uintptr_t)address);
}
