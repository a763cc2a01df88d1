/* SPDX-License-Identifier: Apache-2.0 */
/* What the device plugin tells a container beside its socket: /run/orion/allocation.json, docs/plugin-protocol.md. */
#ifndef ORION_CLIENT_ALLOCATION_H
#define ORION_CLIENT_ALLOCATION_H

#include <stdbool.h>

#define ORION_ALLOCATION_FILE "/run/orion/allocation.json"

typedef struct {
    char endpoint[128]; /* HOST:PORT of the server */
    char token[336];    /* ID.SECRET, good there for this container */
} orion_allocation_t;

/* False: there is no such file, or it names no endpoint. Safe for any text. */
bool orion_allocation_parse(const char *text, orion_allocation_t *allocation_p);
bool orion_allocation_read(const char *path, orion_allocation_t *allocation_p);

#endif
