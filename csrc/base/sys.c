/* SPDX-License-Identifier: Apache-2.0 */
/* Raw system calls, see sys.h. */
#define _GNU_SOURCE
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/parse.h"

#ifndef SYS_memfd_create
#define SYS_memfd_create 319
#endif
#ifndef SYS_getrandom
#define SYS_getrandom 318
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* the same number on every architecture */
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#endif

int orion_memfd_create(const char *name, unsigned flags)
{
    return (int)syscall(SYS_memfd_create, name, flags);
}

/* by number, since fcntl() itself was renamed (fcntl64) in 2.28 */
int orion_memfd_seal(int fd, int seals)
{
    return (int)syscall(SYS_fcntl, fd, F_ADD_SEALS, seals);
}
int orion_memfd_seals(int fd)
{
    return (int)syscall(SYS_fcntl, fd, F_GET_SEALS, 0);
}

int orion_pidfd_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

pid_t orion_gettid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

int64_t orion_fd_size(int fd)
{
    off_t here = lseek(fd, 0, SEEK_CUR);
    off_t end = lseek(fd, 0, SEEK_END);
    if (here >= 0)
        (void)lseek(fd, here, SEEK_SET);
    return (int64_t)end;
}

int orion_fd_links(int fd)
{
    struct stat s; /* as below */
    return syscall(SYS_newfstatat, fd, "", &s, AT_EMPTY_PATH) == 0 ? (int)s.st_nlink : -1;
}

int orion_path_owner(const char *path, uid_t *uid_p)
{
    struct stat s; /* the kernel's own on 64-bit architectures; glibc's lstat is a symbol of 2.33 */
    if (syscall(SYS_newfstatat, AT_FDCWD, path, &s, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    *uid_p = s.st_uid;
    return 0;
}

int orion_random_bytes(void *to, size_t bytes)
{
    uint8_t *at = to;
    while (bytes > 0) {
        long n = syscall(SYS_getrandom, at, bytes, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == ENOSYS) { /* before Linux 3.17 */
            int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
            if (fd < 0)
                return -1;
            n = read(fd, at, bytes);
            (void)close(fd);
        }
        if (n <= 0)
            return -1;
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int orion_cpu_current(void)
{
    return sched_getcpu();
}

bool orion_read_text(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, bytes - 1);
    (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return true;
}

/* cgroup v2: "<quota> <period>" or "max <period>". The quota of a parent group is not looked at: being wrong costs
 * some spinning, never correctness. */
int orion_cpu_throttled(void)
{
    char text[64];
    if (!orion_read_text("/sys/fs/cgroup/cpu.max", text, sizeof(text)))
        return 0;
    uint64_t quota, period;
    const char *rest = orion_parse_u64_prefix(text, &quota);
    if (rest == NULL || *rest != ' ' || orion_parse_u64_prefix(rest + 1, &period) == NULL)
        return 0;
    return quota < period;
}

/* The 20th field of its line; the second, its name, may hold anything. */
int orion_threads(void)
{
    char text[1024];
    uint64_t threads;
    if (!orion_read_text("/proc/self/stat", text, sizeof(text)))
        return 0;
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 20; field++)
        at = strchr(at + 1, ' ');
    return at != NULL && orion_parse_u64_prefix(at + 1, &threads) != NULL ? (int)threads : 0;
}

int orion_cpu_usable(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 2; /* more than 1024 processors */
    return CPU_COUNT(&set);
}

int orion_cpu_leave(int cpu)
{
    cpu_set_t all, others;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof(all), &all) != 0)
        return 0;
    others = all;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0)
        return 0;
    (void)sched_setaffinity(0, sizeof(all), &all); /* it may come back whenever the scheduler likes */
    return 1;
}
