/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a vGPU where none is free: for how long the program will (ORION_WAIT), and what stderr says of it. */
#ifndef ORION_CLIENT_PATIENCE_H
#define ORION_CLIENT_PATIENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct orion_patience {
    const char *whom; /* "controller", "server" */
    const char *address;
    int64_t begun;
    int64_t most; /* ns; < 0: no limit */
    bool told;
    char reason[256];
} orion_patience_t;

/* seconds: orion_wishes_t.wait */
void orion_patience_init(orion_patience_t *patience, const char *whom, const char *address, int64_t seconds);

/* There is none, and why: wait on? The first yes says so, in one line. */
bool orion_patience_lasts(orion_patience_t *patience, const char *reason);

/* It has ended without one: "no vGPU was free within ...". */
void orion_patience_explain(const orion_patience_t *patience, char *why, size_t why_bytes);

/* It has ended well. */
void orion_patience_rewarded(const orion_patience_t *patience);

#endif
