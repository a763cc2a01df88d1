/* SPDX-License-Identifier: Apache-2.0 */
/* Finds UCX at run time, see libucp.h. */
#define _GNU_SOURCE
#include "stream/libucp.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "stream/dynamic.h"

static orion_libucp_t functions;
static bool loaded;
static char problem[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* UCX reads its environment while it is loaded. It is a guest in somebody's program: no signal handlers of its own, no
 * hooks in malloc and mmap, no module that would load a CUDA driver (that is us), no lines beside ours. What the user
 * has set stays. */
static const char *const manners[][2] = {
    {"UCX_HANDLE_ERRORS", "none"},      {"UCX_ERROR_SIGNALS", ""},  {"UCX_MEM_EVENTS", "no"},
    {"UCX_MODULES", "^cuda,rocm,ze"},   {"UCX_LOG_LEVEL", "fatal"}, {"UCX_VFS_ENABLE", "no"},
    {"UCX_WARN_UNUSED_ENV_VARS", "no"},
};
#define MANNERS (sizeof(manners) / sizeof(manners[0]))

static void load(void)
{
    const char *named = getenv("ORION_LIBUCP");
    const char *const files[] = {named != NULL ? named : "", "libucp.so.0", NULL};
    static const orion_dynamic_function_t wanted[] = {
#define ORION_LIBUCP_NAME(result, name, parameters) {#name, offsetof(orion_libucp_t, name)},
        ORION_LIBUCP_FUNCTIONS(ORION_LIBUCP_NAME)
#undef ORION_LIBUCP_NAME
    };
    bool ours[MANNERS];
    char why[120];
    const char *file;
    unsigned major, minor, release;
    for (size_t i = 0; i < MANNERS; i++) {
        ours[i] = getenv(manners[i][0]) == NULL;
        if (ours[i])
            (void)setenv(manners[i][0], manners[i][1], 1);
    }
    loaded = orion_dynamic_load(files, wanted, sizeof(wanted) / sizeof(wanted[0]), &functions, &file, why, sizeof(why));
    for (size_t i = 0; i < MANNERS; i++) {
        if (ours[i])
            (void)unsetenv(manners[i][0]);
    }
    if (!loaded) {
        snprintf(problem, sizeof(problem),
                 "UCX 1.12 or newer (libucp.so.0) is needed: %s (pip install 'orion-vgpu[ucx]', or set ORION_LIBUCP)",
                 why);
        return;
    }
    functions.ucp_get_version(&major, &minor, &release);
    loaded = major == 1 && minor >= 12;
    if (!loaded)
        snprintf(problem, sizeof(problem), "UCX 1.12 or newer is needed, and %s is %u.%u.%u", file, major, minor,
                 release);
}

const orion_libucp_t *orion_libucp(char *why, size_t why_bytes)
{
    (void)pthread_once(&once, load);
    if (!loaded)
        orion_explain(why, why_bytes, "%s", problem);
    return loaded ? &functions : NULL;
}
