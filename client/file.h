/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files, for the calls that take a path. */
#ifndef ORION_CLIENT_FILE_H
#define ORION_CLIENT_FILE_H

#include "orion_generated/orion_cuda.h"

#include <stddef.h>

/* The file and one NUL behind it, which bytes does not count; free() it. */
CUresult orion_file_read(const char *path, void **data_p, size_t *bytes_p);

#endif
