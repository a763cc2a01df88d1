/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec/blobs.toml by csrc/codegen/emit_wire.py: edit those. */
#ifndef ORION_GENERATED_BLOBS_H
#define ORION_GENERATED_BLOBS_H

#include <stdint.h>

/* What orionAsk answers. */
typedef struct orion_answer_blob {
    uint8_t letter; /* one byte, then a gap */
    uint8_t pad0[7];
    uint64_t number; /* naturally aligned */
} orion_answer_blob_t;
_Static_assert(sizeof(orion_answer_blob_t) == 16, "wire layout");

#endif
