/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Export tables: arrays of words that the CUDA runtime and NVIDIA's libraries ask for by UUID. Which exist and what
 * their slots do is known from public projects (ZLUDA, Apache-2.0 or MIT; Lupine) and from watching calls; it is a
 * compatibility handshake, see docs/legal.md. No slot is ever NULL, and tables never move: their addresses enter the
 * integrity answer.
 */
#ifndef ORION_CLIENT_DARK_TABLE_H
#define ORION_CLIENT_DARK_TABLE_H

#include "orion_generated/orion_cuda.h"

#include <stdbool.h>
#include <stdint.h>

typedef const void *orion_dark_word_t;

/* Somebody has called cuGetProcAddress, as every runtime since 11.3 does before all else. */
bool orion_proc_address_asked(void);

/* Logs at debug level and answers CUDA_ERROR_NOT_SUPPORTED. */
CUresult orion_dark_unused(const char *table, int slot, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                           uint64_t f);

#define ORION_DARK_SLOT(table, slot)                                                                            \
    static __attribute__((unused)) CUresult table##_slot_##slot(uint64_t a, uint64_t b, uint64_t c, uint64_t d, \
                                                                uint64_t e, uint64_t f)                         \
    {                                                                                                           \
        return orion_dark_unused(#table, slot, a, b, c, d, e, f);                                               \
    }

/* Ten unused slots with numbers tens * 10 ...; tens is empty for the first. */
#define ORION_DARK_TEN(table, tens) \
    ORION_DARK_SLOT(table, tens##0) \
    ORION_DARK_SLOT(table, tens##1) \
    ORION_DARK_SLOT(table, tens##2) \
    ORION_DARK_SLOT(table, tens##3) \
    ORION_DARK_SLOT(table, tens##4) \
    ORION_DARK_SLOT(table, tens##5) \
    ORION_DARK_SLOT(table, tens##6) \
    ORION_DARK_SLOT(table, tens##7) \
    ORION_DARK_SLOT(table, tens##8) \
    ORION_DARK_SLOT(table, tens##9)

#define ORION_DARK_TEN_WORDS(table, tens)                                                               \
    table##_slot_##tens##0, table##_slot_##tens##1, table##_slot_##tens##2, table##_slot_##tens##3,     \
        table##_slot_##tens##4, table##_slot_##tens##5, table##_slot_##tens##6, table##_slot_##tens##7, \
        table##_slot_##tens##8, table##_slot_##tens##9

/* Word 0 of most tables: their size. */
#define ORION_DARK_BYTES(words) ((orion_dark_word_t)(uintptr_t)((words) * 8))

extern orion_dark_word_t orion_dark_cudart[], orion_dark_tools_hooks[], orion_dark_tools_tls[],
    orion_dark_tools_context[], orion_dark_context_storage[], orion_dark_context_checks[], orion_dark_integrity[],
    orion_dark_tools_module[], orion_dark_blaslt[];

#endif
