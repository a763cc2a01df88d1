/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of every C peer: two processes, pinned apart, that probe the floor themselves around each sample.
 *
 *   PROGRAM FILE [ROW]...     FILE: zeroed, for what both processes map. ROW: call one_way bulk asleep unpinned one_core
 *                             idle attach only_spin; without any, all of them. One JSON object on standard output. */
#define _GNU_SOURCE
#include "twin.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "native/sample.h"

#define LARGEST (64u << 20)
#define CALLS_MAX 20000
#define SAMPLE_NS 25e6 /* a sample of short calls, a batch of messages */
#define BATCHES 7
#define BLOB (32u << 10)
#define ANYWHERE 0xffffffffu /* a processor of the scheduler's choice */

enum job { JOB_ANSWER = 1, JOB_RECEIVE, JOB_IDLE, JOB_PIN, JOB_ATTACH, JOB_TAKE, JOB_SPIN };

typedef struct page { /* in FILE */
    bench_floor_t floor;
    _Alignas(128) uint64_t bytes;
    uint32_t job, count, cpu;
    uint64_t stamp; /* of the first message of the job; each next one has the next */
    double used;    /* seconds of processor time, of an idle job */
    _Alignas(128) uint32_t given[2];
    uint32_t blob_bytes[2];
    uint8_t blob[2][BLOB];
} page_t;

static page_t *page;
static int side;
static const char *file;
static uint32_t exchanges;
static uint8_t *out, *in, *other;
static uint64_t stamp;

/* ---- both sides ---- */

const void *twin_exchange(const void *mine, size_t bytes, size_t *theirs_p)
{
    twin_must(bytes <= BLOB, "exchange");
    exchanges++;
    memcpy(page->blob[side], mine, bytes);
    page->blob_bytes[side] = (uint32_t)bytes;
    /* twice: given, and read; an odd number means that the blob may not be written yet */
    for (uint32_t step = 2 * exchanges - 1; step <= 2 * exchanges; step++) {
        static uint8_t theirs[BLOB];
        orion_store_release(&page->given[side], step);
        (void)orion_futex_wake(&page->given[side], 1);
        for (uint32_t seen; (seen = orion_load_acquire(&page->given[1 - side])) < step;)
            (void)orion_futex_wait(&page->given[1 - side], seen, 10000000);
        if (step % 2 == 1) {
            memcpy(theirs, page->blob[1 - side], BLOB);
            if (theirs_p != NULL)
                *theirs_p = page->blob_bytes[1 - side];
        } else {
            return theirs;
        }
    }
    return NULL;
}

void twin_path(char *path, size_t path_bytes, const char *name)
{
    twin_must(snprintf(path, path_bytes, "%s.%s", file, name) < (int)path_bytes, "a short enough path");
}

static void *buffer(size_t bytes)
{
    void *p = NULL;
    twin_must(posix_memalign(&p, 4096, bytes) == 0, "memory");
    memset(p, 1, bytes);
    return p;
}

static void mark(uint8_t *message, size_t bytes, uint64_t value)
{
    memcpy(message, &value, sizeof(value));
    memcpy(message + bytes - sizeof(value), &value, sizeof(value));
}

static void check(const uint8_t *message, size_t bytes, uint64_t value)
{
    uint64_t first, last;
    memcpy(&first, message, sizeof(first));
    memcpy(&last, message + bytes - sizeof(last), sizeof(last));
    twin_must(first == value && last == value, "finding in a message what was sent");
}

static double used_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- side 1 ---- */

static void answer_jobs(void)
{
    while (bench_floor_answer() == BENCH_JOB) {
        size_t bytes = page->bytes;
        uint64_t expected = page->stamp;
        double used;
        switch (page->job) {
        case JOB_ANSWER:
            for (uint32_t i = 0; i < page->count; i++)
                twin.answer(in, bytes);
            break;
        case JOB_RECEIVE:
            for (uint32_t i = 0; i < page->count; i++) {
                twin.receive(in, bytes);
                check(in, bytes, expected++);
            }
            twin.answer(in, 8);
            break;
        case JOB_TAKE:
            for (uint32_t i = 0; i < page->count; i++) {
                uint64_t first = 0, last = 0;
                twin.take(&first, &last);
                twin_must(first == expected && last == expected, "finding in a block what was put there");
                expected++;
            }
            break;
        case JOB_IDLE:
            used = used_seconds();
            twin.answer(in, 8);
            page->used = used_seconds() - used;
            break;
        case JOB_PIN:
            if (page->cpu == ANYWHERE) {
                bench_unpin();
            } else {
                (void)bench_pin((int)page->cpu);
            }
            break;
        case JOB_SPIN:
            twin_only_spin(page->count != 0);
            break;
        case JOB_ATTACH:
            twin.close();
            twin.open(1);
            twin.answer(in, 8);
            break;
        }
        bench_job_done();
    }
}

/* ---- side 0 ---- */

static void start(enum job job, size_t bytes, uint32_t count)
{
    page->job = job;
    page->bytes = bytes;
    page->count = count;
    page->stamp = stamp;
    bench_job_start();
}

#if defined(__x86_64__)
static double tick_ns = 0;

static inline uint64_t ticks(void)
{
    return __builtin_ia32_rdtsc(); /* half the price of the clock, which is in every figure */
}

static void calibrate(void)
{
    int64_t began = bench_now_ns();
    uint64_t first = ticks();
    while (bench_now_ns() - began < 20000000)
        ;
    tick_ns = (double)(bench_now_ns() - began) / (double)(ticks() - first);
}
#else
static const double tick_ns = 1;
static inline uint64_t ticks(void)
{
    return (uint64_t)bench_now_ns();
}
static void calibrate(void) {}
#endif

typedef struct row {
    size_t bytes;
    uint32_t count;
    uint32_t gap_us;
} row_t;

/* Short calls are timed in groups: some processors' time stamps go in steps of 10 ns, and reading one takes as long. The
 * floor is timed so as well. */
#define GROUP 16
#define GROUPED_MAX 256

/* GROUP messages, written before the clock starts as a program's are: bytes that have just been stored one by one are
 * slow to copy in one go. */
static void mark_group(size_t bytes)
{
    for (int i = 0; i < GROUP; i++)
        mark(out + (size_t)i * GROUPED_MAX, bytes, ++stamp);
}

static double call_group(size_t bytes)
{
    mark_group(bytes);
    uint64_t began = ticks();
    for (int i = 0; i < GROUP; i++)
        twin.call(out + (size_t)i * GROUPED_MAX, in + (size_t)i * GROUPED_MAX, bytes);
    uint64_t ended = ticks();
    for (int i = 0; i < GROUP; i++)
        check(in + (size_t)i * GROUPED_MAX, bytes, stamp - GROUP + 1 + (uint64_t)i);
    return (double)(ended - began) * tick_ns / GROUP;
}

static double call_once(size_t bytes)
{
    mark(out, bytes, ++stamp);
    uint64_t began = ticks();
    twin.call(out, in, bytes);
    uint64_t ended = ticks();
    check(in, bytes, stamp);
    return (double)(ended - began) * tick_ns;
}

/* The median, of groups where the calls are short; beside it, of single calls, the 99th percentile in medians. */
static double run_calls(void *arg)
{
    static double times[CALLS_MAX], grouped[CALLS_MAX / GROUP];
    row_t *row = arg;
    uint32_t groups = row->gap_us == 0 && row->bytes <= GROUPED_MAX ? row->count / GROUP : 0;
    start(JOB_ANSWER, row->bytes, row->count + groups * GROUP);
    for (uint32_t i = 0; i < groups; i++)
        grouped[i] = call_group(row->bytes);
    for (uint32_t i = 0; i < row->count; i++) {
        if (row->gap_us != 0)
            (void)usleep(row->gap_us);
        times[i] = call_once(row->bytes);
    }
    bench_job_await();
    double p50 = bench_median(times, (int)row->count);
    bench_second(bench_percentile(times, (int)row->count, 0.99) / p50);
    return groups > 0 ? bench_median(grouped, (int)groups) : p50;
}

/* As many as fill a sample, by the fastest of some trials (the first one opens what is opened at first use): few would
 * let a single loss of the processor speak for the peer. */
static uint32_t fitting(double (*run)(void *), row_t *row, uint32_t least, uint32_t most)
{
    double best = 1e9;
    row->count = least;
    for (int i = 0; i < 4; i++) {
        double ns = run(row);
        if (ns < best)
            best = ns;
    }
    double count = SAMPLE_NS / (best > 1 ? best : 1);
    return count > most ? most : count < least ? least : (uint32_t)count;
}

static void calls(int samples)
{
    static const size_t sizes[] = {8, 48, 64, 256, 4096, 65536};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t bytes = sizes[i];
        if (bytes == 4096 && twin.call_max < bytes)
            bytes = twin.call_max;
        if (bytes < 8 || bytes > twin.call_max)
            continue;
        row_t row = {.bytes = bytes};
        char name[64];
        row.count = fitting(run_calls, &row, 50, CALLS_MAX);
        bench_result_t r = bench_sample(run_calls, &row, samples);
        snprintf(name, sizeof(name), "call_%zu", bytes);
        bench_figures(name, "ns", "p99_of_p50", &r);
    }
}

/* The median of batches, each acknowledged: one that lost its processor to somebody says nothing about the peer. */
static double run_sends(void *arg)
{
    double times[BATCHES];
    row_t *row = arg;
    for (int batch = 0; batch < BATCHES; batch++) {
        start(JOB_RECEIVE, row->bytes, row->count);
        int64_t began = bench_now_ns();
        for (uint32_t i = 0; i < row->count; i++) {
            mark(out, row->bytes, stamp++);
            twin.send(out, row->bytes);
        }
        twin.call(out, in, 8);
        times[batch] = (double)(bench_now_ns() - began) / row->count;
        bench_job_await();
    }
    return bench_median(times, BATCHES);
}

static void one_way(int samples)
{
    static const size_t sizes[] = {8, 64, 256};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && twin.send != NULL; i++) {
        row_t row = {.bytes = sizes[i]};
        char name[64];
        row.count = fitting(run_sends, &row, 1000, 20000);
        bench_result_t r = bench_sample(run_sends, &row, samples);
        snprintf(name, sizeof(name), "one_way_%zu", sizes[i]);
        bench_figures(name, "ns", NULL, &r);
    }
}

static double copy_rate(size_t bytes, uint32_t count)
{
    static double rates[5];
    for (uint32_t i = 0; i < count && i < 5; i++) {
        int64_t began = bench_now_ns();
        memcpy(other, out, bytes);
        __asm__ volatile("" : : "r"(other) : "memory");
        rates[i] = (double)bytes / (double)(bench_now_ns() - began);
    }
    return bench_median(rates, count < 5 ? (int)count : 5);
}

/* Whole messages, each acknowledged, as somebody feels it who needs the data there. Beside it, memcpy of this minute. */
static double run_bulk(void *arg)
{
    static double rates[2000];
    row_t *row = arg;
    double copy = copy_rate(row->bytes, row->count);
    for (uint32_t i = 0; i < row->count; i++) {
        start(JOB_RECEIVE, row->bytes, 1);
        mark(out, row->bytes, stamp++);
        int64_t began = bench_now_ns();
        twin.send(out, row->bytes);
        twin.call(out, in, 8);
        rates[i] = (double)row->bytes / (double)(bench_now_ns() - began);
        bench_job_await();
    }
    double rate = bench_median(rates, (int)row->count);
    bench_second(rate / copy);
    return rate;
}

static double run_hand(void *arg)
{
    static double times[CALLS_MAX];
    row_t *row = arg;
    start(JOB_TAKE, row->bytes, row->count);
    for (uint32_t i = 0; i < row->count; i++) {
        uint64_t began = ticks();
        twin.hand(stamp++, row->bytes);
        times[i] = (double)(ticks() - began) * tick_ns;
    }
    bench_job_await();
    return bench_median(times, (int)row->count);
}

static void bulk(int samples)
{
    static const size_t sizes[] = {64u << 10, 1u << 20, LARGEST};
    static const uint32_t counts[] = {400, 60, 3};
    char name[64];
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        row_t row = {.bytes = sizes[i], .count = counts[i]};
        if (sizes[i] > twin.send_max)
            continue;
        (void)run_bulk(&row);
        bench_result_t r = bench_sample(run_bulk, &row, samples);
        snprintf(name, sizeof(name), "bulk_%zu", sizes[i]);
        bench_figures(name, "GB/s", "of_memcpy", &r);
    }
    if (twin.hand == NULL)
        return;
    for (size_t i = 1; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        row_t row = {.bytes = sizes[i], .count = 2000};
        (void)run_hand(&row);
        bench_result_t r = bench_sample(run_hand, &row, samples);
        snprintf(name, sizeof(name), "hand_%zu", sizes[i]);
        bench_figures(name, "ns", NULL, &r);
    }
}

/* A call to a process that has gone to sleep, if it does. */
static void asleep(void)
{
    row_t row = {.bytes = 64, .count = 60, .gap_us = 2000};
    bench_result_t r = bench_sample(run_calls, &row, 3);
    bench_figures("asleep_64", "ns", "p99_of_p50", &r);
}

static void pin_other(uint32_t cpu)
{
    page->cpu = cpu;
    start(JOB_PIN, 0, 0);
    bench_job_await();
}

/* Both on one processor: no floor can be probed, and the scheduler's slices are all there is for who only spins. */
static void one_core(void)
{
    double medians[3];
    row_t row = {.bytes = 64, .count = 40};
    pin_other(0);
    for (int i = 0; i < 3; i++)
        medians[i] = run_calls(&row);
    pin_other(1);
    bench_number("one_core_64", "ns", bench_median(medians, 3));
}

/* As programs run: where the scheduler likes. */
static void unpinned(int samples)
{
    row_t row = {.bytes = 64};
    pin_other(ANYWHERE);
    bench_unpin();
    row.count = fitting(run_calls, &row, 50, CALLS_MAX);
    bench_result_t r = bench_sample(run_calls, &row, samples);
    (void)bench_pin(0);
    pin_other(1);
    bench_figures("unpinned_64", "ns", "p99_of_p50", &r);
}

static void spin_only(bool only)
{
    start(JOB_SPIN, 0, only);
    bench_job_await();
    twin_only_spin(only);
}

/* The same calls with waits that never sleep and with those of the library, in turn: what it costs that they may. */
static double run_only_spin(void *arg)
{
    double only[BATCHES], may_sleep[BATCHES];
    for (int batch = 0; batch < BATCHES; batch++) {
        spin_only(true);
        only[batch] = run_calls(arg);
        spin_only(false);
        may_sleep[batch] = run_calls(arg);
    }
    double p50 = bench_median(only, BATCHES);
    bench_second(bench_median(may_sleep, BATCHES) / p50);
    return p50;
}

static void only_spin(int samples)
{
    static const size_t sizes[] = {8, 64, 256};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        row_t row = {.bytes = sizes[i]};
        char name[64];
        row.count = fitting(run_calls, &row, 50, CALLS_MAX);
        bench_result_t r = bench_sample(run_only_spin, &row, samples);
        snprintf(name, sizeof(name), "only_spin_%zu", sizes[i]);
        bench_figure(name, "ns", &r);
        snprintf(name, sizeof(name), "spin_then_sleep_of_only_spin_%zu", sizes[i]);
        bench_number(name, "ratio", r.second);
    }
}

/* Processor time that the waiting side takes while nothing comes for a second, after a first call. */
static void idle(void)
{
    row_t row = {.bytes = 64, .count = 100};
    (void)run_calls(&row);
    start(JOB_IDLE, 8, 1);
    struct timespec second = {.tv_sec = 1};
    (void)nanosleep(&second, NULL);
    twin.call(out, in, 8);
    bench_job_await();
    bench_number("idle", "cores", page->used);
}

static double attach_once(bool again)
{
    int64_t began = bench_now_ns();
    if (again) {
        start(JOB_ATTACH, 8, 1);
        twin.close();
    }
    twin.open(0);
    if (!again)
        start(JOB_ANSWER, 8, 1);
    twin.call(out, in, 8);
    double us = (double)(bench_now_ns() - began) / 1e3;
    bench_job_await();
    return us;
}

static void attach(double first)
{
    double times[7];
    if (twin.close == NULL)
        return; /* what it costs to start is not in open */
    bench_number("attach_first", "us", first);
    for (int i = 0; i < 7; i++)
        times[i] = attach_once(true);
    bench_number("attach", "us", bench_median(times, 7));
}

static bool wanted(int argc, char **argv, const char *row)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], row) == 0)
            return true;
    }
    return argc <= 2;
}

static void ask(int argc, char **argv)
{
    int samples = (int)bench_setting("ORION_BENCH_SAMPLES", 15);
    calibrate();
    double first = attach_once(false);
    bench_begin(twin.name);
    if (wanted(argc, argv, "call"))
        calls(samples);
    if (wanted(argc, argv, "one_way"))
        one_way(samples);
    if (wanted(argc, argv, "bulk") && twin.send != NULL)
        bulk(samples < 7 ? samples : 7);
    if (wanted(argc, argv, "asleep"))
        asleep();
    if (wanted(argc, argv, "unpinned"))
        unpinned(samples);
    if (wanted(argc, argv, "one_core"))
        one_core();
    if (wanted(argc, argv, "idle"))
        idle();
    if (wanted(argc, argv, "attach"))
        attach(first);
    if (wanted(argc, argv, "only_spin") && twin_only_spin != NULL)
        only_spin(samples);
    bench_end();
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE [ROW]...\n", argv[0]);
        return 2;
    }
    file = argv[1];
    int fd = open(file, O_RDWR);
    twin_must(fd >= 0 && ftruncate(fd, sizeof(page_t)) == 0, "opening FILE");
    page = mmap(NULL, sizeof(page_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    twin_must(page != MAP_FAILED, "mapping FILE");
    (void)close(fd);
    pid_t child = 0;
    if (twin.by_launcher) {
        side = twin.side();
    } else {
        bench_die_with_child(true);
        child = fork();
        twin_must(child >= 0, "fork");
        side = child == 0;
        if (child == 0) {
            bench_die_with_child(false);
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        }
    }
    bench_hurry();
    (void)bench_pin(side);
    bench_floor_share(&page->floor);
    out = buffer(LARGEST);
    in = buffer(LARGEST);
    other = buffer(LARGEST);
    (void)twin_exchange("", 1, NULL); /* both are ready to open */
    if (side == 1) {
        twin.open(1);
        answer_jobs();
    } else {
        ask(argc, argv);
        bench_die_with_child(false);
        bench_job_end_all();
    }
    if (twin.close != NULL)
        twin.close();
    if (twin.end != NULL)
        twin.end();
    int status = 0;
    if (side == 0 && child > 0)
        twin_must(waitpid(child, &status, 0) == child && status == 0, "the answering process");
    return 0;
}
