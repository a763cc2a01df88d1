/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that an old libc has no wrapper for, and the few that we want without one. Each returns what the
 * kernel returns as libc would: -1 and errno. */
#ifndef ORION_BASE_SYS_H
#define ORION_BASE_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 0x1u
#define MFD_ALLOW_SEALING 0x2u
#endif
#define ORION_SEAL_SEAL 0x1
#define ORION_SEAL_SHRINK 0x2
#define ORION_SEAL_GROW 0x4
#define ORION_SEAL_FUTURE_WRITE 0x10

int orion_memfd_create(const char *name, unsigned flags);
int orion_memfd_seal(int fd, int seals);
int orion_memfd_seals(int fd); /* the seals it has */
int orion_pidfd_open(pid_t pid);
pid_t orion_gettid(void);
int orion_random_bytes(void *to, size_t bytes);
/* Size of a file by descriptor, without the stat family; -1 on error. */
int64_t orion_fd_size(int fd);
/* How many names an open file has; -1 on error. */
int orion_fd_links(int fd);
/* Whose a file is; of a link, whose the link is. */
int orion_path_owner(const char *path, uid_t *uid_p);
/* The processor this thread runs on, or -1. */
int orion_cpu_current(void);
/* The beginning of a small file of the kernel's, ended by a 0. false: there is none, or nothing in it. */
bool orion_read_text(const char *path, char *text, size_t bytes);
/* How many threads this process has; 0 = unknown. */
int orion_threads(void);
/* How many processors this process may run on (affinity mask). */
int orion_cpu_usable(void);
/* Lets the scheduler put this thread on another processor now, if there is one. false: there is none. */
int orion_cpu_leave(int cpu);
/* Does its cgroup's CPU quota leave less than one whole processor? Then spinning eats what computing needs. */
int orion_cpu_throttled(void);

#endif
