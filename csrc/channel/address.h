/* SPDX-License-Identifier: Apache-2.0 */
/* What an address says: "name", "shm://name", "/path", "shm:///path", "tcp://host:port", "ucx://host:port". */
#ifndef ORION_CHANNEL_ADDRESS_H
#define ORION_CHANNEL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/status.h"

typedef enum orion_scheme { ORION_SCHEME_SHM = 0, ORION_SCHEME_TCP, ORION_SCHEME_UCX } orion_scheme_t;

typedef struct orion_address {
    char text[256]; /* for messages */
    orion_scheme_t scheme;
    /* shm */
    bool file; /* the socket is a file, to be removed by whoever made it */
    struct sockaddr_un socket;
    socklen_t socket_bytes;
    /* tcp, ucx */
    char host[128]; /* a name or number, without brackets; 127.0.0.1 where none was given */
    char port[8];   /* digits */
} orion_address_t;

orion_status_t orion_address_parse(const char *text, orion_address_t *address_p, char *why, size_t why_bytes);

#endif
