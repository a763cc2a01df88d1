/* SPDX-License-Identifier: Apache-2.0 */
/* The beginning of every session with a server: a connection, hello, welcome. */
#ifndef ORION_TRANSPORT_GREET_H
#define ORION_TRANSPORT_GREET_H

#include <stddef.h>

#include "base/status.h"
#include "wire/hello.h"

/* A connected socket to "unix:PATH" or "HOST:PORT", or -1 with a sentence. */
int orion_greet_connect(const char *address, char *why, size_t why_bytes);

/* Says hello and waits for the welcome, as long as the server asks to. *welcome_p is checked on success, and holds the
 * server's answer on ORION_REFUSED. fds: what came with it, or -1; the caller's to close also on failure. */
orion_status_t orion_greet(int socket, const char *name, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                           int fds[2], char *why, size_t why_bytes);

#endif
