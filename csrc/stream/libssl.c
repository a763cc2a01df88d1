/* SPDX-License-Identifier: Apache-2.0 */
/* Finds OpenSSL at run time, see libssl.h. */
#define _GNU_SOURCE
#include "stream/libssl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include "base/log.h"

static orion_libssl_t functions;
static bool loaded;
static char problem[200];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Of the candidates the first that is there counts. It stays loaded: its own handlers at exit may run late. */
static void load(void)
{
    static const char *const names[] = {"libssl.so.3", "libssl.so.1.1"};
    static const struct {
        const char *name;
        size_t at;
    } wanted[] = {
#define ORION_LIBSSL_NAME(result, name, parameters) {#name, offsetof(orion_libssl_t, name)},
        ORION_LIBSSL_FUNCTIONS(ORION_LIBSSL_NAME)
#undef ORION_LIBSSL_NAME
    };
    void *library = NULL;
    size_t which = 0;
    while (which < sizeof(names) / sizeof(names[0]) &&
           (library = dlopen(names[which], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) == NULL)
        which++;
    if (library == NULL) {
        snprintf(
            problem, sizeof(problem),
            "there is no OpenSSL here (libssl.so.3 or libssl.so.1.1): install it (Debian: apt-get install openssl)");
        return;
    }
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        void *function = dlsym(library, wanted[i].name);
        if (function == NULL) {
            snprintf(problem, sizeof(problem), "%s has no %s: OpenSSL 1.1.1 or newer is needed", names[which],
                     wanted[i].name);
            return;
        }
        *(void **)(void *)((char *)&functions + wanted[i].at) = function;
    }
    if (functions.OPENSSL_init_ssl(0, NULL) != 1) {
        snprintf(problem, sizeof(problem), "%s cannot be initialised: check its openssl.cnf", names[which]);
        return;
    }
    loaded = true;
}

const orion_libssl_t *orion_libssl(char *why, size_t why_bytes)
{
    (void)pthread_once(&once, load);
    if (!loaded)
        orion_explain(why, why_bytes, "%s", problem);
    return loaded ? &functions : NULL;
}
