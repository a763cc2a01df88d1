/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling that can be believed on a shared machine: the floor (one cache line handed to and fro between the same two
 * processors) is probed before and after each sample, a sample whose two probes differ by more than 1.4 is dropped,
 * and every figure is reported with the floor of its own samples. */
#ifndef ORION_BENCH_SAMPLE_H
#define ORION_BENCH_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#define BENCH_SAMPLES_MAX 64
#define BENCH_TOLERANCE 1.4

/* Runs one sample; returns its figure (ns per round trip, ns per message, bytes per ns ...). */
typedef double (*bench_run_t)(void *arg);

typedef struct bench_result {
    double median; /* of the kept samples */
    double least, most;
    double ratio;      /* median of figure / line pair of the same sample */
    double line, pair; /* medians of the floors, ns per round trip */
    int kept, dropped;
} bench_result_t;

/* Pins the caller to a usable processor, by number from 0. 0: there is only one. */
int bench_pin(int which);
/* Lets the caller run where the scheduler likes. */
void bench_unpin(void);

/* Starts the thread that answers floor probes on the second processor, and stops it. */
void bench_floor_open(void);
void bench_floor_close(void);
/* ns per round trip of one line / of a line per direction, now. */
double bench_line_ns(void);
double bench_pair_ns(void);

bench_result_t bench_sample(bench_run_t run, void *arg, int samples);

double bench_median(double *values, int count);
double bench_percentile(double *values, int count, double part);

/* One JSON object per program on stdout, opened and closed by these; figures are written in between. */
void bench_begin(const char *name);
void bench_figure(const char *name, const char *unit, const bench_result_t *r);
void bench_number(const char *name, const char *unit, double value);
void bench_end(void);

int64_t bench_now_ns(void);
/* An environment variable as a number. */
uint64_t bench_setting(const char *variable, uint64_t otherwise);

#endif
