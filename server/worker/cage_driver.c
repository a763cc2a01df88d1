/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cage of a worker that has a vendor's driver in it. Such a driver opens devices and files late, so the list is of
 * what it never needs: running programs, other processes, other users, namespaces, the kernel's configuration, networks.
 * Files are kept from it by the unprivileged user alone, where the server runs as root; that is weaker than cage.c.
 */
#include "worker/cage.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "cage_driver.c: name this machine's AUDIT_ARCH_ constant"
#endif

static const int denied[] = {
    /* programs and other processes */
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
#ifdef SYS_pidfd_open
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
#endif
#ifdef SYS_pidfd_getfd
    SYS_pidfd_getfd,
#endif
#ifdef SYS_process_madvise
    SYS_process_madvise,
#endif
    SYS_kcmp,
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
#endif
    /* users, namespaces, file systems */
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setgroups,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_capset,
    SYS_unshare,
    SYS_setns,
    SYS_chroot,
    SYS_pivot_root,
    SYS_mount,
    SYS_umount2,
#ifdef SYS_open_tree
    SYS_open_tree,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsmount,
#endif
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_quotactl,
    SYS_swapon,
    SYS_swapoff,
    /* the kernel */
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
#ifdef SYS_io_uring_setup
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
#endif
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_acct,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_syslog,
    SYS_personality,
#ifdef SYS_iopl
    SYS_iopl,
    SYS_ioperm,
#endif
};

#define DENIED ((unsigned)(sizeof denied / sizeof denied[0]))
#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define NEW_NAMESPACES \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define JUMP(test, value, yes, no) BPF_JUMP(BPF_JMP | test | BPF_K, (unsigned)(value), yes, no)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define REFUSE RETURN(SECCOMP_RET_ERRNO | EPERM)
#define ALLOW RETURN(SECCOMP_RET_ALLOW)

int orion_cage_filter_driver(void)
{
    struct sock_filter program[64 + 2 * DENIED];
    unsigned n = 0;
    const struct sock_filter head[] = {
        LOAD(arch),
        JUMP(BPF_JEQ, NATIVE_ARCH, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
        JUMP(BPF_JGE, 0x40000000u, 0, 1), /* x32's table */
        RETURN(SECCOMP_RET_KILL_PROCESS),
    };
    memcpy(program, head, sizeof head);
    n = sizeof head / sizeof head[0];
    for (unsigned i = 0; i < DENIED; i++) {
        program[n++] = (struct sock_filter)JUMP(BPF_JEQ, denied[i], 0, 1);
        program[n++] = (struct sock_filter)REFUSE;
    }
    const struct sock_filter tail[] = {
        /* clone3 hides its flags in memory: glibc falls back to clone */
        JUMP(BPF_JEQ, SYS_clone3, 0, 1),
        RETURN(SECCOMP_RET_ERRNO | ENOSYS),
        /* clone: threads only, no namespaces */
        JUMP(BPF_JEQ, SYS_clone, 0, 5),
        LOAD(args[0]),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (unsigned)(THREAD_FLAGS | NEW_NAMESPACES)),
        JUMP(BPF_JEQ, THREAD_FLAGS, 0, 1),
        ALLOW,
        REFUSE,
        /* signals to this process only */
        JUMP(BPF_JEQ, SYS_tgkill, 0, 4),
        LOAD(args[0]),
        JUMP(BPF_JEQ, getpid(), 0, 1),
        ALLOW,
        REFUSE,
        /* unix sockets (a driver's daemons), no networks */
        JUMP(BPF_JEQ, SYS_socket, 0, 4),
        LOAD(args[0]),
        JUMP(BPF_JEQ, AF_UNIX, 0, 1),
        ALLOW,
        REFUSE,
        /* undumpable for good */
        JUMP(BPF_JEQ, SYS_prctl, 0, 4),
        LOAD(args[0]),
        JUMP(BPF_JEQ, PR_SET_DUMPABLE, 0, 1),
        REFUSE,
        ALLOW,
        ALLOW,
    };
    memcpy(program + n, tail, sizeof tail);
    n += sizeof tail / sizeof tail[0];
    const struct sock_fprog filter = {.len = (unsigned short)n, .filter = program};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0 ? 0 : -1;
}
