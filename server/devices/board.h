/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events of which several processes know. Each has a page of its own, the board, on which whoever records the event
 * says how many records it has made and which of them have happened; nobody reads more of it than that. A bell, one for
 * all processes of a user, wakes those who wait. Both are memory that the other side can overwrite: what is read there
 * decides when somebody goes on, and nothing else.
 */
#ifndef ORION_DEVICES_BOARD_H
#define ORION_DEVICES_BOARD_H

#include "queue.h"

#define ORION_BOARD_BYTES 16384u
#define ORION_BOARD_PARTIES 63u
#define ORION_BOARD_SLOTS 31u

/* A record: the party that made it, in the upper 8 bits, and its number there, from 1. 0: there was none yet. */
#define ORION_RECORD_PARTY 56

typedef struct orion_board_party {
    uint64_t gone_below;              /* written by the supervisor: earlier records will not be reported any more */
    uint64_t done[ORION_BOARD_SLOTS]; /* [n % slots]: number of the latest record there that has happened */
} orion_board_party_t;

typedef struct orion_board_page {
    uint64_t latest; /* record */
    uint64_t reserved[31];
    orion_board_party_t party[ORION_BOARD_PARTIES];
} orion_board_page_t;

_Static_assert(sizeof(orion_board_party_t) == 256, "orion_server/ipc.py writes gone_below");
_Static_assert(sizeof(orion_board_page_t) == ORION_BOARD_BYTES, "orion_server/ipc.py makes it");

typedef struct orion_bell {
    uint32_t count; /* futex word */
    uint32_t listeners;
} orion_bell_t;

#define ORION_BELL_BYTES 4096u

/* What a process has of a shared event; its references are counted under the queue's lock. */
typedef struct orion_board {
    orion_board_page_t *page;
    orion_bell_t *bell;
    orion_broker_t broker;
    uint64_t id;
    uint32_t party;
    uint64_t last; /* number of our latest record */
    uint32_t refs; /* the event's, and one for each record of ours that has not happened */
    orion_ipc_handle_t handle;
} orion_board_t;

/* Takes the descriptor. NULL: no memory. */
orion_board_t *orion_board_new(const orion_broker_t *broker, const orion_shared_t *shared, int fd);

/* --- with the queue's lock held --- */
void orion_board_unref(orion_board_t *board);
/* Makes the mark the board's latest record. */
void orion_board_record(orion_board_t *board, orion_op_t *mark);
/* The mark has happened: tells the others. */
void orion_board_publish(orion_op_t *mark);
/* Whether a record has happened, whoever made it. */
int orion_board_happened(const orion_board_t *board, uint64_t record);
/* If another process has recorded the event since, its mark is one for that record. OUT_OF_MEMORY. */
CUresult orion_board_refresh(orion_queue_t *queue, orion_event_t *event);
/* Whoever waits for records of other processes goes on: the queue is being emptied. */
void orion_board_abandon(orion_queue_t *queue);

/* --- without the lock --- */
void orion_board_stop(orion_queue_t *queue); /* ends the thread that listens */

CUresult orion_event_share(orion_queue_t *queue, const orion_broker_t *broker, orion_event_t *event,
                           orion_ipc_handle_t *handle_p);
CUresult orion_event_open(orion_queue_t *queue, const orion_broker_t *broker, const orion_ipc_handle_t *handle,
                          orion_event_t **event_p);

#endif
