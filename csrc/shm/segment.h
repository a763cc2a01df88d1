/* SPDX-License-Identifier: Apache-2.0 */
/* Shared segments: sealed memfds, or files in /dev/shm where descriptors cannot be passed. The worker creates both
 * segments of a session, the client maps them. A shortage of memory is an error here, not a SIGBUS later. */
#ifndef ORION_SHM_SEGMENT_H
#define ORION_SHM_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "shm/layout.h"

#define ORION_DEVSHM_DIRECTORY "/dev/shm"
#define ORION_SEGMENT_NAME_BYTES 64

typedef struct orion_segment {
    void *address; /* NULL = nothing mapped */
    size_t bytes;
    int fd;                              /* -1 = none */
    char name[ORION_SEGMENT_NAME_BYTES]; /* /dev/shm mode until unlinked; else "" */
} orion_segment_t;

#define ORION_SEGMENT_EMPTY {NULL, 0, -1, ""}

/* A memfd of that size with its pages allocated, sealed against shrinking and growing; the seals can still grow.
 * Also what arena extents are made of. -1 and a sentence on failure. */
int orion_memfd_sized(const char *label, size_t bytes, char *why, size_t why_bytes);

/* Server side: creates, maps for writing and faults in. seal_against_peer: nobody but this mapping may ever write
 * (F_SEAL_FUTURE_WRITE, Linux 5.1; without it the client could scribble over its own answers, nothing more). */
orion_status_t orion_segment_create(orion_segment_t *segment, const char *label, size_t bytes, bool seal_against_peer,
                                    char *why, size_t why_bytes);
/* The same as a file with a random name, mode 0600, given to owner_uid if we may. The file has its name when it is
 * complete, and a shared flock for as long as this mapping is there: one without is of a creator that has died. */
orion_status_t orion_segment_create_devshm(orion_segment_t *segment, const char *directory, size_t bytes,
                                           uint32_t owner_uid, char *why, size_t why_bytes);
void orion_segment_unlink(orion_segment_t *segment, const char *directory);

/* Client side: takes over the descriptor (also on failure), checks size and seals, maps and faults in. */
orion_status_t orion_segment_map(orion_segment_t *segment, int fd, size_t bytes, bool writable, char *why,
                                 size_t why_bytes);
orion_status_t orion_segment_open_devshm(orion_segment_t *segment, const char *directory, const char *name,
                                         size_t bytes, bool writable, char *why, size_t why_bytes);

/* Unmaps and closes; safe on an empty or half-built one. */
void orion_segment_close(orion_segment_t *segment);
void orion_segment_close_fd(orion_segment_t *segment);

/* Creates the page-table entries on this side (page tables are per process: an unfaulted page costs a fault on the
 * first call that touches it). false: the memory is not there. */
bool orion_pages_populate(void *address, size_t bytes, bool writable);

/* Is there room for `bytes` more of shared memory, on this machine and in this memory cgroup? Unknown counts as yes. */
bool orion_memory_available(uint64_t bytes);

void orion_segment_header_fill(orion_segment_header_t *header, uint64_t magic, uint32_t epoch, uint64_t bytes,
                               uint64_t nonce);
/* One read of each field. false: not what a server of our version wrote. */
bool orion_segment_header_matches(const orion_segment_header_t *header, uint64_t magic, uint32_t epoch, uint64_t bytes,
                                  uint64_t nonce);

#endif
