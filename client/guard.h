/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of device memory. Those of the CPU device lie in the range that both sides have reserved. Those of a real
 * driver come from the worker's address space, and in this process the same numbers may be anything: a pointer has to
 * mean one thing. So they are reserved here as soon as they are known.
 */
#ifndef ORION_CLIENT_GUARD_H
#define ORION_CLIENT_GUARD_H

#include "session.h"

/* False: this process has something of its own there, so the allocation cannot be used. */
int orion_guard_take(const orion_session_t *session, uint64_t address, uint64_t bytes);
/* Gives back what orion_guard_take() got for this allocation. */
void orion_guard_give(const orion_session_t *session, uint64_t address, uint64_t bytes);
/* All of it: the context was reset. */
void orion_guard_clear(void);

#endif
