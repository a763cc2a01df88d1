/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_tests.py: edit those. */
#ifndef ORION_GENERATED_SHAPES_H
#define ORION_GENERATED_SHAPES_H

#include <stdint.h>

#include "orion_generated/opcodes.h"

/* What a field of a record's fixed part means. BYTES and TEXT are the length of a part that follows it, in order. */
typedef enum orion_meaning {
    ORION_MEANING_NUMBER,
    ORION_MEANING_ADDRESS,
    ORION_MEANING_NEW,
    ORION_MEANING_BYTES,
    ORION_MEANING_TEXT,
    ORION_MEANING_EVENT,
    ORION_MEANING_FUNCTION,
    ORION_MEANING_MODULE,
    ORION_MEANING_STREAM,
} orion_meaning_t;

typedef struct orion_shape_field {
    uint16_t offset, bytes;
    orion_meaning_t meaning;
} orion_shape_field_t;

typedef struct orion_shape {
    orion_opcode_t opcode;
    uint16_t waits; /* != 0: it names a reply slot */
    uint16_t bytes; /* of the fixed part */
    uint16_t count;
    orion_shape_field_t fields[4];
} orion_shape_t;

static const orion_shape_t orion_shapes[] = {
    {ORION_OP_orionAsk, 1, 16, 3, {{0, 1, ORION_MEANING_NUMBER}, {4, 4, ORION_MEANING_TEXT}, {8, 4, ORION_MEANING_BYTES}}},
    {ORION_OP_cuMemAlloc_v2, 1, 8, 1, {{0, 8, ORION_MEANING_NUMBER}}},
    {ORION_OP_cuMemsetD8_v2, 0, 32, 4, {{0, 8, ORION_MEANING_ADDRESS}, {8, 1, ORION_MEANING_NUMBER}, {16, 8, ORION_MEANING_NUMBER}, {24, 8, ORION_MEANING_STREAM}}},
    {ORION_OP_cuStreamCreate, 0, 16, 2, {{0, 8, ORION_MEANING_NEW}, {8, 4, ORION_MEANING_NUMBER}}},
    {ORION_OP_cuStreamDestroy_v2, 0, 8, 1, {{0, 8, ORION_MEANING_STREAM}}},
    {ORION_OP_cuStreamSynchronize, 1, 8, 1, {{0, 8, ORION_MEANING_STREAM}}},
    {ORION_OP_orionFetch, 1, 8, 1, {{0, 8, ORION_MEANING_STREAM}}},
};

#endif
