/* SPDX-License-Identifier: Apache-2.0 */
/* Futexes on words that other processes map too (never FUTEX_PRIVATE). */
#ifndef ORION_BASE_FUTEX_H
#define ORION_BASE_FUTEX_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define ORION_WAKE_ALL INT_MAX

/* Sleeps while *word == expected. ORION_OK: woken, or the word differs already, or a signal came: look again.
 * ORION_TIMEOUT after timeout_ns. The word may be in a read-only shared mapping. */
orion_status_t orion_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns);

/* Wakes up to `count` sleepers; returns how many. */
int orion_futex_wake(const uint32_t *word, int count);

#endif
