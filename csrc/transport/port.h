/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's end of a session. Everything the client can write is hostile: indices are private copies, a record is
 * copied once into private memory and checked there, lengths and offsets are bounded, nothing is a pointer.
 *
 * Threads: orion_port_next by the worker's loop alone; reply, stage, stage_done, event and wake from any thread, one
 * thread per reply slot at a time. */
#ifndef ORION_TRANSPORT_PORT_H
#define ORION_TRANSPORT_PORT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "wire/hello.h"
#include "wire/record.h"

typedef struct orion_port orion_port_t;

typedef enum orion_port_stream { ORION_PORT_PLAIN = 0, ORION_PORT_TLS, ORION_PORT_UCX } orion_port_stream_t;

typedef struct orion_port_config {
    uint32_t epoch;               /* of the session; goes into the welcome */
    uint32_t flags;               /* hello flags of the client; the port keeps those it can do as well */
    uint64_t nonce;               /* 0 = draw one */
    int witness_fd;               /* hung up when nobody supervises this worker any more; -1 = none. Not owned */
    int devshm;                   /* != 0: two files in /dev/shm instead of memfds */
    uint32_t owner_uid;           /* /dev/shm mode and we are root: whose the files shall be */
    const char *devshm_directory; /* NULL = /dev/shm */
    orion_port_stream_t stream;   /* a session on a stream: which */
    const uint8_t *key;           /* its ORION_KEY_BYTES: TLS needs one, UCX takes one; NULL = none */
} orion_port_config_t;

/* Creates, seals, maps and populates both segments. why: one sentence on failure. */
orion_status_t orion_port_create(const orion_port_config_t *config, orion_port_t **port_p, char *why, size_t why_bytes);

/* On segments that exist in this process already (the twin). They must be zeroed, and outlive the port. */
orion_status_t orion_port_attach(const orion_port_config_t *config, void *command, void *reply, orion_port_t **port_p,
                                 char *why, size_t why_bytes);

/* The two descriptors for the welcome; -1 in /dev/shm mode and after orion_port_close_fds. The port owns them. */
void orion_port_fds(const orion_port_t *port, int *command_fd_p, int *reply_fd_p);
void orion_port_close_fds(orion_port_t *port);
/* Fills in epoch, flags, nonce, slots, worker_pid and the file names; the rest is the caller's. */
void orion_port_describe(const orion_port_t *port, orion_welcome_t *welcome);
/* /dev/shm mode: ORION_OK once the client has written the nonce back; unlinks the files then. AGAIN before. */
orion_status_t orion_port_prove(orion_port_t *port);

/* The next record as a private, checked copy, valid until the next call. timeout_ns < 0: no limit.
 * ORION_AGAIN: timeout, or orion_port_wake. ORION_PROTOCOL: the client broke the rules; *why_p (may be NULL) says how.
 * ORION_PEER_GONE: the witness hung up. */
orion_status_t orion_port_next(orion_port_t *port, int64_t timeout_ns, const orion_record_t **record_p);
const char *orion_port_complaint(const orion_port_t *port); /* what ORION_PROTOCOL was about; one sentence */

/* Answers a call. A slot beyond the table (or ORION_SLOT_NONE) and bytes beyond the slot are dropped and cut: both
 * were bounded when the record was read, so this is a second belt. */
void orion_port_reply(orion_port_t *port, uint32_t slot, uint32_t sequence, int32_t result, int32_t sticky,
                      const void *data, uint32_t bytes);

/* Chunk `index`, or NULL beyond the table. The client can write it at any time: copy first, then parse. */
void *orion_port_stage(orion_port_t *port, uint32_t index);
void orion_port_stage_done(orion_port_t *port, uint32_t index, uint32_t sequence);
/* The same for a chunk that has been filled for the client, with the `bytes` that it wants. */
void orion_port_stage_give(orion_port_t *port, uint32_t index, uint32_t sequence, uint32_t bytes);

/* Sends an event; never blocks. ORION_AGAIN: the ring is full. ORION_TOO_BIG: beyond ORION_EVENT_MAX. */
#define ORION_EVENT_MAX 4096u
orion_status_t orion_port_event(orion_port_t *port, const void *data, uint32_t bytes);

/* Makes the current or next orion_port_next return ORION_AGAIN soon. */
void orion_port_wake(orion_port_t *port);

/* The loop has not called orion_port_next for a while, on purpose: answers go out and the client hears that we live. */
void orion_port_idle(orion_port_t *port);

/* Before a worker exits: what it has said last goes out, within a second. */
void orion_port_drain(orion_port_t *port);

void orion_port_close(orion_port_t *port);

/* For the supervisor, which maps the reply segment read-only: wakes every client thread of a dead worker's session so
 * that each probes its socket at once. */
orion_status_t orion_reply_segment_wake_all(int reply_fd);

#endif
