/* SPDX-License-Identifier: Apache-2.0 */
/* The one result type of the C core. Outputs of a function are written only when it returns ORION_OK. */
#ifndef ORION_STATUS_H
#define ORION_STATUS_H

typedef enum orion_status {
    ORION_OK = 0,
    ORION_AGAIN,     /* nothing yet (a timeout that the caller asked for, a full event ring): try later */
    ORION_TIMEOUT,   /* the other side is alive and did not answer in time */
    ORION_PEER_GONE, /* the other side died or closed the session */
    ORION_PROTOCOL,  /* the other side wrote something that no correct peer writes */
    ORION_NO_MEMORY,
    ORION_INVALID, /* the caller's argument or state is wrong (includes: used in a forked child) */
    ORION_SYSTEM,  /* a system call failed; the reason is in the text that came with it */
    ORION_REFUSED, /* the other side answered, and said no */
    ORION_VERSION, /* the two sides speak different protocol versions */
    ORION_TOO_BIG  /* larger than the format allows */
} orion_status_t;

const char *orion_status_name(orion_status_t status);

#endif
