/* SPDX-License-Identifier: Apache-2.0 */
/* The in-process twin: the worker is a library of this process. For tests, for benchmarks of everything but the
 * process boundary, and for debugging with one debugger. */
#ifndef ORION_TRANSPORT_LOCAL_H
#define ORION_TRANSPORT_LOCAL_H

#include "transport/link.h"

/* address: "local:LIBRARY?options". */
orion_status_t orion_local_open(const char *address, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                                orion_link_t **link_p, char *why, size_t why_bytes);

#endif
