/* SPDX-License-Identifier: Apache-2.0 */
/* What it costs a program to begin: from cuInit, which connects and says hello, to the answer of the first call that
 * waits for its worker. Each attach is a process of its own, forked from this one, which has loaded libcuda.so.1 and
 * never called it. Beside each: what two sleeping processes need to hand a byte to and fro over a unix socket, since an
 * attach is a few such hand-overs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sample.h"

#define HANDOVERS 20
#define ATTACHES_MOST 1000

typedef int result_t;

static result_t (*init)(unsigned);
static result_t (*primary_retain)(void **, int);
static result_t (*set_current)(void *);
static result_t (*mem_info)(size_t *, size_t *);

static void *symbol(void *library, const char *name)
{
    void *p = dlsym(library, name);
    if (p != NULL)
        return p;
    fprintf(stderr, "the library has no %s\n", name);
    exit(2);
}

static void must(result_t result, const char *what)
{
    if (result == 0)
        return;
    fprintf(stderr, "%s: CUDA error %d\n", what, result);
    _exit(2);
}

/* In a process of its own: ns until cuInit has returned, and until the first answer. */
static void attach(int out)
{
    void *context;
    size_t free_bytes, total;
    int64_t took[2], begun = bench_now_ns();
    must(init(0), "cuInit");
    took[0] = bench_now_ns() - begun;
    must(primary_retain(&context, 0), "cuDevicePrimaryCtxRetain");
    must(set_current(context), "cuCtxSetCurrent");
    must(mem_info(&free_bytes, &total), "cuMemGetInfo");
    took[1] = bench_now_ns() - begun;
    _exit(write(out, took, sizeof took) == sizeof took ? 0 : 2);
}

static int echo(int line)
{
    char byte;
    while (read(line, &byte, 1) == 1)
        if (write(line, &byte, 1) != 1)
            return 1;
    return 0;
}

static double handover(int line)
{
    double times[HANDOVERS];
    char byte = 0;
    for (int i = 0; i < HANDOVERS; i++) {
        int64_t begun = bench_now_ns();
        if (write(line, &byte, 1) != 1 || read(line, &byte, 1) != 1)
            exit(2);
        times[i] = (double)(bench_now_ns() - begun);
    }
    return bench_median(times, HANDOVERS);
}

int main(int argc, char **argv)
{
    static double inits[ATTACHES_MOST], firsts[ATTACHES_MOST], floors[ATTACHES_MOST], ratios[ATTACHES_MOST];
    /* in between the server makes the next worker ready, as it has time to in real life */
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    const int count = (int)bench_setting("ORION_BENCH_ATTACHES", 200);
    int pipe_fds[2], lines[2];
    if (argc != 2 || count < 1 || count > ATTACHES_MOST) {
        fprintf(stderr, "usage: attach PATH_OF_LIBCUDA (ORION_BENCH_ATTACHES: 1 to %d)\n", ATTACHES_MOST);
        return 2;
    }
    void *library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    *(void **)&init = symbol(library, "cuInit");
    *(void **)&primary_retain = symbol(library, "cuDevicePrimaryCtxRetain");
    *(void **)&set_current = symbol(library, "cuCtxSetCurrent");
    *(void **)&mem_info = symbol(library, "cuMemGetInfo_v2");
    if (pipe(pipe_fds) || socketpair(AF_UNIX, SOCK_STREAM, 0, lines))
        return 2;
    const pid_t echoing = fork();
    if (echoing == 0) {
        close(lines[0]);
        _exit(echo(lines[1]));
    }
    close(lines[1]);
    for (int i = 0; i < count; i++) {
        int64_t took[2];
        int status;
        nanosleep(&pause, NULL);
        floors[i] = handover(lines[0]);
        const pid_t pid = fork();
        if (pid == 0)
            attach(pipe_fds[1]);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0 ||
            read(pipe_fds[0], took, sizeof took) != sizeof took)
            return 2;
        floors[i] = (floors[i] + handover(lines[0])) / 2;
        inits[i] = (double)took[0];
        firsts[i] = (double)took[1];
        ratios[i] = firsts[i] / floors[i];
    }
    close(lines[0]);
    waitpid(echoing, NULL, 0);
    bench_begin("attach");
    bench_number("attach_init", "ms", bench_median(inits, count) / 1e6);
    bench_number("attach", "ms", bench_percentile(firsts, count, 0.5) / 1e6);
    bench_number("attach_p99", "ms", bench_percentile(firsts, count, 0.99) / 1e6);
    bench_number("handover", "us", bench_median(floors, count) / 1e3);
    bench_number("attach_of_handover", "", bench_median(ratios, count));
    bench_end();
    return 0;
}
