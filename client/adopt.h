/* SPDX-License-Identifier: Apache-2.0 */
/* For a worker that has this library as its driver: memory of its own that the device behind us shall reach. */
#ifndef ORION_CLIENT_ADOPT_H
#define ORION_CLIENT_ADOPT_H

#include "wire/shim.h"

int32_t orion_adopt(uint64_t address, uint64_t bytes, int fd, char *why, size_t why_bytes);
int32_t orion_disown(uint64_t address);

#endif
