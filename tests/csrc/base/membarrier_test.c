/* SPDX-License-Identifier: Apache-2.0 */
/* Who takes part in membarriers, and from when on. */
#define _GNU_SOURCE
#include "base/membarrier.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../check.h"
#include "base/futex.h"
#include "base/sys.h"

#ifndef SYS_membarrier
#define SYS_membarrier 324
#endif

static uint32_t ended;

static void *wait_for_the_end(void *arg)
{
    (void)arg;
    while (orion_load_acquire(&ended) == 0)
        (void)orion_futex_wait(&ended, 0, 1000000000);
    return NULL;
}

/* In a process of its own, since it is registered once and for all. */
static int in_child(int (*claim)(void))
{
    int status = -1;
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0)
        _exit(claim());
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int begin_alone(void)
{
    if (orion_threads() != 1 || !orion_membarrier_begin())
        return 1;
    return orion_load_acquire(&orion_membarrier_registered) == 1 && orion_threads() == 1 ? 0 : 2;
}

static void process_with_one_thread_is_registered_at_once(void)
{
    CHECK_EQUAL(in_child(begin_alone), 0);
}

static int registered_soon(void)
{
    for (int i = 0; i < 10000 && orion_load_acquire(&orion_membarrier_registered) == 0; i++)
        (void)usleep(1000);
    return orion_load_acquire(&orion_membarrier_registered) == 1;
}

static int begin_beside_another(void)
{
    pthread_t other;
    if (pthread_create(&other, NULL, wait_for_the_end, NULL) != 0 || orion_threads() != 2)
        return 1;
    if (!orion_membarrier_begin() || !orion_membarrier_begin()) /* the second one finds the first at it, or done */
        return 2;
    orion_wake_order(true); /* by a fence or without: allowed at any time */
    if (!registered_soon())
        return 3;
    for (int i = 0; i < 10000 && orion_threads() != 2; i++) /* its thread is about to end */
        (void)usleep(1000);
    if (!orion_membarrier_begin() || orion_threads() != 2)
        return 5; /* once is enough */
    orion_store_release(&ended, 1);
    (void)orion_futex_wake(&ended, 1);
    return pthread_join(other, NULL) == 0 ? 0 : 4;
}

static void process_with_several_threads_is_registered_by_and_by(void)
{
    CHECK_EQUAL(in_child(begin_beside_another), 0);
}

/* The thread that registers its parent is not in the child: it has to begin for itself. */
static int fork_while_beginning(void)
{
    pthread_t other;
    if (pthread_create(&other, NULL, wait_for_the_end, NULL) != 0 || !orion_membarrier_begin())
        return 1;
    return in_child(begin_alone);
}

static void child_of_a_process_that_has_just_begun_is_registered_too(void)
{
    CHECK_EQUAL(in_child(fork_while_beginning), 0);
}

static int begin_where_it_is_refused(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 1;
    errno = 77;
    if (orion_membarrier_begin() || orion_membarrier_register() || orion_membarrier_global())
        return 2;
    orion_wake_order(true); /* a fence */
    return errno == 77 && orion_load_acquire(&orion_membarrier_registered) == 0 ? 0 : 3;
}

static void refusal_is_told_and_changes_nothing(void)
{
    CHECK_EQUAL(in_child(begin_where_it_is_refused), 0);
}

CHECK_MAIN(CASE(process_with_one_thread_is_registered_at_once),
           CASE(process_with_several_threads_is_registered_by_and_by),
           CASE(child_of_a_process_that_has_just_begun_is_registered_too), CASE(refusal_is_told_and_changes_nothing))
