/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_client.py: edit those. */
/* Names that are not served: NOT_SUPPORTED, logged once each. No argument is looked at, so none is declared. */
#include "orion_generated/orion_cuda.h"

CUresult orion_unserved(const char *name);

#define UNSERVED(name)                                                \
    __attribute__((visibility("default"))) CUresult name(void);         \
    CUresult name(void) { return orion_unserved(#name); }

UNSERVED(cuGraphLaunch)
UNSERVED(cuGraphLaunch_ptsz)
