/* SPDX-License-Identifier: Apache-2.0 */
/* See address.h. A name is an abstract socket of this user: nothing lies on disk, nothing is left behind, and another
 * user who takes it first is found out by its uid. */
#include "channel/address.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"

/* "host:port", "[v6]:port", ":port" */
static orion_status_t parse_endpoint(const char *endpoint, orion_address_t *a, char *why, size_t why_bytes)
{
    const char *colon = strrchr(endpoint, ':'), *host = endpoint;
    size_t length = colon != NULL ? (size_t)(colon - endpoint) : 0;
    uint64_t port = 0;
    if (colon == NULL || !orion_parse_u64(colon + 1, &port) || port > 65535) {
        orion_explain(why, why_bytes, "%s: the port is missing; an address is HOST:PORT, with a port from 0 to 65535",
                      a->text);
        return ORION_INVALID;
    }
    bool brackets = length >= 2 && host[0] == '[' && host[length - 1] == ']';
    if (brackets) {
        host++;
        length -= 2;
    }
    if (length >= sizeof(a->host) || (!brackets && memchr(host, ':', length) != NULL) ||
        memchr(host, '/', length) != NULL) {
        orion_explain(why, why_bytes, "%s: this is no host; a name, 10.0.0.1, or [::1] with its brackets", a->text);
        return ORION_INVALID;
    }
    (void)snprintf(a->host, sizeof(a->host), "%.*s", (int)length, length > 0 ? host : "");
    if (length == 0)
        (void)snprintf(a->host, sizeof(a->host), "127.0.0.1");
    (void)snprintf(a->port, sizeof(a->port), "%u", (unsigned)port);
    return ORION_OK;
}

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
        bool known = n == 3 && memcmp(a.text, "shm", 3) == 0;
        name = scheme + 3;
        if (n == 3 && memcmp(a.text, "tcp", 3) == 0)
            a.scheme = ORION_SCHEME_TCP;
        else if (n == 3 && memcmp(a.text, "ucx", 3) == 0)
            a.scheme = ORION_SCHEME_UCX;
        if (!known && a.scheme == ORION_SCHEME_SHM) {
            orion_explain(why, why_bytes, "%s: unknown scheme; there are shm:// (one host), tcp:// and ucx://", a.text);
            return ORION_INVALID;
        }
        if (!known) {
            orion_status_t status = parse_endpoint(name, &a, why, why_bytes);
            if (status == ORION_OK)
                *address_p = a;
            return status;
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
