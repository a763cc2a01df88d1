/* SPDX-License-Identifier: Apache-2.0 */
/* One sentence a line on stderr, prefixed "orion: ". ORION_LOG = off | error | info (default) | debug. Whoever first
 * knows an error logs it; others pass it on. Nothing on the path of a small call logs. */
#ifndef ORION_BASE_LOG_H
#define ORION_BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum orion_log_level { ORION_LOG_OFF = 0, ORION_LOG_ERROR, ORION_LOG_INFO, ORION_LOG_DEBUG } orion_log_level_t;

bool orion_log_enabled(orion_log_level_t level);
void orion_log(orion_log_level_t level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes one sentence into `why` (NULL or 0 bytes: nowhere), always terminated. */
void orion_explain(char *why, size_t why_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same with ": " and the text of an errno value at its end. */
void orion_explain_errno(char *why, size_t why_bytes, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Another process's text, terminated, before it goes to a terminal or a log: '?' for what is not printable ASCII. */
void orion_printable(char *text);

#endif
