/* SPDX-License-Identifier: Apache-2.0 */
/* Which CUDA runtime the program has loaded: ones that Orion does not serve are told apart by their file's name. */
#ifndef ORION_CLIENT_RUNTIMES_H
#define ORION_CLIENT_RUNTIMES_H

#include <stdbool.h>
#include <stddef.h>

/* A shared runtime older than 11.0 is loaded: its name. One that is linked into the program cannot be seen. */
bool orion_runtime_too_old(char *name, size_t name_bytes);

#endif
