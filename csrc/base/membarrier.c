/* SPDX-License-Identifier: Apache-2.0 */
/* membarrier, see membarrier.h. */
#define _GNU_SOURCE
#include "base/membarrier.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sys.h"

#ifndef SYS_membarrier
#define SYS_membarrier 324
#endif
/* enum membarrier_cmd, by value: old headers lack them */
#define GLOBAL_EXPEDITED (1 << 1)
#define REGISTER_GLOBAL_EXPEDITED (1 << 2)

#define STACK_BYTES (256u << 10) /* room for the thread-local variables of big programs */

uint32_t orion_membarrier_registered;
static uint32_t beginning; /* the process whose thread is registering it: a forked child has no such thread */

static bool membarrier(int command)
{
    int saved = errno; /* a CUDA call never changes the application's errno */
    long rc = syscall(SYS_membarrier, command, 0, 0);
    errno = saved;
    return rc == 0;
}

bool orion_membarrier_register(void)
{
    if (orion_load_acquire(&orion_membarrier_registered) != 0)
        return true; /* a forked child is what its parent was: the kernel copies it with the address space */
    if (!membarrier(REGISTER_GLOBAL_EXPEDITED))
        return false;
    /* release: pairs with the acquire in orion_wake_order */
    orion_store_release(&orion_membarrier_registered, 1);
    return true;
}

bool orion_membarrier_global(void)
{
    return membarrier(GLOBAL_EXPEDITED);
}

static void *register_process(void *arg)
{
    (void)arg;
    /* if not now: whoever has to be sure tries again, the rest goes on with fences */
    (void)orion_membarrier_register();
    orion_store_release(&beginning, 0);
    return NULL;
}

static bool start_thread(void)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's handlers do not run there */
    bool started = pthread_create(&thread, &attributes, register_process, NULL) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return started;
}

bool orion_membarrier_begin(void)
{
    if (orion_load_acquire(&orion_membarrier_registered) != 0)
        return true;
    uint32_t pid = (uint32_t)getpid(), seen = orion_load_acquire(&beginning);
    if (seen == pid)
        return true;
    if (!orion_membarrier_global())
        return false;
    if (orion_threads() == 1)
        return orion_membarrier_register();
    if (!orion_compare_exchange(&beginning, &seen, pid))
        return true; /* another thread has just begun */
    if (start_thread())
        return true;
    orion_store_release(&beginning, 0);
    return orion_membarrier_register();
}
