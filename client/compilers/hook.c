/* SPDX-License-Identifier: Apache-2.0 */
/* dlsym() in front of the C library's, and whether there is anything to do. */
#include "compilers.h"

#include "say.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

void *orion_real(const char *name)
{
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"};
    void *real = NULL;
    for (unsigned i = 0; !real && i < sizeof versions / sizeof versions[0]; i++)
        real = dlvsym(RTLD_NEXT, name, versions[i]);
    if (!real) {
        orion_say("the C library has no %s; unset LD_PRELOAD", name);
        abort();
    }
    return real;
}

orion_dlsym_fn orion_real_dlsym(void)
{
    static orion_dlsym_fn real; /* racing threads find the same */
    if (!real)
        real = (orion_dlsym_fn)orion_real("dlsym");
    return real;
}

/* What the linker exports as dlsym (client/meson.build): this file's own uses of the C library's are versioned, and a
 * definition under that name would be as well. Ends in a jump where nothing is to be done, so that RTLD_NEXT still
 * means next to the caller. */
EXPORT void *orion_dlsym(void *handle, const char *name)
{
    orion_dlsym_fn real = orion_real_dlsym();
    if (name) {
        const char *plain = name[0] == '_' && name[1] == '_' ? name + 2 : name;
        if (!strncmp(plain, "nvrtc", 5) || !strncmp(plain, "nvJitLink", 9)) {
            void *found = real(handle, name);
            if (found && plain[2] == 'r')
                orion_nvrtc_is_there();
            if (found)
                found = plain[2] == 'r' ? orion_nvrtc_hook(name, found) : orion_nvjitlink_hook(plain, found);
            return found;
        }
    }
    return real(handle, name);
}

static int ask_driver(void)
{
    char name[128] = "";
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (!driver)
        driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver)
        return 0;
    orion_dlsym_fn find = orion_real_dlsym();
    int (*init)(unsigned) = (int (*)(unsigned))find(driver, "cuInit");
    int (*get_name)(char *, int, int) = (int (*)(char *, int, int))find(driver, "cuDeviceGetName");
    if (!find(driver, "orion_shim_marker") || !init || !get_name || init(0) || get_name(name, sizeof name, 0))
        return 0;
    return strstr(name, "Orion CPU device") != NULL;
}

static int wanted;

static void find_out(void)
{
    const char *said = getenv("ORION_PTX");
    wanted = said && *said ? strcmp(said, "0") != 0 : ask_driver();
}

int orion_wants_ptx(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_out);
    return wanted;
}

void *orion_sibling(void *known, const char *name)
{
    Dl_info info;
    if (!dladdr(known, &info) || !info.dli_fname)
        return NULL;
    void *library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD); /* stays open: hooks point into it */
    return library ? orion_real_dlsym()(library, name) : NULL;
}

int orion_looks_like_ptx(const void *data, size_t bytes)
{
    const char *text = data;
    size_t at = 0;
    while (at < bytes && strchr(" \t\r\n", text[at]) && text[at])
        at++;
    return at + 8 <= bytes && (!memcmp(text + at, ".version", 8) || !memcmp(text + at, "//", 2));
}

int orion_compiler_slot(orion_compiler_slot_t *slots, size_t stride, void *known)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    Dl_info info;
    int found = -1;
    if (!dladdr(known, &info))
        return -1;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < ORION_COMPILER_SLOTS && found < 0; i++) {
        orion_compiler_slot_t *slot = (orion_compiler_slot_t *)((char *)slots + (size_t)i * stride);
        if (!slot->base)
            slot->base = info.dli_fbase;
        if (slot->base == info.dli_fbase)
            found = i;
    }
    pthread_mutex_unlock(&lock);
    return found;
}
