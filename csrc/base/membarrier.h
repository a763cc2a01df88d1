/* SPDX-License-Identifier: Apache-2.0 */
/* The barrier of all processors that run a registered process, by which a sleeper spares the sender a fence. */
#ifndef ORION_BASE_MEMBARRIER_H
#define ORION_BASE_MEMBARRIER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"

/* Declares that this process takes part in global expedited barriers: without it a barrier of somebody else does not
 * reach us. Takes until all processors have passed a scheduling point where the process has several threads (8 to 13 ms
 * were seen), and nothing otherwise. false where the kernel (before 4.16) or a seccomp filter says no. */
bool orion_membarrier_register(void);

/* The same without waiting for it: true as well while a thread of our own still waits. Until then the process's sends
 * have a fence each (orion_wake_order), and whoever has to be sure registers again. */
bool orion_membarrier_begin(void);

/* Every registered process that is running passes a full barrier before this returns. false: not available. */
bool orion_membarrier_global(void);

/* != 0: this process has been registered. */
extern uint32_t orion_membarrier_registered __attribute__((visibility("hidden")));

/* After the release store that a sleeper may be waiting for, before the load of its flag. With membarrier only the
 * compiler has to be held: the sleeper's barrier orders this processor. */
static inline void orion_wake_order(bool membarrier)
{
    /* acquire: pairs with the release in orion_membarrier_register; a sleeper whose barrier came before we were registered
     * has set its flag before that, and registering ends behind a barrier of every processor */
    if (membarrier && __builtin_expect(orion_load_acquire(&orion_membarrier_registered) != 0, 1)) {
        orion_compiler_barrier();
    } else {
        orion_fence_full(); /* pairs with the fence in orion_wait_changed */
    }
}

#endif
