/* SPDX-License-Identifier: Apache-2.0 */
/* The environment as the client reads it: where the server is and what this process wishes for. */
#ifndef ORION_CLIENT_WISHES_H
#define ORION_CLIENT_WISHES_H

#include <stddef.h>
#include <stdint.h>

#define ORION_DEFAULT_SOCKET "/run/orion/orion.sock"

typedef struct {
    uint64_t gmem_mib;  /* ORION_GMEM; 0: no wish */
    uint32_t vgpu;      /* ORION_VGPU: the number of the vGPU, plus 1; 0: any */
    uint32_t ratio;     /* ORION_RATIO: percent of compute, 1..100; 0: no wish */
    uint32_t transport; /* ORION_TRANSPORT: orion_transport_t; any without it */
} orion_wishes_t;

/* Reads these variables strictly. On a bad one returns 0 and puts a sentence naming it into why. */
int orion_wishes_read(orion_wishes_t *wishes_p, char *why, size_t why_bytes);

/* Picks the server's address: ORION_SERVER, else the socket that the node mounts. NULL with a sentence in why when
 * there is none or it cannot be an address. The result lives in buffer or in the environment. */
const char *orion_server_address(char *buffer, size_t buffer_bytes, char *why, size_t why_bytes);

/* Whether CUDA_VISIBLE_DEVICES leaves device 0, whose UUID is given, visible. */
int orion_device_visible(const char *visible, const unsigned char uuid[16]);

#endif
