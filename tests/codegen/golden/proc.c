/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec/cuda by csrc/codegen/emit_proc.py: edit those. */
#include "orion_generated/proc.h"

#include <string.h>

void cuDeviceGetCount(void);
void cuGraphLaunch(void);
void cuGraphLaunch_ptsz(void);
void cuMemAlloc_v2(void);
void cuMemcpyHtoD_v2(void);
void cuMemcpyHtoD_v2_ptds(void);
void cuMemsetD8_v2(void);
void cuMemsetD8_v2_ptds(void);
void cuStreamCreate(void);
void cuStreamDestroy(void);
void cuStreamDestroy_v2(void);
void cuStreamSynchronize(void);
void cuStreamSynchronize_ptsz(void);

const orion_proc_t orion_procs[] = {
    {"cuDeviceGetCount", "cuDeviceGetCount", 2000, false, (void *)cuDeviceGetCount},
    {"cuGraphLaunch", "cuGraphLaunch", 10000, false, (void *)cuGraphLaunch},
    {"cuGraphLaunch", "cuGraphLaunch_ptsz", 10000, true, (void *)cuGraphLaunch_ptsz},
    {"cuMemAlloc", "cuMemAlloc_v2", 3020, false, (void *)cuMemAlloc_v2},
    {"cuMemcpyHtoD", "cuMemcpyHtoD_v2", 3020, false, (void *)cuMemcpyHtoD_v2},
    {"cuMemcpyHtoD", "cuMemcpyHtoD_v2_ptds", 7000, true, (void *)cuMemcpyHtoD_v2_ptds},
    {"cuMemsetD8", "cuMemsetD8_v2", 3020, false, (void *)cuMemsetD8_v2},
    {"cuMemsetD8", "cuMemsetD8_v2_ptds", 7000, true, (void *)cuMemsetD8_v2_ptds},
    {"cuStreamCreate", "cuStreamCreate", 2000, false, (void *)cuStreamCreate},
    {"cuStreamDestroy", "cuStreamDestroy", 2000, false, (void *)cuStreamDestroy},
    {"cuStreamDestroy", "cuStreamDestroy_v2", 4000, false, (void *)cuStreamDestroy_v2},
    {"cuStreamSynchronize", "cuStreamSynchronize", 2000, false, (void *)cuStreamSynchronize},
    {"cuStreamSynchronize", "cuStreamSynchronize_ptsz", 7000, true, (void *)cuStreamSynchronize_ptsz},
};

const size_t orion_proc_count = sizeof(orion_procs) / sizeof(orion_procs[0]);

static size_t lower_bound(const char *base)
{
    size_t low = 0, high = orion_proc_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(orion_procs[middle].base, base) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const orion_proc_t *orion_proc_find(const char *base, int version, bool per_thread, bool *known_p)
{
    const orion_proc_t *plain = NULL, *threaded = NULL;
    bool has_plain = false, has_threaded = false;
    for (size_t i = lower_bound(base); i < orion_proc_count && strcmp(orion_procs[i].base, base) == 0; i++) {
        const orion_proc_t *row = &orion_procs[i];
        if (row->per_thread) {
            has_threaded = true;
            if (row->version <= version) threaded = row;
        } else {
            has_plain = true;
            if (row->version <= version) plain = row;
        }
    }
    *known_p = has_plain || has_threaded;
    return per_thread && has_threaded ? threaded : plain;
}
