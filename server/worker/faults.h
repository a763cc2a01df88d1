/* SPDX-License-Identifier: Apache-2.0 */
/* Last words of a worker that a signal ends: see faults.c. */
#ifndef ORION_WORKER_FAULTS_H
#define ORION_WORKER_FAULTS_H

#include "worker/control.h"

/* The process's handlers; the line must live as long as the process. */
void orion_faults_install(const orion_control_line_t *line);
/* An alternate stack for the calling thread, so that its own stack's overflow is reported too. */
void orion_faults_thread(void);

/* Between the two, a thread that writes where it may not waits in the handler and then tries again: a mapping is being
 * replaced under running kernels. One caller at a time. */
void orion_faults_hold(void);
void orion_faults_go(void);

#endif
