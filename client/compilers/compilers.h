/* SPDX-License-Identifier: Apache-2.0 */
/*
 * liborion_compilers.so, which `orion run` preloads: where the device runs PTX and no machine code, programs that ask
 * NVRTC or nvJitLink for a cubin get PTX instead. It answers dlsym() for those names; and dlerror(), so as to say what
 * is missing when a program has found no NVRTC (missing.c).
 */
#ifndef ORION_CLIENT_COMPILERS_H
#define ORION_CLIENT_COMPILERS_H

#include <stddef.h>
#include <stdint.h>

typedef void *(*orion_dlsym_fn)(void *handle, const char *name);

void *orion_dlsym(void *handle, const char *name);

/* A function of the C library as it was before us: "dlsym", "dlerror". */
void *orion_real(const char *name);
orion_dlsym_fn orion_real_dlsym(void);

/* missing.c */
char *orion_dlerror(void);
void orion_nvrtc_is_there(void);

/* Whether the device wants PTX: ORION_PTX says 0 or 1, else the driver is asked, once. */
int orion_wants_ptx(void);

/* A function of the library that defines `known`; NULL when it has none. */
void *orion_sibling(void *known, const char *name);

/* What to give for `name`, which the real dlsym() found at `found`; `found` itself for names that are not ours. */
void *orion_nvrtc_hook(const char *name, void *found);
void *orion_nvjitlink_hook(const char *name, void *found);

/* Whether the bytes are PTX text rather than something binary. */
int orion_looks_like_ptx(const void *data, size_t bytes);

/* Several copies of one library may be loaded (NVRTC 12 and 13); each gets a slot with functions of its own. */
#define ORION_COMPILER_SLOTS 4
typedef struct {
    void *base; /* of the library; NULL: free */
} orion_compiler_slot_t;
int orion_compiler_slot(orion_compiler_slot_t *slots, size_t stride, void *known);

#endif
