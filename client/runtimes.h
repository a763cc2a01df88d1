/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which CUDA runtime the program has. Ones that Orion does not serve, before 11.8, show themselves in one of three ways:
 *
 *   before 11.0, a shared library    by their file's name
 *   before 11.3, shared or static    they find the driver's functions by symbols, never by cuGetProcAddress
 *   11.3 to 11.7, shared or static   by the version that they tell the integrity check (dark/integrity.c)
 */
#ifndef ORION_CLIENT_RUNTIMES_H
#define ORION_CLIENT_RUNTIMES_H

#include <stdbool.h>
#include <stddef.h>

#define ORION_RUNTIME_OLDEST 11080

/* A shared runtime older than 11.0 is loaded: its name. */
bool orion_runtime_too_old(char *name, size_t name_bytes);

/* Nothing that is loaded, but for this library, has so much as the name of cuGetProcAddress in it. So what asks for the
 * runtime's table is a runtime from before there was that function; a newer one, and a library that stands between it
 * and us, has the name. */
bool orion_runtime_finds_by_symbol(void);

/* The sentence about such a runtime. */
void orion_runtime_advise(char *text, size_t bytes, const char *what);

#endif
