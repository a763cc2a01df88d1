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
#include "stream/libucp.h"
#include "stream/socket.h"
#include "stream/tls.h"
#include "stream/ucx.h"

#define HANDSHAKE_NS (5 * ORION_NS_PER_S)
#define MEET_NS (10 * ORION_NS_PER_S)

static bool insecure_allowed(void)
{
    const char *text = getenv("ORION_INSECURE_TCP");
    return text != NULL && strcmp(text, "1") == 0;
}

/* UCX does not encrypt. */
static orion_status_t ucx_protection(bool required, bool plain_allowed, const char *name, orion_protection_t *p,
                                     char *why, size_t why_bytes)
{
    char missing[256];
    if (required) {
        orion_explain(why, why_bytes,
                      "transport ucx does not encrypt, and ORION_TLS=required: use ORION_TRANSPORT=tcp, or unset it");
    } else if (!plain_allowed) {
        orion_explain(why, why_bytes,
                      "the server at %s is not on this host, and transport ucx does not encrypt: set "
                      "ORION_INSECURE_TCP=1 on a network that you trust, or use ORION_TRANSPORT=tcp",
                      name);
    } else if (orion_libucp(missing, sizeof(missing)) == NULL) {
        orion_explain(why, why_bytes, "transport ucx cannot be had: %s", missing);
    } else {
        *p = (orion_protection_t){.plain_allowed = true, .ucx = true};
        return ORION_OK;
    }
    return ORION_INVALID;
}

static orion_status_t open_ucx(int socket, const orion_greet_key_t *key, orion_bytestream_t **stream_p, char *why,
                               size_t why_bytes)
{
    orion_bytestream_t *stream = NULL;
    orion_status_t status = orion_bytestream_of_ucx(socket, false, key->proven ? key->key : NULL, &stream, why,
                                                    why_bytes);
    if (status == ORION_OK)
        status = orion_ucx_meet(stream, MEET_NS, why, why_bytes);
    if (status == ORION_OK)
        *stream_p = stream;
    else
        orion_bytestream_close(stream);
    return status;
}

static orion_status_t open_tls(int socket, const orion_greet_key_t *key, orion_bytestream_t **stream_p, char *why,
                               size_t why_bytes)
{
    orion_bytestream_t *stream = NULL;
    orion_status_t status = orion_bytestream_of_tls(socket, false, key->key, &stream, why, why_bytes);
    if (status == ORION_OK)
        status = orion_tls_handshake(stream, HANDSHAKE_NS, why, why_bytes);
    if (status == ORION_OK)
        *stream_p = stream;
    else
        orion_bytestream_close(stream);
    return status;
}

orion_status_t orion_protection_of(int socket, const char *name, bool ucx, orion_protection_t *p, char *why,
                                   size_t why_bytes)
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
    if (ucx)
        return ucx_protection(required, plain_allowed, name, p, why, why_bytes);
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
    *p = (orion_protection_t){.plain_allowed = plain_allowed};
    p->flags = (has_token && !off && missing[0] == '\0' ? ORION_FLAG_TLS : 0) | (wanted ? ORION_FLAG_TLS_WANTED : 0);
    return ORION_OK;
}

orion_status_t orion_protection_stream(const orion_protection_t *p, int socket, const char *name,
                                       const orion_welcome_t *welcome, const orion_greet_key_t *key,
                                       orion_bytestream_t **stream_p, char *why, size_t why_bytes)
{
    char problem[256] = "not enough memory";
    orion_status_t status;
    if (p->ucx) {
        status = open_ucx(socket, key, stream_p, problem, sizeof(problem));
    } else if ((welcome->flags & ORION_FLAG_TLS) == 0) {
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
        status = open_tls(socket, key, stream_p, problem, sizeof(problem));
    }
    if (status != ORION_OK)
        orion_explain(why, why_bytes, "there is no stream over %s to the server at %s: %s",
                      p->ucx                            ? "UCX"
                      : welcome->flags & ORION_FLAG_TLS ? "TLS"
                                                        : "tcp",
                      name, problem);
    return status;
}
