/* SPDX-License-Identifier: Apache-2.0 */
/* See address.h. A name is an abstract socket of this user: nothing lies on disk, nothing is left behind, and another
 * user who takes it first is found out by its uid. */
#include "channel/address.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

orion_status_t orion_address_parse(const char *text, orion_address_t *address_p, char *why, size_t why_bytes)
{
    orion_address_t a = {.socket.sun_family = AF_UNIX};
    size_t length = text == NULL ? 0 : strlen(text);
    if (length == 0 || length >= sizeof(a.text)) {
        orion_explain(why, why_bytes, "an address is 1 to %zu characters: a name, shm://name, /path or tcp://host:port",
                      sizeof(a.text) - 1);
        return ORION_INVALID;
    }
    memcpy(a.text, text, length + 1);
    const char *name = a.text, *scheme = strstr(a.text, "://");
    if (scheme != NULL) {
        size_t n = (size_t)(scheme - a.text);
        name = scheme + 3;
        if (n != 3 || memcmp(a.text, "shm", 3) != 0) {
            orion_explain(why, why_bytes, "%s: unknown scheme; there is shm:// (one host)", a.text);
            return ORION_INVALID;
        }
    }
    a.file = name[0] == '/' || (name[0] == '.' && strchr(name, '/') != NULL);
    char path[300];
    int n = a.file ? snprintf(path, sizeof(path), "%s", name)
                   : snprintf(path, sizeof(path), "orion-shm/%u/%s", (unsigned)geteuid(), name);
    if (n <= 0 || (size_t)n >= sizeof(a.socket.sun_path) - 1 || name[0] == '\0') {
        orion_explain(why, why_bytes, "%s: the name is empty, or too long for a unix socket (%zu characters)", a.text,
                      sizeof(a.socket.sun_path) - 1);
        return ORION_INVALID;
    }
    if (!a.file && strchr(name, '/') != NULL) {
        orion_explain(why, why_bytes, "%s: a name has no slash; a path begins with one", a.text);
        return ORION_INVALID;
    }
    /* an abstract socket's name begins with a NUL */
    memcpy(a.socket.sun_path + (a.file ? 0 : 1), path, (size_t)n);
    a.socket_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    *address_p = a;
    return ORION_OK;
}
