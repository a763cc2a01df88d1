/* SPDX-License-Identifier: Apache-2.0 */
/* Floors, samples, statistics and output of the native benchmarks, see sample.h. */
#define _GNU_SOURCE
#include "sample.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/futex.h"

#define PROBE_ROUNDS 4000

int64_t bench_now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

uint64_t bench_setting(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    uint64_t value = 0;
    if (text == NULL || *text == '\0')
        return otherwise;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return value;
}

static cpu_set_t usable;

/* Before anybody is pinned: a pinned thread would only see its own processor. */
__attribute__((constructor)) static void read_usable(void)
{
    (void)sched_getaffinity(0, sizeof(usable), &usable);
}

static int nth_cpu(int n)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &usable) && n-- == 0)
            return cpu;
    }
    return -1;
}

int bench_pin(int which)
{
    cpu_set_t set;
    int cpu = nth_cpu(which);
    if (cpu < 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

void bench_unpin(void)
{
    (void)sched_setaffinity(0, sizeof(usable), &usable);
}

/* ---- floors ---- */

static struct {
    _Alignas(128) uint32_t one;
    _Alignas(128) uint32_t ping;
    _Alignas(128) uint32_t pong;
    _Alignas(128) uint32_t active; /* futex word: 0 = asleep, 1 = one line, 2 = a pair, 3 = end */
} floor_lines;

static pthread_t floor_thread;

static void *answer_probes(void *arg)
{
    (void)arg;
    (void)bench_pin(1);
    for (;;) {
        uint32_t mode = orion_load_acquire(&floor_lines.active);
        if (mode == 3)
            return NULL;
        if (mode == 0) {
            (void)orion_futex_wait(&floor_lines.active, 0, 1000000000);
            continue;
        }
        if (mode == 1) {
            uint32_t seen = orion_load_acquire(&floor_lines.one);
            if (seen & 1)
                orion_store_release(&floor_lines.one, seen + 1);
        } else {
            uint32_t seen = orion_load_acquire(&floor_lines.ping);
            if (seen != orion_load_relaxed(&floor_lines.pong))
                orion_store_release(&floor_lines.pong, seen);
        }
        orion_cpu_relax();
    }
}

void bench_floor_open(void)
{
    if (pthread_create(&floor_thread, NULL, answer_probes, NULL) != 0)
        exit(1);
}

static void set_mode(uint32_t mode)
{
    orion_store_release(&floor_lines.active, mode);
    (void)orion_futex_wake(&floor_lines.active, 1);
}

void bench_floor_close(void)
{
    set_mode(3);
    (void)pthread_join(floor_thread, NULL);
}

static double probe(uint32_t mode)
{
    set_mode(mode);
    double best = 1e9;
    for (int repeat = 0; repeat < 4; repeat++) { /* the first wakes the other side up */
        int64_t start = bench_now_ns();
        for (int i = 0; i < PROBE_ROUNDS; i++) {
            if (mode == 1) {
                uint32_t next = orion_load_relaxed(&floor_lines.one) + 1;
                orion_store_release(&floor_lines.one, next);
                while (orion_load_acquire(&floor_lines.one) == next)
                    orion_cpu_relax();
            } else {
                uint32_t next = orion_load_relaxed(&floor_lines.ping) + 1;
                orion_store_release(&floor_lines.ping, next);
                while (orion_load_acquire(&floor_lines.pong) != next)
                    orion_cpu_relax();
            }
        }
        double ns = (double)(bench_now_ns() - start) / PROBE_ROUNDS;
        if (ns < best)
            best = ns;
    }
    orion_store_release(&floor_lines.active, 0);
    return best;
}

double bench_line_ns(void)
{
    return probe(1);
}
double bench_pair_ns(void)
{
    return probe(2);
}

/* ---- statistics ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_percentile(double *values, int count, double part)
{
    if (count == 0)
        return 0;
    qsort(values, (size_t)count, sizeof(*values), ascending);
    int at = (int)((double)(count - 1) * part + 0.5);
    return values[at];
}

double bench_median(double *values, int count)
{
    return bench_percentile(values, count, 0.5);
}

bench_result_t bench_sample(bench_run_t run, void *arg, int samples)
{
    double figures[BENCH_SAMPLES_MAX], ratios[BENCH_SAMPLES_MAX], lines[BENCH_SAMPLES_MAX], pairs[BENCH_SAMPLES_MAX];
    bench_result_t r = {0};
    if (samples > BENCH_SAMPLES_MAX)
        samples = BENCH_SAMPLES_MAX;
    for (int i = 0; i < samples; i++) {
        double line = bench_line_ns(), before = bench_pair_ns();
        double figure = run(arg);
        double after = bench_pair_ns();
        double low = before < after ? before : after, high = before < after ? after : before;
        if (high > low * BENCH_TOLERANCE) { /* the host moved a processor, or somebody came in */
            r.dropped++;
            continue;
        }
        figures[r.kept] = figure;
        lines[r.kept] = line;
        pairs[r.kept] = (before + after) / 2;
        ratios[r.kept] = figure / pairs[r.kept];
        r.kept++;
    }
    r.median = bench_median(figures, r.kept);
    r.least = r.kept > 0 ? figures[0] : 0; /* sorted by now */
    r.most = r.kept > 0 ? figures[r.kept - 1] : 0;
    r.ratio = bench_median(ratios, r.kept);
    r.line = bench_median(lines, r.kept);
    r.pair = bench_median(pairs, r.kept);
    return r;
}

/* ---- output ---- */

static int figures_written;

void bench_begin(const char *name)
{
    printf("{\"benchmark\": \"%s\", \"figures\": {", name);
    figures_written = 0;
}

void bench_figure(const char *name, const char *unit, const bench_result_t *r)
{
    printf("%s\n  \"%s\": {\"unit\": \"%s\", \"median\": %.2f, \"least\": %.2f, \"most\": %.2f, \"ratio_to_pair\": "
           "%.3f, \"line\": %.1f, "
           "\"pair\": %.1f, \"kept\": %d, \"dropped\": %d}",
           figures_written++ ? "," : "", name, unit, r->median, r->least, r->most, r->ratio, r->line, r->pair, r->kept,
           r->dropped);
    fflush(stdout);
}

void bench_number(const char *name, const char *unit, double value)
{
    printf("%s\n  \"%s\": {\"unit\": \"%s\", \"median\": %.3f}", figures_written++ ? "," : "", name, unit, value);
    fflush(stdout);
}

void bench_end(void)
{
    printf("\n}}\n");
}
