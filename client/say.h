/* SPDX-License-Identifier: Apache-2.0 */
/* What the library tells the user on stderr: one line each, prefixed "orion: ". ORION_LOG=debug shows more. */
#ifndef ORION_CLIENT_SAY_H
#define ORION_CLIENT_SAY_H

void orion_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Only with ORION_LOG=debug. */
void orion_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
int orion_debug_wanted(void);

#endif
