/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of the CPU device: blocks handed out to the pool's threads. */
#ifndef ORION_CPU_LAUNCH_H
#define ORION_CPU_LAUNCH_H

#include "../host.h"

CUresult orion_cpu_launch(orion_device_t *device, orion_stream_t *stream, const orion_launch_t *launch,
                          orion_done_fn done, void *arg);

/* The name of the kernel that the calling thread runs now, or NULL. Safe in a signal handler. */
const char *orion_cpu_running_kernel(void);

#endif
