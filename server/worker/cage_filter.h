/* SPDX-License-Identifier: Apache-2.0 */
/* What the two lists of system calls (cage.c, cage_driver.c) have in common: the filter's beginning, the rules that
 * hold for both, and its installation. */
#ifndef ORION_WORKER_CAGE_FILTER_H
#define ORION_WORKER_CAGE_FILTER_H

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define LOAD_HIGH(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)(offsetof(struct seccomp_data, field) + 4))
#define JUMP(test, value, yes, no) BPF_JUMP(BPF_JMP | test | BPF_K, (unsigned)(value), yes, no)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define NO_CALL 0x7fffffffu /* the number of no system call: a rule for it is none */
#define REFUSE RETURN(SECCOMP_RET_ERRNO | EPERM)
#define ALLOW RETURN(SECCOMP_RET_ALLOW)

#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define NEW_NAMESPACES \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* clone3 hides its flags in memory: glibc falls back to clone. clone: threads only, no namespaces. */
#define RULE_THREADS                                                                                     \
    JUMP(BPF_JEQ, SYS_clone3, 0, 1), RETURN(SECCOMP_RET_ERRNO | ENOSYS), JUMP(BPF_JEQ, SYS_clone, 0, 5), \
        LOAD(args[0]), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (unsigned)(THREAD_FLAGS | NEW_NAMESPACES)),   \
        JUMP(BPF_JEQ, THREAD_FLAGS, 0, 1), ALLOW, REFUSE

/* abort() and raise() end in tgkill: to this process only. */
#define RULE_SIGNALS JUMP(BPF_JEQ, SYS_tgkill, 0, 4), LOAD(args[0]), JUMP(BPF_JEQ, getpid(), 0, 1), ALLOW, REFUSE

/* Installs: the machine's own table of calls or death, `match` for each of the numbers, then the tail, which ends with
 * the answer for all others. All threads, also those that were started before. 0, or -1 and errno. */
int orion_cage_install(const int *numbers, unsigned count, struct sock_filter match, const struct sock_filter *tail,
                       unsigned tail_count);

#endif
