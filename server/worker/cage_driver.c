/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cage of a worker that has a vendor's driver in it. Such a driver opens devices and files late, so the list is of
 * what it never needs: running programs, other processes, other users, namespaces, the kernel's configuration, networks.
 * Files are kept from it by the unprivileged user alone, where the server runs as root; that is weaker than cage.c.
 */
#include "worker/cage.h"

#include "worker/cage_filter.h"

#include <asm/ioctls.h>
#include <asm/sockios.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

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

int orion_cage_filter_driver(int networks)
{
    const unsigned only_unix = networks ? NO_CALL : SYS_socket;
    const struct sock_filter tail[] = {
        RULE_THREADS,
        RULE_SIGNALS,
        /* whom a descriptor's signals go to, and which: another worker may have the same uid */
        JUMP(BPF_JEQ, SYS_fcntl, 0, 6),
        LOAD(args[1]),
        JUMP(BPF_JEQ, F_SETOWN, 3, 0),
        JUMP(BPF_JEQ, F_SETOWN_EX, 2, 0),
        JUMP(BPF_JEQ, F_SETSIG, 1, 0),
        ALLOW,
        REFUSE,
        JUMP(BPF_JEQ, SYS_ioctl, 0, 5),
        LOAD(args[1]),
        JUMP(BPF_JEQ, FIOSETOWN, 2, 0),
        JUMP(BPF_JEQ, SIOCSPGRP, 1, 0),
        ALLOW,
        REFUSE,
        /* limits of this process only */
        JUMP(BPF_JEQ, SYS_prlimit64, 0, 5),
        LOAD(args[0]),
        JUMP(BPF_JEQ, 0, 1, 0),
        JUMP(BPF_JEQ, getpid(), 0, 1),
        ALLOW,
        REFUSE,
        /* unix sockets (a driver's daemons), no networks but for UCX */
        JUMP(BPF_JEQ, only_unix, 0, 4),
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
    return orion_cage_install(denied, sizeof denied / sizeof denied[0], (struct sock_filter)REFUSE, tail,
                              sizeof tail / sizeof tail[0]);
}
