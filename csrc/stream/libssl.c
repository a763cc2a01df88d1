/* SPDX-License-Identifier: Apache-2.0 */
/* Finds OpenSSL at run time, see libssl.h. */
#define _GNU_SOURCE
#include "stream/libssl.h"

#include <pthread.h>
#include <stdio.h>

#include "base/log.h"
#include "stream/dynamic.h"

static orion_libssl_t functions;
static bool loaded;
static char problem[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    static const char *const files[] = {"libssl.so.3", "libssl.so.1.1", NULL};
    static const orion_dynamic_function_t wanted[] = {
#define ORION_LIBSSL_NAME(result, name, parameters) {#name, offsetof(orion_libssl_t, name)},
        ORION_LIBSSL_FUNCTIONS(ORION_LIBSSL_NAME)
#undef ORION_LIBSSL_NAME
    };
    char why[120];
    const char *file;
    if (!orion_dynamic_load(files, wanted, sizeof(wanted) / sizeof(wanted[0]), &functions, &file, why, sizeof(why)))
        snprintf(
            problem, sizeof(problem),
            "OpenSSL 1.1.1 or newer (libssl.so.3 or libssl.so.1.1) is needed: %s (Debian: apt-get install openssl)",
            why);
    else if (functions.OPENSSL_init_ssl(0, NULL) != 1)
        snprintf(problem, sizeof(problem), "%s cannot be initialised: check its openssl.cnf", file);
    else
        loaded = true;
}

const orion_libssl_t *orion_libssl(char *why, size_t why_bytes)
{
    (void)pthread_once(&once, load);
    if (!loaded)
        orion_explain(why, why_bytes, "%s", problem);
    return loaded ? &functions : NULL;
}
