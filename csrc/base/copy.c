/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between processors, see copy.h. */
#include "base/copy.h"

#include <string.h>

#include "base/atomic.h"
#include "base/clock.h"

#if defined(__x86_64__)
#include <emmintrin.h>

#define LINE 64u
#define AHEAD (8 * LINE)       /* further changes nothing; less does not cover the way of a line */
#define AHEAD_FROM 1024u       /* shorter copies are over before it helps */
#define LONG_BYTES (16u << 10) /* shorter ones are not worth looking at the clock twice */
#define MUCH 4u                /* what goes past the caches costs the reader the way to memory: it must be worth it */
#define TRIAL_BYTES (64u << 10)
#define TRIAL_EVERY 32u /* long copies; times how much dearer the other way was: a trial takes some percent at most */
#define TRIAL_RARELY 1024u

typedef struct line {
    __m128i part[4];
} line_t;

static inline line_t load(const uint8_t *from)
{
    const __m128i *at = (const __m128i *)(const void *)from;
    return (line_t){{_mm_loadu_si128(at), _mm_loadu_si128(at + 1), _mm_loadu_si128(at + 2), _mm_loadu_si128(at + 3)}};
}

void orion_copy_from_peer(void *to, const void *from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (bytes < AHEAD_FROM) {
        memcpy(t, f, bytes);
        return;
    }
    for (; bytes >= LINE; bytes -= LINE, t += LINE, f += LINE) {
        _mm_prefetch((const char *)f + AHEAD, _MM_HINT_T0); /* past the end it is no access, and no fault */
        line_t line = load(f);
        __m128i *at = (__m128i *)(void *)t;
        for (int i = 0; i < 4; i++)
            _mm_storeu_si128(at + i, line.part[i]);
    }
    memcpy(t, f, bytes);
}

static void stream(uint8_t *t, const uint8_t *f, size_t bytes)
{
    size_t first = (size_t)(-(uintptr_t)t & (LINE - 1));
    first = first < bytes ? first : bytes;
    memcpy(t, f, first);
    for (t += first, f += first, bytes -= first; bytes >= LINE; bytes -= LINE, t += LINE, f += LINE) {
        _mm_prefetch((const char *)f + AHEAD, _MM_HINT_T0);
        line_t line = load(f);
        __m128i *at = (__m128i *)(void *)t;
        for (int i = 0; i < 4; i++)
            _mm_stream_si128(at + i, line.part[i]);
    }
    memcpy(t, f, bytes);
    _mm_sfence(); /* orders the stores past the caches before the release store that tells of them */
}

static void timed(uint32_t *cost, uint8_t *to, const uint8_t *from, size_t bytes, bool past_caches)
{
    int64_t start = orion_clock_ns();
    if (past_caches)
        stream(to, from, bytes);
    else
        memcpy(to, from, bytes);
    uint64_t took = (uint64_t)(orion_clock_ns() - start) * LONG_BYTES / bytes + 1;
    uint64_t before = orion_load_relaxed(cost);
    /* upwards slowly, and by half at most: somebody else may have had the processor for a while */
    if (before != 0 && took > before)
        took = before + ((took - before < before ? took - before : before) + 1) / 2;
    orion_store_relaxed(cost, took < UINT32_MAX ? (uint32_t)took : UINT32_MAX);
}

void orion_copy_to_peer(orion_copier_t *copier, void *to, const void *from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (bytes < LONG_BYTES) {
        memcpy(t, f, bytes);
        return;
    }
    /* the first two long copies measure one way each: nothing is less than 0 */
    uint32_t stored = orion_load_relaxed(&copier->stored), streamed = orion_load_relaxed(&copier->streamed);
    bool past_caches = streamed < stored / MUCH;
    uint32_t left = orion_load_relaxed(&copier->until_trial);
    if (left == 0 && stored != 0 && streamed != 0) {
        size_t part = bytes < TRIAL_BYTES ? bytes : TRIAL_BYTES;
        timed(past_caches ? &copier->stored : &copier->streamed, t, f, part, !past_caches);
        uint64_t used = past_caches ? streamed : stored,
                 tried = orion_load_relaxed(past_caches ? &copier->stored : &copier->streamed);
        uint64_t next = tried > used ? TRIAL_EVERY * tried / used : TRIAL_EVERY;
        orion_store_relaxed(&copier->until_trial, next < TRIAL_RARELY ? (uint32_t)next : TRIAL_RARELY);
        t += part, f += part, bytes -= part;
        if (bytes == 0)
            return;
    } else if (left != 0) {
        orion_store_relaxed(&copier->until_trial, left - 1);
    }
    timed(past_caches ? &copier->streamed : &copier->stored, t, f, bytes, past_caches);
}

#else

void orion_copy_from_peer(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

void orion_copy_to_peer(orion_copier_t *copier, void *to, const void *from, size_t bytes)
{
    (void)copier;
    memcpy(to, from, bytes);
}

#endif
