/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that finds no NVRTC: its package raises an exception of its own, and we say what to install. Packages look
 * in several places, one after the other, so the sentence waits for the program's end; it is not said if any place had it.
 *
 * The loader's words are read in dlerror(), which everybody asks who fails to load a library. dlopen() itself is left
 * alone: it looks beside its caller (RUNPATH), which would be us.
 */
#include "compilers.h"

#include "say.h"

#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { OLDEST = 10, NEWEST = 41 }; /* of CUDA's major releases, in the bits of `wanted` */

static uint32_t wanted; /* atomic: bit i: libnvrtc.so.(OLDEST + i) was not there */
static int there;       /* atomic: some NVRTC was */

static char *(*real)(void); /* racing threads find the same */

/* Before anybody's error: to look a function up forgets the one that waits to be read. */
__attribute__((constructor)) static void find_real(void)
{
    if (!real)
        real = (char *(*)(void))orion_real("dlerror");
}

EXPORT char *orion_dlerror(void)
{
    find_real(); /* another library's constructor may be earlier */
    char *text = real();
    const char *name = text ? strstr(text, "libnvrtc.so.") : NULL;
    if (name && strstr(text, "cannot open shared object file")) {
        const long major = strtol(name + strlen("libnvrtc.so."), NULL, 10);
        if (major >= OLDEST && major <= NEWEST)
            __atomic_fetch_or(&wanted, 1u << (major - OLDEST), __ATOMIC_RELAXED);
    }
    return text;
}

void orion_nvrtc_is_there(void)
{
    __atomic_store_n(&there, 1, __ATOMIC_RELAXED);
}

__attribute__((destructor)) static void say_what_is_missing(void)
{
    const uint32_t majors = __atomic_load_n(&wanted, __ATOMIC_RELAXED);
    if (!majors || __atomic_load_n(&there, __ATOMIC_RELAXED))
        return;
    const int newest = OLDEST + 31 - __builtin_clz(majors);
    const char *suffix = newest == 12 ? "-cu12" : newest == 11 ? "-cu11" : ""; /* from CUDA 13 on without one */
    orion_say("this program compiles its kernels with NVRTC of CUDA %d (libnvrtc.so.%d), which is not installed: "
              "pip install nvidia-cuda-nvrtc%s",
              newest, newest, suffix);
}
