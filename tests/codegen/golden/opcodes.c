/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_wire.py: edit those. */
#include "orion_generated/opcodes.h"

static const char *const names[ORION_OP_LIMIT] = {
    [ORION_OP_orionAsk] = "orionAsk",
    [ORION_OP_cuMemAlloc_v2] = "cuMemAlloc_v2",
    [ORION_OP_cuMemsetD8_v2] = "cuMemsetD8_v2",
    [ORION_OP_cuStreamCreate] = "cuStreamCreate",
    [ORION_OP_cuStreamDestroy_v2] = "cuStreamDestroy_v2",
    [ORION_OP_cuStreamSynchronize] = "cuStreamSynchronize",
    [ORION_OP_orionFetch] = "orionFetch",
};

const char *orion_opcode_name(uint32_t opcode)
{
    return opcode < ORION_OP_LIMIT && names[opcode] ? names[opcode] : "?";
}
