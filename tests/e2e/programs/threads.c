/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads look for the driver's functions at the same moment, by dlopen, dlsym and cuGetProcAddress, while the
 * first call connects: all find the same, nobody waits for ever. Prints "ok". */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 32
#define ROUNDS 200

static const char *const NAMES[] = {"cuInit",           "cuMemAlloc_v2",       "cuLaunchKernel", "cuGraphLaunch",
                                    "cuStreamCreate",   "cuCtxGetCurrent",     "cuMemcpyAsync",  "cuModuleLoadData",
                                    "cuGetErrorString", "cuDeviceGetAttribute"};
#define COUNT (sizeof NAMES / sizeof NAMES[0])

typedef int (*get_proc_fn)(const char *, void **, int, uint64_t, int *);

static pthread_barrier_t begin;
static void *found[THREADS][COUNT];
static int failed;

static void *look(void *arg)
{
    void **mine = found[(intptr_t)arg];
    pthread_barrier_wait(&begin);
    for (int round = 0; round < ROUNDS; round++) {
        void *library = dlopen("libcuda.so.1", round % 2 ? RTLD_NOW : RTLD_LAZY);
        get_proc_fn get_proc = library ? (get_proc_fn)dlsym(library, "cuGetProcAddress_v2") : NULL;
        int (*init)(unsigned) = library ? (int (*)(unsigned))dlsym(library, "cuInit") : NULL;
        if (!get_proc || !init || init(0))
            __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
        for (size_t i = 0; get_proc && i < COUNT; i++) {
            void *address = NULL;
            int status = -1;
            if (!dlsym(library, NAMES[i]) || get_proc("cuInit", &address, 12000, 0, &status) || !address ||
                (mine[i] && mine[i] != dlsym(library, NAMES[i])))
                __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
            mine[i] = dlsym(library, NAMES[i]);
        }
        if (library)
            dlclose(library);
    }
    return NULL;
}

int main(void)
{
    pthread_t thread[THREADS];
    if (!dlopen("libcuda.so.1", RTLD_NOW)) { /* keeps it loaded: addresses do not change between rounds */
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    pthread_barrier_init(&begin, NULL, THREADS);
    for (intptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, look, (void *)i))
            return 2;
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 1; i < THREADS; i++)
        for (size_t k = 0; k < COUNT; k++)
            failed |= found[i][k] != found[0][k];
    puts(failed ? "failed" : "ok");
    return failed;
}
