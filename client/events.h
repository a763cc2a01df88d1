/* SPDX-License-Identifier: Apache-2.0 */
/* What the server tells on its own: host functions to run, text that kernels print. */
#ifndef ORION_CLIENT_EVENTS_H
#define ORION_CLIENT_EVENTS_H

#include "session.h"

typedef void (*orion_host_fn)(void *argument, CUresult status);

/* Registers a function that the event thread calls when the server sends its cookie; starts the thread. */
CUresult orion_events_expect(orion_session_t *session, orion_host_fn function, void *argument, uint64_t *cookie_p);
void orion_events_forget(uint64_t cookie); /* the record was not sent after all */
/* Starts the event thread: a kernel was found that prints. */
CUresult orion_events_start(orion_session_t *session);
/* Serves what has arrived, without waiting; called after synchronising, so that printed text is out by then. */
void orion_events_drain(orion_session_t *session);

#endif
