/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVRTC: the cubin is the PTX. A program compiled for sm_XX is compiled for compute_XX instead, which saves the
 * assembler's time; NVRTC makes PTX in both cases.
 */
#include "compilers.h"

#include "say.h"

#include <stdlib.h>
#include <string.h>

typedef struct nvrtc_program *program_t;
typedef int (*get_size_fn)(program_t program, size_t *size_p);
typedef int (*get_fn)(program_t program, char *out);
typedef int (*compile_fn)(program_t program, int count, const char *const *options);

typedef struct {
    orion_compiler_slot_t slot;
    get_size_fn cubin_size, ptx_size;
    get_fn cubin, ptx;
    compile_fn compile;
} nvrtc_t;

static nvrtc_t libraries[ORION_COMPILER_SLOTS];

enum { NVRTC_OUT_OF_MEMORY = 1 };

/* compute_80 for sm_80, behind any of the option's spellings; NULL for everything else. */
static char *virtual_option(const char *option)
{
    static const char *const spellings[] = {"-arch=sm_", "--gpu-architecture=sm_"};
    for (unsigned i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        size_t length = strlen(spellings[i]);
        if (strncmp(option, spellings[i], length) != 0)
            continue;
        size_t head = length - strlen("sm_"), tail = strlen(option) - length;
        char *text = malloc(head + strlen("compute_") + tail + 1);
        if (text) {
            memcpy(text, option, head);
            memcpy(text + head, "compute_", 8);
            memcpy(text + head + 8, option + length, tail + 1);
        }
        return text;
    }
    return NULL;
}

static int compile(const nvrtc_t *nvrtc, program_t program, int count, const char *const *options)
{
    int plain = !orion_wants_ptx() || !options || count <= 0 || count > 4096;
    for (int i = 0; i < count && !plain; i++) /* link-time optimisation makes no PTX; it is left alone */
        plain = !options[i] || !strcmp(options[i], "-dlto") || !strcmp(options[i], "--dlink-time-opt");
    if (plain)
        return nvrtc->compile(program, count, options);
    const char **changed = malloc((size_t)count * sizeof *changed);
    char *own = NULL;
    if (!changed)
        return NVRTC_OUT_OF_MEMORY;
    for (int i = 0; i < count; i++) {
        char *text = own ? NULL : virtual_option(options[i]);
        own = text ? text : own;
        changed[i] = text ? text : options[i];
    }
    int result = nvrtc->compile(program, count, changed);
    free(own);
    free(changed);
    return result;
}

static int cubin_size(const nvrtc_t *nvrtc, program_t program, size_t *size_p)
{
    return orion_wants_ptx() ? nvrtc->ptx_size(program, size_p) : nvrtc->cubin_size(program, size_p);
}

static int cubin(const nvrtc_t *nvrtc, program_t program, char *out)
{
    return orion_wants_ptx() ? nvrtc->ptx(program, out) : nvrtc->cubin(program, out);
}

#define SLOT(n)                                                                      \
    static int compile_##n(program_t program, int count, const char *const *options) \
    {                                                                                \
        return compile(&libraries[n], program, count, options);                      \
    }                                                                                \
    static int cubin_size_##n(program_t program, size_t *size_p)                     \
    {                                                                                \
        return cubin_size(&libraries[n], program, size_p);                           \
    }                                                                                \
    static int cubin_##n(program_t program, char *out)                               \
    {                                                                                \
        return cubin(&libraries[n], program, out);                                   \
    }
SLOT(0)
SLOT(1)
SLOT(2)
SLOT(3)

static const struct {
    compile_fn compile;
    get_size_fn cubin_size;
    get_fn cubin;
} hooks[ORION_COMPILER_SLOTS] = {
    {compile_0, cubin_size_0, cubin_0},
    {compile_1, cubin_size_1, cubin_1},
    {compile_2, cubin_size_2, cubin_2},
    {compile_3, cubin_size_3, cubin_3},
};

void *orion_nvrtc_hook(const char *name, void *found)
{
    int compiles = !strcmp(name, "nvrtcCompileProgram"), sizes = !strcmp(name, "nvrtcGetCUBINSize");
    if (!compiles && !sizes && strcmp(name, "nvrtcGetCUBIN") != 0)
        return found;
    int i = orion_compiler_slot(&libraries[0].slot, sizeof libraries[0], found);
    if (i < 0)
        return found;
    nvrtc_t *nvrtc = &libraries[i];
    nvrtc->compile = (compile_fn)orion_sibling(found, "nvrtcCompileProgram");
    nvrtc->cubin_size = (get_size_fn)orion_sibling(found, "nvrtcGetCUBINSize");
    nvrtc->cubin = (get_fn)orion_sibling(found, "nvrtcGetCUBIN");
    nvrtc->ptx_size = (get_size_fn)orion_sibling(found, "nvrtcGetPTXSize");
    nvrtc->ptx = (get_fn)orion_sibling(found, "nvrtcGetPTX");
    if (!nvrtc->compile || !nvrtc->cubin_size || !nvrtc->cubin || !nvrtc->ptx_size || !nvrtc->ptx) {
        orion_debug("the NVRTC that is loaded has no cubin functions; it is left alone");
        return found;
    }
    return compiles ? (void *)hooks[i].compile : sizes ? (void *)hooks[i].cubin_size : (void *)hooks[i].cubin;
}
