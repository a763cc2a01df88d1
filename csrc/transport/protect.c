/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a client's stream is encrypted, see protect.h. */
#define _GNU_SOURCE
#include "transport/protect.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "stream/libssl.h"
#include "stream/socket.h"
#include "stream/tls.h"

#define HANDSHAKE_NS (5 * ORION_NS_PER_S)

static bool insecure_allowed(void)
{
    const char *text = getenv("ORION_INSECURE_TCP");
    return text != NULL && strcmp(text, "1") == 0;
}

orion_status_t orion_protection_of(int socket, const char *name, orion_protection_t *p, char *why, size_t why_bytes)
{
    char missing[200] = "";
    const char *mode = getenv("ORION_TLS");
    if (mode == NULL || mode[0] == '\0')
        mode = "auto";
    bool required = strcmp(mode, "required") == 0, off = strcmp(mode, "off") == 0;
    bool local = orion_socket_is_local(socket), has_token = orion_greet_has_token();
    bool plain_allowed = !required && (local || insecure_allowed());
    bool wanted = required || (!off && !local && has_token);
    if (!required && !off && strcmp(mode, "auto") != 0) {
        orion_explain(why, why_bytes, "ORION_TLS=%.32s is not known; unset it, or say auto, off or required", mode);
        return ORION_INVALID;
    }
    if (required && !has_token) {
        orion_explain(why, why_bytes,
                      "ORION_TLS=required needs a token to make its keys of: set ORION_TOKEN=ID.SECRET");
        return ORION_INVALID;
    }
    if (wanted && orion_libssl(missing, sizeof(missing)) == NULL) {
        if (!plain_allowed) {
            orion_explain(why, why_bytes, "what goes to the server at %s cannot be encrypted: %s", name, missing);
            return ORION_INVALID;
        }
        wanted = false;
    }
    if (!wanted && !plain_allowed) {
        orion_explain(why, why_bytes,
                      "the server at %s is not on this host, and data would travel unencrypted: set ORION_TOKEN%s, use "
                      "a tunnel, or set ORION_INSECURE_TCP=1 on a network that you trust",
                      name, off ? " and unset ORION_TLS" : "");
        return ORION_INVALID;
    }
    p->flags = (has_token && !off && missing[0] == '\0' ? ORION_FLAG_TLS : 0) | (wanted ? ORION_FLAG_TLS_WANTED : 0);
    p->plain_allowed = plain_allowed;
    return ORION_OK;
}

orion_status_t orion_protection_stream(const orion_protection_t *p, int socket, const char *name,
                                       const orion_welcome_t *welcome, const orion_greet_key_t *key,
                                       orion_bytestream_t **stream_p, char *why, size_t why_bytes)
{
    char problem[200] = "not enough memory";
    orion_status_t status;
    if ((welcome->flags & ORION_FLAG_TLS) == 0) {
        if (!p->plain_allowed) {
            orion_fd_close(socket);
            orion_explain(why, why_bytes,
                          "the server at %s does not encrypt, so nothing was sent to it: start it without --tls off, "
                          "or see ORION_TLS and ORION_INSECURE_TCP",
                          name);
            return ORION_REFUSED;
        }
        status = orion_bytestream_of_socket(socket, stream_p);
    } else if ((p->flags & ORION_FLAG_TLS) == 0 || !key->proven) {
        orion_fd_close(socket);
        orion_explain(why, why_bytes, "the server at %s begins TLS, for which nobody asked", name);
        return ORION_PROTOCOL;
    } else {
        status = orion_bytestream_of_tls(socket, false, key->key, stream_p, problem, sizeof(problem));
        if (status == ORION_OK) {
            status = orion_tls_handshake(*stream_p, HANDSHAKE_NS, problem, sizeof(problem));
            if (status != ORION_OK)
                orion_bytestream_close(*stream_p);
        }
    }
    if (status != ORION_OK)
        orion_explain(why, why_bytes, "there is no %sstream to the server at %s: %s",
                      welcome->flags & ORION_FLAG_TLS ? "encrypted " : "", name, problem);
    return status;
}
