/* SPDX-License-Identifier: Apache-2.0 */
/* SIGKILL at random instants, each measured from the kill to the survivor's error. Each has to come within the promised
 * time; excused is only what the machine gave to others meanwhile: what the witness lost, and what the kernel counted as
 * waiting for a processor (schedstat) of the victim, which has to run to die, and of the survivor. */
#ifndef ORION_TESTS_KILLS_H
#define ORION_TESTS_KILLS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "process.h"
#include "witness.h"

#define PROMISE_NS 100000000LL
#define WATCHDOG_NS 10000000000LL
#define KILLS_MAX 100000

typedef struct kill_moment { /* in memory shared with the killer */
    int64_t begun, done;     /* around kill(); 0 = not yet */
    int64_t waited[2];       /* victim, survivor */
} kill_moment_t;

typedef struct kills {
    int wanted, count, seen; /* seen: within the promise, excuses included */
    int64_t times[KILLS_MAX];
    int64_t excused, worst; /* the most that was excused; the longest after that */
    int descriptors;
    kill_moment_t *moment;
    pid_t killer, parties[2];
    witness_t witness;
} kills_t;

/* For qsort over int64_t. */
static inline int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Nanoseconds that the process (its first thread) was ready to run and did not. */
static inline int64_t process_waited(pid_t pid)
{
    char path[64], text[96] = "";
    unsigned long long ran, waited;
    (void)snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* a kernel that does not count */
    ssize_t n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    return n > 0 && sscanf(text, "%llu %llu", &ran, &waited) == 2 ? (int64_t)waited : 0;
}

static inline void kills_begin(kills_t *k, uint64_t otherwise)
{
    uint64_t wanted = check_number("ORION_KILLS", otherwise);
    memset(k, 0, sizeof(*k));
    k->wanted = wanted > KILLS_MAX ? KILLS_MAX : (int)wanted;
    k->moment = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(k->moment != MAP_FAILED);
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); /* whoever is orphaned becomes a child of ours, to be seen */
    witness_start(&k->witness);
    k->descriptors = count_descriptors();
}

/* A child kills the victim after so long. */
static inline void kills_soon(kills_t *k, pid_t victim, pid_t survivor, uint64_t us)
{
    *k->moment = (kill_moment_t){0};
    k->parties[0] = victim;
    k->parties[1] = survivor;
    k->killer = fork();
    MUST(k->killer >= 0);
    if (k->killer != 0)
        return;
    (void)usleep((useconds_t)us);
    for (int i = 0; i < 2; i++)
        k->moment->waited[i] = process_waited(k->parties[i]);
    k->moment->begun = check_now_ns();
    (void)kill(victim, SIGKILL);
    k->moment->done = check_now_ns();
    _exit(0);
}

/* The survivor has its error, and neither it nor the victim has been waited for. false: before anybody was killed. */
static inline bool kills_noticed(kills_t *k)
{
    int64_t now = check_now_ns(), waited = 0;
    for (int i = 0; i < 2; i++)
        waited += process_waited(k->parties[i]);
    bool after = __atomic_load_n(&k->moment->begun, __ATOMIC_ACQUIRE) != 0;
    MUST(waitpid(k->killer, NULL, 0) == k->killer);
    if (!after)
        return false;
    const kill_moment_t *m = k->moment;
    int64_t lost = witness_lost(&k->witness, m->begun, now) + m->done - m->begun;
    lost += waited > m->waited[0] + m->waited[1] ? waited - m->waited[0] - m->waited[1] : 0;
    int64_t time = now - m->begun, left = time > lost ? time - lost : 0;
    k->times[k->count++] = time;
    k->seen += left <= PROMISE_NS && time <= WATCHDOG_NS;
    k->worst = left > k->worst ? left : k->worst;
    k->excused = time - left > k->excused ? time - left : k->excused;
    return true;
}

/* Children and orphans: all end by themselves, within the watchdog's time. */
static inline bool nobody_is_left(void)
{
    int64_t end = check_now_ns() + WATCHDOG_NS;
    for (;;) {
        pid_t gone = waitpid(-1, NULL, WNOHANG);
        if (gone < 0 && errno == ECHILD)
            return true;
        if (gone == 0 && check_now_ns() > end)
            return false;
        if (gone == 0)
            (void)usleep(1000);
    }
}

/* Each was noticed in time, and neither a process nor a descriptor is left. */
static inline bool kills_end(kills_t *k, const char *who)
{
    bool alone = nobody_is_left();
    int descriptors = count_descriptors();
    witness_stop(&k->witness);
    (void)munmap(k->moment, 4096);
    qsort(k->times, (size_t)k->count, sizeof(*k->times), ascending);
    if (k->count > 0)
        printf("     %s noticed after %.1f ms (median of %d), %.1f ms (worst); excused: %.1f ms at most, then %.1f ms "
               "(worst)\n",
               who, (double)k->times[k->count / 2] / 1e6, k->count, (double)k->times[k->count - 1] / 1e6,
               (double)k->excused / 1e6, (double)k->worst / 1e6);
    if (!alone || descriptors != k->descriptors)
        fprintf(stderr, "left: processes: %s, descriptors: %d of %d before\n", alone ? "none" : "some", descriptors,
                k->descriptors);
    return alone && descriptors == k->descriptors && k->count == k->wanted && k->seen == k->count;
}

#endif
