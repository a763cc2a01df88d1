/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles: values that look like nothing else, cannot be dereferenced, and die with their object.
 *   bit 62 set | kind << 56 | generation << 32 (16 bits, from 1) | index (32 bits)
 * The low 48 bits are the number on the wire. Index and generation are picked here; the server checks both.
 */
#ifndef ORION_CLIENT_HANDLES_H
#define ORION_CLIENT_HANDLES_H

#include "stub.h"

#define ORION_HANDLE_TAG (1ull << 62)
#define ORION_WIRE_MASK 0xffffffffffffull
#define ORION_STREAM_PER_THREAD_WIRE (1ull << 48) /* | slot of the thread */

static inline orion_kind_t orion_handle_kind(const void *handle)
{
    uint64_t value = (uint64_t)(uintptr_t)handle;
    return value >> 62 == 1 ? (orion_kind_t)(value >> 56 & 0x3f) : (orion_kind_t)0;
}

static inline uint64_t orion_handle_number(const void *handle)
{
    return (uint64_t)(uintptr_t)handle & ORION_WIRE_MASK;
}

/* The object that the client keeps with a handle; NULL when the handle is not live. */
void *orion_handle_object(orion_kind_t kind, const void *handle);
void orion_handle_set_object(orion_kind_t kind, const void *handle, void *object);

/* Calls visit for each live handle of a kind, without holding a lock. */
void orion_handle_each(orion_kind_t kind, void (*visit)(void *argument, void *handle, void *object), void *argument);

CUresult orion_kind_error(orion_kind_t kind);

#endif
