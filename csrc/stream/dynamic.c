/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that are found at run time, see dynamic.h. */
#define _GNU_SOURCE
#include "stream/dynamic.h"

#include <dlfcn.h>

#include "base/log.h"

bool orion_dynamic_load(const char *const *files, const orion_dynamic_function_t *functions, size_t count, void *table,
                        const char **file_p, char *why, size_t why_bytes)
{
    void *library = NULL;
    for (; *files != NULL; files++) { /* it stays loaded: its own handlers at exit may run late */
        if (**files != '\0' && (library = dlopen(*files, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) != NULL)
            break;
    }
    if (library == NULL) {
        orion_explain(why, why_bytes, "it is not installed");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        void *function = dlsym(library, functions[i].name);
        if (function == NULL) {
            orion_explain(why, why_bytes, "%s has no %s", *files, functions[i].name);
            return false;
        }
        *(void **)(void *)((char *)table + functions[i].at) = function;
    }
    *file_p = *files;
    return true;
}
