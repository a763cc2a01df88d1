/* SPDX-License-Identifier: Apache-2.0 */
/* Reads two strings of a JSON object, see allocation.h. The node's server wrote it; it is bounded all the same. */
#define _GNU_SOURCE
#include "allocation.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define FILE_BYTES 65536

/* The value of a key whose quotes are part of it; values with escapes are none of ours. */
static bool take_string(const char *text, const char *key, char *value, size_t value_bytes)
{
    const char *at = strstr(text, key);
    if (at == NULL)
        return false;
    at += strlen(key);
    at += strspn(at, " \t\r\n");
    if (*at != ':')
        return false;
    at++;
    at += strspn(at, " \t\r\n");
    if (*at != '"')
        return false;
    at++;
    size_t length = strcspn(at, "\"\\");
    if (at[length] != '"' || length == 0 || length >= value_bytes)
        return false;
    memcpy(value, at, length);
    value[length] = '\0';
    return true;
}

bool orion_allocation_parse(const char *text, orion_allocation_t *allocation_p)
{
    orion_allocation_t found;
    if (!take_string(text, "\"endpoint\"", found.endpoint, sizeof found.endpoint) ||
        !take_string(text, "\"token\"", found.token, sizeof found.token))
        return false;
    *allocation_p = found;
    return true;
}

bool orion_allocation_read(const char *path, orion_allocation_t *allocation_p)
{
    static char text[FILE_BYTES]; /* under the lock of cuInit */
    size_t length = 0;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while (length < sizeof text - 1 && (n = read(fd, text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)n;
    orion_fd_close(fd);
    text[length] = '\0';
    return orion_allocation_parse(text, allocation_p);
}
