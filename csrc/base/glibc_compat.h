/* SPDX-License-Identifier: Apache-2.0 */
/* Force-included (-include base/glibc_compat.h) into everything that is linked into libcuda.so.1: binds the functions
 * whose symbol got a newer version since to the version that every glibc from 2.17 on has, so that the library loads
 * in old application containers. What did not exist in 2.17 (memfd_create, getrandom, gettid, ...) goes through raw
 * system calls in base/sys.h; the stat family and strto* are not used at all.
 * A file that defines one of these names itself sets ORION_NO_GLIBC_COMPAT before anything else. */
#ifndef ORION_BASE_GLIBC_COMPAT_H
#define ORION_BASE_GLIBC_COMPAT_H

#if defined(__x86_64__) && defined(__linux__) && !defined(ORION_NO_GLIBC_COMPAT) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)

#define ORION_GLIBC(name, version) __asm__(".symver " #name "," #name "@GLIBC_" #version)

/* libdl, moved into libc in 2.34 */
ORION_GLIBC(dlopen, 2.2.5);
ORION_GLIBC(dlclose, 2.2.5);
ORION_GLIBC(dlsym, 2.2.5);
ORION_GLIBC(dlvsym, 2.2.5);
ORION_GLIBC(dlerror, 2.2.5);
ORION_GLIBC(dladdr, 2.2.5);
ORION_GLIBC(dlinfo, 2.3.3);

/* libpthread, moved into libc in 2.34 */
ORION_GLIBC(pthread_create, 2.2.5);
ORION_GLIBC(pthread_join, 2.2.5);
ORION_GLIBC(pthread_tryjoin_np, 2.3.3);
ORION_GLIBC(pthread_timedjoin_np, 2.3.3);
ORION_GLIBC(pthread_detach, 2.2.5);
ORION_GLIBC(pthread_kill, 2.2.5);
ORION_GLIBC(pthread_once, 2.2.5);
ORION_GLIBC(pthread_cancel, 2.2.5);
ORION_GLIBC(pthread_key_create, 2.2.5);
ORION_GLIBC(pthread_key_delete, 2.2.5);
ORION_GLIBC(pthread_getspecific, 2.2.5);
ORION_GLIBC(pthread_setspecific, 2.2.5);
ORION_GLIBC(pthread_mutex_trylock, 2.2.5);
ORION_GLIBC(pthread_mutex_timedlock, 2.2.5);
ORION_GLIBC(pthread_mutexattr_init, 2.2.5);
ORION_GLIBC(pthread_mutexattr_destroy, 2.2.5);
ORION_GLIBC(pthread_mutexattr_settype, 2.2.5);
ORION_GLIBC(pthread_rwlock_init, 2.2.5);
ORION_GLIBC(pthread_rwlock_destroy, 2.2.5);
ORION_GLIBC(pthread_rwlock_rdlock, 2.2.5);
ORION_GLIBC(pthread_rwlock_wrlock, 2.2.5);
ORION_GLIBC(pthread_rwlock_unlock, 2.2.5);
ORION_GLIBC(pthread_rwlock_tryrdlock, 2.2.5);
ORION_GLIBC(pthread_rwlock_trywrlock, 2.2.5);
ORION_GLIBC(pthread_condattr_setclock, 2.3.3);
ORION_GLIBC(pthread_spin_init, 2.2.5);
ORION_GLIBC(pthread_spin_lock, 2.2.5);
ORION_GLIBC(pthread_spin_unlock, 2.2.5);
ORION_GLIBC(pthread_barrier_init, 2.2.5);
ORION_GLIBC(pthread_barrier_wait, 2.2.5);
ORION_GLIBC(pthread_attr_setstacksize, 2.2.5);
ORION_GLIBC(pthread_getattr_np, 2.2.5);
ORION_GLIBC(pthread_attr_getstack, 2.2.5);
ORION_GLIBC(pthread_setname_np, 2.12);
ORION_GLIBC(pthread_getname_np, 2.12);
ORION_GLIBC(pthread_setaffinity_np, 2.3.4);
ORION_GLIBC(pthread_getaffinity_np, 2.3.4);
ORION_GLIBC(pthread_sigmask, 2.2.5);
ORION_GLIBC(sem_init, 2.2.5);
ORION_GLIBC(sem_destroy, 2.2.5);
ORION_GLIBC(sem_post, 2.2.5);
ORION_GLIBC(sem_wait, 2.2.5);
ORION_GLIBC(sem_timedwait, 2.2.5);

/* librt, moved or renewed */
ORION_GLIBC(clock_nanosleep, 2.2.5);
ORION_GLIBC(shm_open, 2.2.5);
ORION_GLIBC(shm_unlink, 2.2.5);

/* memcpy@2.14 is the newest version and not above 2.17; listed so that nobody wonders. */

#undef ORION_GLIBC

#endif
#endif
