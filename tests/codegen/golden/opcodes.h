/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_wire.py: edit those. */
#ifndef ORION_GENERATED_OPCODES_H
#define ORION_GENERATED_OPCODES_H

#include <stdint.h>

typedef enum orion_opcode {
    ORION_OP_orionAsk = 1,
    ORION_OP_cuMemAlloc_v2 = 2,
    ORION_OP_cuMemsetD8_v2 = 3,
    ORION_OP_cuStreamCreate = 4,
    ORION_OP_cuStreamDestroy_v2 = 5,
    ORION_OP_cuStreamSynchronize = 6,
    ORION_OP_orionFetch = 7,
    ORION_OP_LIMIT = 8
} orion_opcode_t;

/* The operation's name; "?" for a number that is none. */
const char *orion_opcode_name(uint32_t opcode);

#endif
