/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a filter of system calls together and installs it, see cage_filter.h. */
#include "worker/cage_filter.h"

#include <linux/audit.h>
#include <string.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "cage_filter.c: name this machine's AUDIT_ARCH_ constant"
#endif

#define INSTRUCTIONS_MOST 512u

int orion_cage_install(const int *numbers, unsigned count, struct sock_filter match, const struct sock_filter *tail,
                       unsigned tail_count)
{
    struct sock_filter program[INSTRUCTIONS_MOST];
    const struct sock_filter head[] = {
        LOAD(arch),
        JUMP(BPF_JEQ, NATIVE_ARCH, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
        /* numbers above 2^30 are x32's: another table with other meanings */
        JUMP(BPF_JGE, 0x40000000u, 0, 1),
        RETURN(SECCOMP_RET_KILL_PROCESS),
    };
    unsigned n = sizeof head / sizeof head[0];
    if (n + 2 * count + tail_count > INSTRUCTIONS_MOST) {
        errno = E2BIG;
        return -1;
    }
    memcpy(program, head, sizeof head);
    for (unsigned i = 0; i < count; i++) {
        program[n++] = (struct sock_filter)JUMP(BPF_JEQ, numbers[i], 0, 1);
        program[n++] = match;
    }
    memcpy(program + n, tail, tail_count * sizeof *tail);
    n += tail_count;
    const struct sock_fprog filter = {.len = (unsigned short)n, .filter = program};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0 ? 0 : -1;
}
