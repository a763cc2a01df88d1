/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream over TLS as tls.c (its operations) and tls_openssl.c (what OpenSSL is told, and what it calls) share
 * it. */
#ifndef ORION_STREAM_TLS_STATE_H
#define ORION_STREAM_TLS_STATE_H

#include <pthread.h>

#include "stream/libssl.h"
#include "stream/tls.h"

#define ORION_TLS_RECORD 16384u                    /* the longest plaintext of a TLS record */
#define ORION_TLS_OUT_HIGH (8u * ORION_TLS_RECORD) /* what is encrypted for one system call */
#define ORION_TLS_OUT (10u * ORION_TLS_RECORD)     /* and a record beyond it with its header, or a handshake's answer */
#define ORION_TLS_TAIL 512u                        /* of what came last, for last_words */

typedef struct orion_tls {
    orion_bytestream_t base; /* first */
    const orion_libssl_t *lib;
    orion_ssl_ctx_t *ctx;
    orion_ssl_t *ssl;
    orion_bio_method_t *method;
    uint8_t key[ORION_TLS_KEY_BYTES];
    pthread_mutex_t lock; /* of all below and of everything in ssl, which is for one thread at a time */
    bool drained;         /* the last read took all that has come: there is nothing to do before more comes */
    bool ended;           /* the socket has */
    bool checked;         /* the handshake is done and was by the key */
    bool send_reads;      /* a send has to wait for bytes from the other end */
    char problem[160];
    size_t promised;      /* bytes that were offered and are encrypted in out */
    uint64_t since_rekey; /* bytes */
    uint32_t out_at, out_end;
    uint32_t tail_bytes;
    uint8_t tail[ORION_TLS_TAIL];
    uint8_t gather[ORION_TLS_RECORD];
    uint8_t out[ORION_TLS_OUT];
} orion_tls_t;

/* tls_openssl.c */
bool orion_tls_set_up(orion_tls_t *t, bool server);
/* ORION_PROTOCOL, and the last error of this thread in OpenSSL's words as the stream's complaint. */
orion_status_t orion_tls_fail(orion_tls_t *t);
/* Keeps what came last from the socket. */
void orion_tls_remember(orion_tls_t *t, const char *bytes, uint32_t count);

#endif
