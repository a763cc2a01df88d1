/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cage: an unprivileged uid, no new privileges, resource limits and a list of allowed system calls. What a worker
 * needs is memory (the JIT maps and protects code), threads, futexes, clocks and the descriptors that it already has.
 * Everything else gets EPERM, so that a Python library that probes for a file goes on without it.
 */
#include "worker/cage.h"

#include "worker/cage_filter.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* Allowed whatever the arguments. */
static const int allowed[] = {
    /* memory; mmap of a file needs a descriptor, and those are few */
    SYS_mmap,
    SYS_munmap,
    SYS_mprotect,
    SYS_madvise,
    SYS_mremap,
    SYS_brk,
    /* threads and waiting */
    SYS_futex,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_sched_yield,

    SYS_getcpu,
    SYS_membarrier,
    SYS_gettid,
    SYS_getpid,
    SYS_getppid,
    SYS_exit,
    SYS_exit_group,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_restart_syscall,
    /* signals to oneself, see also tgkill below */
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    /* the descriptors at hand */
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_lseek,
    SYS_close,
    SYS_fstat,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_ppoll,
    SYS_dup,

    /* harmless questions */
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getrandom,
    SYS_uname,
    SYS_getrusage,
    SYS_times,
    SYS_sysinfo,
#ifdef SYS_poll
    SYS_poll,
#endif
#ifdef SYS_time
    SYS_time,
#endif
#ifdef SYS_rseq
    SYS_rseq,
#endif
#ifdef SYS_arch_prctl
    SYS_arch_prctl,
#endif
};

/* And where UCX runs: its tcp connects and accepts when the two ends meet, which is after the cage has closed since what
 * the client says of itself is parsed then; RDMA registers memory. Paths stay closed, unix sockets too. */
static const int allowed_ucx[] = {
    SYS_epoll_create1, SYS_epoll_ctl,   SYS_epoll_pwait, SYS_eventfd2, SYS_connect,
    SYS_bind,          SYS_listen,      SYS_accept,      SYS_accept4,  SYS_setsockopt,
    SYS_getsockopt,    SYS_getsockname, SYS_getpeername, SYS_shutdown, SYS_ioctl,
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
#endif
};

#define ALLOWED (sizeof allowed / sizeof allowed[0])
#define ALLOWED_UCX (sizeof allowed_ucx / sizeof allowed_ucx[0])

static int install_filter(int ucx)
{
    int numbers[ALLOWED + ALLOWED_UCX];
    memcpy(numbers, allowed, sizeof allowed);
    memcpy(numbers + ALLOWED, allowed_ucx, sizeof allowed_ucx);
    const struct sock_filter tail[] = {
        RULE_THREADS,
        RULE_SIGNALS,
        /* processors of this process only: another worker may have the same uid */
        JUMP(BPF_JEQ, SYS_sched_getaffinity, 1, 0),
        JUMP(BPF_JEQ, SYS_sched_setaffinity, 0, 5),
        LOAD(args[0]),
        JUMP(BPF_JEQ, 0, 1, 0),
        JUMP(BPF_JEQ, getpid(), 0, 1),
        ALLOW,
        REFUSE,
        /* send() and recv() of a connected socket are sendto and recvfrom without an address */
        JUMP(BPF_JEQ, SYS_sendto, 1, 0),
        JUMP(BPF_JEQ, SYS_recvfrom, 0, 6),
        LOAD(args[4]),
        JUMP(BPF_JEQ, 0, 0, 3),
        LOAD_HIGH(args[4]),
        JUMP(BPF_JEQ, 0, 0, 1),
        ALLOW,
        REFUSE,
        /* fcntl: never whom a descriptor's signals go to (F_SETOWN, F_SETSIG, leases, O_ASYNC) */
        JUMP(BPF_JEQ, SYS_fcntl, 0, 11),
        LOAD(args[1]),
        JUMP(BPF_JEQ, F_DUPFD_CLOEXEC, 7, 0),
        JUMP(BPF_JEQ, F_GETFD, 6, 0),
        JUMP(BPF_JEQ, F_SETFD, 5, 0),
        JUMP(BPF_JEQ, F_GETFL, 4, 0),
        JUMP(BPF_JEQ, F_GET_SEALS, 3, 0),
        JUMP(BPF_JEQ, F_SETFL, 0, 3),
        LOAD(args[2]),
        JUMP(BPF_JSET, O_ASYNC, 1, 0),
        ALLOW,
        REFUSE,
        /* on which processor a socket's last bytes came in: a worker that looks before it sleeps asks */
        JUMP(BPF_JEQ, SYS_getsockopt, 0, 6),
        LOAD(args[1]),
        JUMP(BPF_JEQ, SOL_SOCKET, 0, 3),
        LOAD(args[2]),
        JUMP(BPF_JEQ, SO_INCOMING_CPU, 0, 1),
        ALLOW,
        REFUSE,
        /* networks for UCX alone; from netlink it learns whether a route leads to the other end */
        JUMP(BPF_JEQ, ucx ? SYS_socket : NO_CALL, 0, 8),
        LOAD(args[0]),
        JUMP(BPF_JEQ, AF_INET, 4, 0),
        JUMP(BPF_JEQ, AF_INET6, 3, 0),
        JUMP(BPF_JEQ, AF_NETLINK, 0, 3),
        LOAD(args[2]),
        JUMP(BPF_JEQ, NETLINK_ROUTE, 0, 1),
        ALLOW,
        REFUSE,
        /* prctl: names of threads and of mappings */
        JUMP(BPF_JEQ, SYS_prctl, 0, 5),
        LOAD(args[0]),
        JUMP(BPF_JEQ, PR_SET_NAME, 1, 0),
        JUMP(BPF_JEQ, 0x53564d41 /* PR_SET_VMA */, 0, 1),
        ALLOW,
        REFUSE,
        REFUSE,
    };
    return orion_cage_install(numbers, ALLOWED + (ucx ? ALLOWED_UCX : 0), (struct sock_filter)ALLOW, tail,
                              sizeof tail / sizeof tail[0]);
}

/* Bytes of private writable memory (data and stack) that the process has now. */
static uint64_t data_now(void)
{
    char text[256];
    unsigned long long pages[7] = {0};
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    if (fgets(text, sizeof text, file))
        sscanf(text, "%llu %llu %llu %llu %llu %llu", &pages[0], &pages[1], &pages[2], &pages[3], &pages[4], &pages[5]);
    fclose(file);
    return pages[5] * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int limit(int what, rlim_t value)
{
    const struct rlimit both = {.rlim_cur = value, .rlim_max = value};
    struct rlimit now;
    if (getrlimit((unsigned)what, &now) == 0 && now.rlim_max != RLIM_INFINITY && value > now.rlim_max)
        return 0;
    return setrlimit((unsigned)what, &both);
}

static int drop_user(const orion_cage_t *cage)
{
    if (geteuid() != 0)
        return 0;
    if (setgroups(0, NULL) || setresgid(cage->gid, cage->gid, cage->gid) || setresuid(cage->uid, cage->uid, cage->uid))
        return -1;
    return getuid() == 0 || setuid(0) == 0 ? -1 : 0; /* it must not lead back */
}

int orion_cage_enter(const orion_cage_t *cage, char *why, size_t why_bytes)
{
    const char *step;
    const uint64_t data = cage->data_bytes ? data_now() + cage->data_bytes : 0;

    step = "drop to an unprivileged user";
    if (drop_user(cage))
        goto err;
    step = "set resource limits";
    if (limit(RLIMIT_CORE, 0) || limit(RLIMIT_NOFILE, cage->files) || (data && limit(RLIMIT_DATA, data)))
        goto err;
    step = "make the process undumpable";
    if (prctl(PR_SET_DUMPABLE, 0))
        goto err;
    step = "tie the worker's life to its server"; /* after the change of user, which clears it */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL))
        goto err;
    if (cage->parent && getppid() != cage->parent) {
        errno = ESRCH;
        goto err;
    }
    step = "forbid new privileges";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        goto err;
    step = "install the system call filter";
    if (cage->driver ? orion_cage_filter_driver(cage->ucx) : install_filter(cage->ucx))
        goto err;
    return 0;

err:
    snprintf(why, why_bytes, "the worker's cage could not %s: %s", step, strerror(errno));
    return -1;
}
