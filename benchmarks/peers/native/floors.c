/* SPDX-License-Identifier: Apache-2.0 */
/* What the memory of one processor does: glibc's memcpy and streaming stores, by size, in memory that is there already.
 * (The lines are probed around every sample of every program, and futex.c and unix.c are floors of who sleeps.) */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "native/sample.h"

#define LARGEST (64u << 20)

typedef struct copy {
    uint8_t *from, *to;
    size_t bytes;
    void (*copy)(uint8_t *to, const uint8_t *from, size_t bytes);
} copy_t;

static void by_memcpy(uint8_t *to, const uint8_t *from, size_t bytes)
{
    memcpy(to, from, bytes);
    __asm__ volatile("" : : "r"(to) : "memory");
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void by_streaming(uint8_t *to, const uint8_t *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 64) {
        __m256i a = _mm256_load_si256((const __m256i *)(const void *)(from + at));
        __m256i b = _mm256_load_si256((const __m256i *)(const void *)(from + at + 32));
        _mm256_stream_si256((__m256i *)(void *)(to + at), a);
        _mm256_stream_si256((__m256i *)(void *)(to + at + 32), b);
    }
    _mm_sfence();
}
#endif

static double run(void *arg)
{
    static double rates[400];
    const copy_t *c = arg;
    int count = c->bytes >= LARGEST ? 3 : c->bytes >= 1u << 20 ? 60 : 400;
    for (int i = 0; i < count; i++) {
        int64_t began = bench_now_ns();
        c->copy(c->to, c->from, c->bytes);
        rates[i] = (double)c->bytes / (double)(bench_now_ns() - began);
    }
    return bench_median(rates, count);
}

int main(void)
{
    static const size_t sizes[] = {64u << 10, 1u << 20, LARGEST};
    int samples = (int)bench_setting("ORION_BENCH_SAMPLES", 15);
    void *from = NULL, *to = NULL;
    char name[64];
    if (posix_memalign(&from, 4096, LARGEST) != 0 || posix_memalign(&to, 4096, LARGEST) != 0)
        return 1;
    memset(from, 1, LARGEST);
    memset(to, 1, LARGEST);
    bench_hurry();
    (void)bench_pin(0);
    bench_floor_open();
    bench_begin("floors");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        copy_t c = {from, to, sizes[i], by_memcpy};
        bench_result_t r = bench_sample(run, &c, samples);
        snprintf(name, sizeof(name), "memcpy_%zu", sizes[i]);
        bench_figure(name, "GB/s", &r);
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx2")) {
            c.copy = by_streaming;
            bench_result_t streamed = bench_sample(run, &c, samples);
            snprintf(name, sizeof(name), "streaming_%zu", sizes[i]);
            bench_figure(name, "GB/s", &streamed);
        }
#endif
    }
    bench_end();
    bench_floor_close();
    free(from);
    free(to);
    return 0;
}
