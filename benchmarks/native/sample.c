/* SPDX-License-Identifier: Apache-2.0 */
/* Floors, samples, statistics and output of the native benchmarks, see sample.h. */
#define _GNU_SOURCE
#include "sample.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

void bench_hurry(void)
{
    (void)setpriority(PRIO_PROCESS, 0, -15);
}

/* ---- floors ---- */

static bench_floor_t own_floor, *lines = &own_floor;
static pthread_t floor_thread;

void bench_floor_share(bench_floor_t *shared)
{
    lines = shared;
    for (size_t at = 0; at < sizeof(*shared); at += 128) /* faults the pages in, on each side */
        (void)orion_fetch_add((uint32_t *)(void *)((char *)shared + at), 0);
}

#define HOT_LOOKS 2000 /* some 60 us: the next probe or job comes soon */

int bench_floor_answer(void)
{
    for (uint32_t looks = 0;; looks++) {
        uint32_t mode = orion_load_acquire(&lines->active);
        if (mode >= BENCH_END)
            return (int)mode;
        if (mode == BENCH_IDLE) {
            if (looks > HOT_LOOKS)
                (void)orion_futex_wait(&lines->active, BENCH_IDLE, 1000000000);
        } else if (mode == BENCH_LINE) {
            uint32_t seen = orion_load_acquire(&lines->one);
            if (seen & 1)
                orion_store_release(&lines->one, seen + 1);
            looks = 0;
        } else {
            uint32_t seen = orion_load_acquire(&lines->ping);
            if (seen != orion_load_relaxed(&lines->pong))
                orion_store_release(&lines->pong, seen);
            looks = 0;
        }
        orion_cpu_relax();
    }
}

static void set_mode(uint32_t mode)
{
    orion_store_release(&lines->active, mode);
    (void)orion_futex_wake(&lines->active, 1);
}

void bench_job_done(void)
{
    set_mode(BENCH_IDLE);
}

void bench_job_start(void)
{
    set_mode(BENCH_JOB);
}

void bench_job_await(void)
{
    for (uint32_t looks = 0; orion_load_acquire(&lines->active) == BENCH_JOB; looks++) {
        if (looks > HOT_LOOKS)
            (void)orion_futex_wait(&lines->active, BENCH_JOB, 1000000);
        orion_cpu_relax();
    }
}

void bench_job_end_all(void)
{
    set_mode(BENCH_END);
}

static void on_child(int number)
{
    static const char text[] = "the answering process ended too soon\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) != 0)
        _exit(3);
}

void bench_die_with_child(bool die)
{
    (void)signal(SIGCHLD, die ? on_child : SIG_DFL);
}

static void *answer_probes(void *arg)
{
    (void)arg;
    (void)bench_pin(1);
    while (bench_floor_answer() != BENCH_END)
        bench_job_done();
    return NULL;
}

void bench_floor_open(void)
{
    if (pthread_create(&floor_thread, NULL, answer_probes, NULL) != 0)
        exit(1);
}

void bench_floor_close(void)
{
    set_mode(BENCH_END);
    (void)pthread_join(floor_thread, NULL);
}

static double probe(uint32_t mode)
{
    set_mode(mode);
    double best = 1e9;
    for (int repeat = 0; repeat < 4; repeat++) { /* the first wakes the other side up */
        int64_t start = bench_now_ns();
        for (int i = 0; i < PROBE_ROUNDS; i++) {
            if (mode == BENCH_LINE) {
                uint32_t next = orion_load_relaxed(&lines->one) + 1;
                orion_store_release(&lines->one, next);
                while (orion_load_acquire(&lines->one) == next)
                    orion_cpu_relax();
            } else {
                uint32_t next = orion_load_relaxed(&lines->ping) + 1;
                orion_store_release(&lines->ping, next);
                while (orion_load_acquire(&lines->pong) != next)
                    orion_cpu_relax();
            }
        }
        double ns = (double)(bench_now_ns() - start) / PROBE_ROUNDS;
        if (ns < best)
            best = ns;
    }
    orion_store_release(&lines->active, BENCH_IDLE);
    return best;
}

double bench_line_ns(void)
{
    return probe(BENCH_LINE);
}
double bench_pair_ns(void)
{
    return probe(BENCH_PAIR);
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

static double second_figure;

void bench_second(double figure)
{
    second_figure = figure;
}

bench_result_t bench_sample(bench_run_t run, void *arg, int samples)
{
    double figures[BENCH_SAMPLES_MAX], ratios[BENCH_SAMPLES_MAX], lines[BENCH_SAMPLES_MAX], pairs[BENCH_SAMPLES_MAX],
        seconds[BENCH_SAMPLES_MAX];
    bench_result_t r = {0};
    if (samples > BENCH_SAMPLES_MAX)
        samples = BENCH_SAMPLES_MAX;
    for (int i = 0; i < samples; i++) {
        double line = bench_line_ns(), before = bench_pair_ns();
        second_figure = 0;
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
        seconds[r.kept] = second_figure;
        ratios[r.kept] = figure / pairs[r.kept];
        r.kept++;
    }
    r.median = bench_median(figures, r.kept);
    r.least = r.kept > 0 ? figures[0] : 0; /* sorted by now */
    r.most = r.kept > 0 ? figures[r.kept - 1] : 0;
    r.second = bench_median(seconds, r.kept);
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

void bench_figures(const char *name, const char *unit, const char *second, const bench_result_t *r)
{
    printf("%s\n  \"%s\": {\"unit\": \"%s\", \"median\": %.3f, \"least\": %.3f, \"most\": %.3f, \"ratio_to_pair\": "
           "%.3f, \"line\": %.1f, \"pair\": %.1f, \"kept\": %d, \"dropped\": %d",
           figures_written++ ? "," : "", name, unit, r->median, r->least, r->most, r->ratio, r->line, r->pair, r->kept,
           r->dropped);
    if (second != NULL)
        printf(", \"%s\": %.3f", second, r->second);
    printf("}");
    fflush(stdout);
}

void bench_figure(const char *name, const char *unit, const bench_result_t *r)
{
    bench_figures(name, unit, NULL, r);
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
