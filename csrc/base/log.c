/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines and failure sentences, see log.h. A line goes out with one write, so lines of several threads and
 * processes do not mix. */
#define _GNU_SOURCE
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"

static int level_now = -1; /* read once; a race reads the environment twice, with the same result */

static orion_log_level_t level_from_environment(void)
{
    const char *text = getenv("ORION_LOG");
    if (text == NULL)
        return ORION_LOG_INFO;
    if (strcmp(text, "off") == 0)
        return ORION_LOG_OFF;
    if (strcmp(text, "error") == 0)
        return ORION_LOG_ERROR;
    if (strcmp(text, "debug") == 0)
        return ORION_LOG_DEBUG;
    return ORION_LOG_INFO;
}

bool orion_log_enabled(orion_log_level_t level)
{
    int now = orion_load_relaxed(&level_now);
    if (now < 0) {
        now = (int)level_from_environment();
        orion_store_relaxed(&level_now, now);
    }
    return (int)level <= now;
}

void orion_log(orion_log_level_t level, const char *format, ...)
{
    static const char prefix[] = "orion: ";
    char line[512];
    if (!orion_log_enabled(level))
        return;
    int saved = errno;
    memcpy(line, prefix, sizeof(prefix));
    va_list args;
    va_start(args, format);
    size_t room = sizeof(line) - sizeof(prefix); /* one byte less than what is left: the newline */
    int n = vsnprintf(line + sizeof(prefix) - 1, room, format, args);
    va_end(args);
    size_t length = sizeof(prefix) - 1 + (n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1);
    line[length++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, length);
    (void)ignored;
    errno = saved;
}

void orion_explain(char *why, size_t why_bytes, const char *format, ...)
{
    if (why == NULL || why_bytes == 0)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, why_bytes, format, args);
    va_end(args);
}

void orion_explain_errno(char *why, size_t why_bytes, int error, const char *format, ...)
{
    char text[128];
    if (why == NULL || why_bytes == 0)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, why_bytes, format, args);
    va_end(args);
    size_t used = strlen(why);
    const char *name = strerror_r(error, text, sizeof(text)); /* the GNU one: may return a constant instead */
    (void)snprintf(why + used, why_bytes - used, ": %s", name);
}

void orion_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}
