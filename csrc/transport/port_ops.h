/* SPDX-License-Identifier: Apache-2.0 */
/* The ports that are not shared memory. A port begins with a pointer to one of these tables; the functions of port.h
 * look at it first. NULL means shared memory, whose code follows at once: its path pays for one load. */
#ifndef ORION_TRANSPORT_PORT_OPS_H
#define ORION_TRANSPORT_PORT_OPS_H

#include "transport/port.h"

typedef struct orion_port_ops {
    void (*describe)(const orion_port_t *port, orion_welcome_t *welcome);
    orion_status_t (*next)(orion_port_t *port, int64_t timeout_ns, const orion_record_t **record_p);
    const char *(*complaint)(const orion_port_t *port);
    void (*reply)(orion_port_t *port, uint32_t slot, uint32_t sequence, int32_t result, int32_t sticky,
                  const void *data, uint32_t bytes);
    void *(*stage)(orion_port_t *port, uint32_t index);
    void (*stage_done)(orion_port_t *port, uint32_t index, uint32_t sequence);
    void (*stage_give)(orion_port_t *port, uint32_t index, uint32_t sequence, uint32_t bytes);
    orion_status_t (*event)(orion_port_t *port, const void *data, uint32_t bytes);
    void (*wake)(orion_port_t *port);
    void (*idle)(orion_port_t *port);
    void (*drain)(orion_port_t *port);
    void (*close)(orion_port_t *port);
} orion_port_ops_t;

#endif
