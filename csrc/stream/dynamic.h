/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that are found at run time: never linked, since most programs can do without. */
#ifndef ORION_STREAM_DYNAMIC_H
#define ORION_STREAM_DYNAMIC_H

#include <stdbool.h>
#include <stddef.h>

typedef struct orion_dynamic_function {
    const char *name;
    size_t at; /* offset of its pointer in the table */
} orion_dynamic_function_t;

/* Loads the first of `files` (NULL ends them; "" is passed over) that is there, for good, and fills the table in.
 * file_p: which. A library without one of the functions is refused: why has that one's name. */
bool orion_dynamic_load(const char *const *files, const orion_dynamic_function_t *functions, size_t count, void *table,
                        const char **file_p, char *why, size_t why_bytes);

#endif
