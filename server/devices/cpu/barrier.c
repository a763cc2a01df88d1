/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block barriers: bar.sync, bar.arrive, bar.red with ids and thread counts. Runs on the block's OS thread.
 */
#include "block.h"

enum { RED_POPC = 0, RED_AND = 1, RED_OR = 2 };

static uint32_t reduce(uint32_t op, uint32_t set, uint32_t present)
{
    switch (op) {
    case RED_POPC:
        return set;
    case RED_AND:
        return set == present;
    default:
        return set != 0;
    }
}

void orion_cpu_barrier_all(orion_cpu_block_t *block, uint32_t k)
{
    const orion_cpu_sync_t *sync = &block->kernel->sync[k];
    uint32_t set = 0, value;

    for (uint32_t t = 0; t < block->threads; t++)
        set += orion_cpu_arg(block, sync, t, 2) != 0;
    value = reduce(sync->op, set, block->threads);
    for (uint32_t t = 0; t < block->threads; t++)
        block->result[t] = value;
}

static int waits(const orion_cpu_block_t *block, uint32_t t, uint32_t id)
{
    const uint32_t next = block->next[t];

    if (next == ORION_CPU_DONE || (next & ORION_CPU_READY))
        return 0;
    const orion_cpu_sync_t *sync = &block->kernel->sync[next];
    if (sync->kind != ORION_CPU_SYNC_BARRIER && sync->kind != ORION_CPU_SYNC_BARRIER_RED)
        return 0;
    return orion_cpu_arg(block, sync, t, 0) % ORION_CPU_BARRIERS == id;
}

static void release_one(orion_cpu_block_t *block, uint32_t id, uint32_t op, uint32_t present, uint32_t set)
{
    const uint32_t value = reduce(op, set, present);

    for (uint32_t t = 0; t < block->threads; t++) {
        if (!waits(block, t, id))
            continue;
        block->result[t] = value;
        block->next[t] |= ORION_CPU_READY;
    }
    block->arrived[id] = 0;
}

int orion_cpu_barrier_release(orion_cpu_block_t *block)
{
    uint32_t present[ORION_CPU_BARRIERS] = {0}, set[ORION_CPU_BARRIERS] = {0};
    uint32_t count[ORION_CPU_BARRIERS] = {0}, op[ORION_CPU_BARRIERS] = {0};
    int any = 0;

    for (uint32_t t = 0; t < block->threads; t++) {
        const uint32_t next = block->next[t];
        if (next == ORION_CPU_DONE || (next & ORION_CPU_READY))
            continue;
        const orion_cpu_sync_t *sync = &block->kernel->sync[next];
        if (sync->kind != ORION_CPU_SYNC_BARRIER && sync->kind != ORION_CPU_SYNC_BARRIER_RED)
            continue;
        const uint32_t id = orion_cpu_arg(block, sync, t, 0) % ORION_CPU_BARRIERS;
        present[id]++;
        count[id] = orion_cpu_arg(block, sync, t, 1);
        op[id] = sync->op;
        set[id] += sync->kind == ORION_CPU_SYNC_BARRIER_RED && orion_cpu_arg(block, sync, t, 2) != 0;
    }
    for (uint32_t id = 0; id < ORION_CPU_BARRIERS; id++) {
        /* Exited threads are not waited for where the code counts the whole block. */
        const uint32_t need = count[id] == 0 || count[id] >= block->threads ? block->live : count[id];
        if (present[id] == 0 || present[id] + block->arrived[id] < need)
            continue;
        release_one(block, id, op[id], present[id], set[id]);
        any = 1;
    }
    return any;
}
