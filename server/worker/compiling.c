/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands between the device and its compiler: charges the variables of every module to the session's memory limit,
 * gives them back when the module goes, and counts what was compiled. Called by executor and pool threads.
 */
#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t id, bytes;
} charge_t;

struct orion_compiling {
    orion_compiler_t table;
    const orion_compiler_t *inner;
    orion_ledger_t *ledger;
    orion_stats_t *stats;
    pthread_mutex_t lock;
    charge_t *charge;
    size_t count, room;
};

static bool remember(struct orion_compiling *c, uint64_t id, uint64_t bytes)
{
    bool kept = true;
    pthread_mutex_lock(&c->lock);
    if (c->count == c->room) {
        const size_t room = c->room ? c->room * 2 : 16;
        charge_t *grown = realloc(c->charge, room * sizeof *grown);
        if (grown) {
            c->charge = grown;
            c->room = room;
        } else
            kept = false;
    }
    if (kept)
        c->charge[c->count++] = (charge_t){id, bytes};
    pthread_mutex_unlock(&c->lock);
    return kept;
}

static uint64_t forget(struct orion_compiling *c, uint64_t id)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->count; i++)
        if (c->charge[i].id == id) {
            bytes = c->charge[i].bytes;
            c->charge[i] = c->charge[--c->count];
            break;
        }
    pthread_mutex_unlock(&c->lock);
    return bytes;
}

static CUresult load(void *self, const void *image, size_t bytes, orion_image_t *image_p, char *log, size_t log_bytes)
{
    struct orion_compiling *c = self;
    const CUresult result = c->inner->load(c->inner->self, image, bytes, image_p, log, log_bytes);
    if (result != CUDA_SUCCESS)
        return result;
    if (orion_ledger_take(c->ledger, image_p->data_bytes)) {
        if (remember(c, image_p->id, image_p->data_bytes))
            return CUDA_SUCCESS;
        orion_ledger_give(c->ledger, image_p->data_bytes);
    }
    if (log && log_bytes)
        snprintf(log, log_bytes, "the module's variables (%llu bytes) do not fit the memory limit",
                 (unsigned long long)image_p->data_bytes);
    c->inner->unload(c->inner->self, image_p->id);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult function(void *self, uint64_t id, const char *name, const struct orion_cpu_kernel **kernel_p,
                         orion_function_info_t *info_p, char *log, size_t log_bytes)
{
    struct orion_compiling *c = self;
    const CUresult result = c->inner->function(c->inner->self, id, name, kernel_p, info_p, log, log_bytes);
    if (result == CUDA_SUCCESS)
        orion_stats_add(&c->stats->compiled, 1);
    return result;
}

static void unload(void *self, uint64_t id)
{
    struct orion_compiling *c = self;
    orion_ledger_give(c->ledger, forget(c, id));
    c->inner->unload(c->inner->self, id);
}

struct orion_compiling *orion_compiling_new(const orion_compiler_t *compiler, orion_ledger_t *ledger,
                                            orion_stats_t *stats)
{
    struct orion_compiling *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->table = (orion_compiler_t){.self = c, .load = load, .function = function, .unload = unload};
    c->inner = compiler;
    c->ledger = ledger;
    c->stats = stats;
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

void orion_compiling_free(struct orion_compiling *c)
{
    if (!c)
        return;
    pthread_mutex_destroy(&c->lock);
    free(c->charge);
    free(c);
}

const orion_compiler_t *orion_compiling_table(struct orion_compiling *c)
{
    return &c->table;
}

static _Thread_local int note;

void orion_compiling_note(bool prints)
{
    note = prints ? 1 : -1;
}

int orion_compiling_prints(void)
{
    const int prints = note;
    note = 0;
    return prints;
}
