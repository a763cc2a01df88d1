/* SPDX-License-Identifier: Apache-2.0 */
/* How a worker's device finds memory and events of other workers: it asks the supervisor, which knows who may. */
#ifndef ORION_WORKER_BROKER_H
#define ORION_WORKER_BROKER_H

#include "devices/device.h"
#include "worker/control.h"

/* Functions of the line, which has to live as long as the device; all NULL for a twin, which has no line. */
orion_broker_t orion_broker_of(orion_control_line_t *line);

#endif
