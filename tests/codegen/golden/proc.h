/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_proc.py: edit those. */
#ifndef ORION_GENERATED_PROC_H
#define ORION_GENERATED_PROC_H

#include <stdbool.h>
#include <stddef.h>

/* One variant of a base name: it exists since `version`. */
typedef struct orion_proc {
    const char *base;
    const char *symbol;
    int version;
    bool per_thread;
    void *address;
} orion_proc_t;

/* Sorted by base, then plain before per-thread, then version. */
extern const orion_proc_t orion_procs[];
extern const size_t orion_proc_count;

/* The newest variant with version <= `version`. With per_thread, a name that has per-thread variants answers with those
 * alone. NULL: *known_p says whether the name exists at all (only in another version). */
const orion_proc_t *orion_proc_find(const char *base, int version, bool per_thread, bool *known_p);

#endif
