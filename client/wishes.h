/* SPDX-License-Identifier: Apache-2.0 */
/* Where the server is and what this process wishes for, by its settings (settings.h). */
#ifndef ORION_CLIENT_WISHES_H
#define ORION_CLIENT_WISHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORION_DEFAULT_SOCKET "/run/orion/orion.sock"

typedef struct {
    uint64_t gmem_mib;  /* ORION_GMEM; 0: no wish */
    uint32_t vgpu;      /* ORION_VGPU: how many vGPUs; 0: no wish, which is one */
    uint32_t ratio;     /* ORION_RATIO: percent of compute, 1..100; 0: no wish */
    uint32_t transport; /* ORION_TRANSPORT: orion_transport_t; any without it */
    bool cross_node;    /* ORION_CROSS_NODE: they may come from several servers */
    int64_t wait;       /* ORION_WAIT: seconds in a controller's queue; < 0: no limit */
} orion_wishes_t;

/* Reads these variables strictly. On a bad one returns 0 and puts a sentence naming it into why. */
int orion_wishes_read(orion_wishes_t *wishes_p, char *why, size_t why_bytes);

/* Picks the server's address: ORION_SERVER, else the socket that the node mounts, else ORION_CONTROLLER, whose address
 * it is then that is returned (*is_controller_p). NULL with a sentence in why when there is none or it cannot be an
 * address. The result lives in buffer or in the settings. */
const char *orion_server_address(char *buffer, size_t buffer_bytes, bool *is_controller_p, char *why, size_t why_bytes);

/* Whether CUDA_VISIBLE_DEVICES leaves device 0, whose UUID is given, visible. */
int orion_device_visible(const char *visible, const unsigned char uuid[16]);

#endif
