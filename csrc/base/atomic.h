/* SPDX-License-Identifier: Apache-2.0 */
/* Atomic accesses by name of their ordering. Each use says what it pairs with. Words in shared memory are only ever
 * touched through these, once per decision: the other process may change them at any instant. */
#ifndef ORION_BASE_ATOMIC_H
#define ORION_BASE_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#define orion_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define orion_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define orion_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define orion_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define orion_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define orion_fetch_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
#define orion_fetch_sub(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define orion_compare_exchange(p, expected_p, v) \
    __atomic_compare_exchange_n((p), (expected_p), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/* Keeps the compiler, not the processor, from moving accesses across. Enough where the sleeper uses membarrier. */
static inline void orion_compiler_barrier(void)
{
    __asm__ volatile("" ::: "memory");
}

/* What has left by a socket was read by the kernel before the other side could answer it: an order that ThreadSanitizer,
 * which follows no bytes through the kernel, has to be told. Nothing otherwise. */
#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#define orion_told_sent(p) __tsan_release(p)
#define orion_told_received(p) __tsan_acquire(p)
#else
#define orion_told_sent(p) ((void)(p))
#define orion_told_received(p) ((void)(p))
#endif

/* Orders a store before a later load on this processor. */
static inline void orion_fence_full(void)
{
#if defined(__x86_64__)
    __asm__ volatile("lock addl $0, -8(%%rsp)" ::: "memory", "cc");
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline void orion_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#else
    orion_compiler_barrier();
#endif
}

/* index if index < size, else 0, without a branch: a mispredicted bounds check cannot lead outside (Spectre v1).
 * Both must be below 2^63. */
static inline uint64_t orion_index_nospec(uint64_t index, uint64_t size)
{
    uint64_t mask = (uint64_t)((int64_t)(index - size) >> 63);
    __asm__ volatile("" : "+r"(mask)); /* keeps the compiler from proving the mask away after the check */
    return index & mask;
}

#endif
