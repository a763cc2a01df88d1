/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling that can be believed on a shared machine: the floor (one cache line handed to and fro between the same two
 * processors) is probed before and after each sample, a sample whose two probes differ by more than 1.4 is dropped,
 * and every figure is reported with the floor of its own samples. */
#ifndef ORION_BENCH_SAMPLE_H
#define ORION_BENCH_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include <stdbool.h>

#define BENCH_SAMPLES_MAX 64
#define BENCH_TOLERANCE 1.4

/* Runs one sample; returns its figure (ns per round trip, ns per message, bytes per ns ...). */
typedef double (*bench_run_t)(void *arg);

typedef struct bench_result {
    double median; /* of the kept samples */
    double least, most;
    double ratio;      /* median of figure / line pair of the same sample */
    double second;     /* median of what the samples gave to bench_second, else 0 */
    double line, pair; /* medians of the floors, ns per round trip */
    int kept, dropped;
} bench_result_t;

/* Pins the caller to a usable processor, by number from 0. 0: there is only one. */
int bench_pin(int which);
/* Ahead of other people's work, where that is allowed (root): a measurement is short, and every peer has it. */
void bench_hurry(void);
/* Lets the caller run where the scheduler likes. */
void bench_unpin(void);

/* The lines of the floor, and the word by which the other side is told what to do. */
typedef struct bench_floor {
    _Alignas(128) uint32_t one;
    _Alignas(128) uint32_t ping;
    _Alignas(128) uint32_t pong;
    _Alignas(128) uint32_t active; /* futex word */
} bench_floor_t;

enum { BENCH_IDLE = 0, BENCH_LINE = 1, BENCH_PAIR = 2, BENCH_END = 3, BENCH_JOB = 4 };

/* Starts the thread that answers floor probes on the second processor, and stops it. */
void bench_floor_open(void);
void bench_floor_close(void);
/* Instead of a thread, the other measured process answers: both use the same zeroed shared memory, and it calls
 * bench_floor_answer, which returns BENCH_JOB or BENCH_END. When a job is done the answering side says so. */
void bench_floor_share(bench_floor_t *shared);
int bench_floor_answer(void);
void bench_job_done(void);
/* The asking side: starts a job; waits until it is done. */
void bench_job_start(void);
void bench_job_await(void);
void bench_job_end_all(void);
/* The asking side: whatever it waits for will not come once the other side has ended. */
void bench_die_with_child(bool die);
/* ns per round trip of one line / of a line per direction, now. */
double bench_line_ns(void);
double bench_pair_ns(void);

bench_result_t bench_sample(bench_run_t run, void *arg, int samples);
/* Called by a run: another figure of the same sample (a 99th percentile, a ratio to another floor). */
void bench_second(double figure);

double bench_median(double *values, int count);
double bench_percentile(double *values, int count, double part);

/* One JSON object per program on stdout, opened and closed by these; figures are written in between. */
void bench_begin(const char *name);
void bench_figure(const char *name, const char *unit, const bench_result_t *r);
void bench_number(const char *name, const char *unit, double value);
/* The same with the name and unit of the second figure. */
void bench_figures(const char *name, const char *unit, const char *second, const bench_result_t *r);
void bench_end(void);

int64_t bench_now_ns(void);
/* An environment variable as a number. */
uint64_t bench_setting(const char *variable, uint64_t otherwise);

#endif
