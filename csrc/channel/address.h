/* SPDX-License-Identifier: Apache-2.0 */
/* What an address says: "name", "shm://name", "/path", "shm:///path", "tcp://host:port", "ucx://host:port". */
#ifndef ORION_CHANNEL_ADDRESS_H
#define ORION_CHANNEL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/status.h"

typedef struct orion_address {
    char text[256]; /* for messages */
    bool file;      /* the socket is a file, to be removed by whoever made it */
    struct sockaddr_un socket;
    socklen_t socket_bytes;
} orion_address_t;

orion_status_t orion_address_parse(const char *text, orion_address_t *address_p, char *why, size_t why_bytes);

#endif
