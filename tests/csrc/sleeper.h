/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that sleeps on a futex word in place of one that the code under test would have, from an instant on that the
 * test knows. */
#ifndef ORION_TESTS_SLEEPER_H
#define ORION_TESTS_SLEEPER_H

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/futex.h"
#include "check.h"

typedef struct sleeper {
    pthread_t thread;
    const uint32_t *word;
    uint32_t old;
    int tid; /* atomic; 0 = not there yet */
    orion_status_t slept;
} sleeper_t;

static inline void *sleeper_run(void *arg)
{
    sleeper_t *s = arg;
    __atomic_store_n(&s->tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    s->slept = orion_futex_wait(s->word, s->old, 5 * ORION_NS_PER_S);
    return NULL;
}

/* The state letter of a thread, as the kernel shows it: S = asleep. */
static inline char sleeper_state(int tid)
{
    char name[64], text[256] = "";
    (void)snprintf(name, sizeof(name), "/proc/self/task/%d/stat", tid);
    FILE *f = fopen(name, "r");
    MUST(f != NULL);
    MUST(fread(text, 1, sizeof(text) - 1, f) > 0);
    (void)fclose(f);
    const char *after = strrchr(text, ')');
    MUST(after != NULL);
    return after[2];
}

/* Returns when it sleeps on the word, which still says `old`. */
static inline void sleeper_start(sleeper_t *s)
{
    MUST(pthread_create(&s->thread, NULL, sleeper_run, s) == 0);
    while (__atomic_load_n(&s->tid, __ATOMIC_ACQUIRE) == 0 || sleeper_state(s->tid) != 'S')
        (void)usleep(100);
}

/* ORION_OK: somebody woke it. */
static inline orion_status_t sleeper_join(sleeper_t *s)
{
    MUST(pthread_join(s->thread, NULL) == 0);
    return s->slept;
}

#endif
