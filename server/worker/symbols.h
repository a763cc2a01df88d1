/* SPDX-License-Identifier: Apache-2.0 */
/* Names and addresses of what compiled kernels call. */
#ifndef ORION_WORKER_SYMBOLS_H
#define ORION_WORKER_SYMBOLS_H

#include <stddef.h>

typedef struct orion_symbol {
    const char *name;
    const char *address; /* NULL: not in this build */
} orion_symbol_t;

/* NULL behind the last one. */
const orion_symbol_t *orion_symbol_at(unsigned index);

#endif
