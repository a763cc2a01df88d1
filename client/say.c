/* SPDX-License-Identifier: Apache-2.0 */
/* Writes whole lines with one write(2), so that lines of several threads and processes do not mix. */
#include "say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_line(const char *format, va_list arguments)
{
    char line[1024];
    int saved = errno;
    int length = snprintf(line, sizeof line, "orion: ");
    int more = vsnprintf(line + length, sizeof line - (size_t)length - 1, format, arguments);
    if (more > 0)
        length += more;
    if (length > (int)sizeof line - 2)
        length = (int)sizeof line - 2;
    line[length++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)length) < 0) { /* nowhere left to complain */
    }
    errno = saved;
}

void orion_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line(format, arguments);
    va_end(arguments);
}

int orion_debug_wanted(void)
{
    static int wanted = -1; /* racing threads compute the same value */
    if (wanted < 0) {
        const char *level = getenv("ORION_LOG");
        wanted = level && (!strcmp(level, "debug") || !strcmp(level, "trace"));
    }
    return wanted;
}

void orion_debug(const char *format, ...)
{
    if (!orion_debug_wanted())
        return;
    va_list arguments;
    va_start(arguments, format);
    write_line(format, arguments);
    va_end(arguments);
}
