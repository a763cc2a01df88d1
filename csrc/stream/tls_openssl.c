/* SPDX-License-Identifier: Apache-2.0 */
/* What OpenSSL is told of a stream, and what it calls: it reads from and writes to memory of ours; the system calls are
 * ours, so that none raises SIGPIPE and none waits with the lock. See tls_state.h. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "stream/socket.h"
#include "stream/tls_state.h"

#define READ_AHEAD (8u * ORION_TLS_RECORD)
#define IDENTITY "orion"

void orion_tls_remember(orion_tls_t *t, const char *bytes, uint32_t count)
{
    if (count >= ORION_TLS_TAIL) {
        memcpy(t->tail, bytes + count - ORION_TLS_TAIL, ORION_TLS_TAIL);
        t->tail_bytes = ORION_TLS_TAIL;
        return;
    }
    uint32_t keep = t->tail_bytes + count > ORION_TLS_TAIL ? ORION_TLS_TAIL - count : t->tail_bytes;
    memmove(t->tail, t->tail + t->tail_bytes - keep, keep);
    memcpy(t->tail + keep, bytes, count);
    t->tail_bytes = keep + count;
}

/* The last error of this thread's queue in OpenSSL's words, kept: the queue is emptied before each call. */
orion_status_t orion_tls_fail(orion_tls_t *t)
{
    const char *reason = t->lib->ERR_reason_error_string(t->lib->ERR_peek_error());
    if (t->problem[0] == '\0')
        snprintf(t->problem, sizeof(t->problem), "TLS: %s", reason != NULL ? reason : "it cannot be decrypted");
    t->base.complaint = t->problem;
    return ORION_PROTOCOL;
}

static int bio_read(orion_bio_t *bio, char *to, int bytes)
{
    const orion_libssl_t *lib = orion_libssl(NULL, 0);
    orion_tls_t *t = lib->BIO_get_data(bio);
    struct iovec room = {to, (size_t)bytes};
    size_t n;
    lib->BIO_clear_flags(bio, ORION_BIO_FLAGS_RETRY);
    orion_status_t status = orion_socket_receive(t->base.socket, &room, 1, false, &n);
    if (status == ORION_OK) {
        orion_tls_remember(t, to, (uint32_t)n);
        return (int)n;
    }
    if (status == ORION_AGAIN)
        lib->BIO_set_flags(bio, ORION_BIO_FLAGS_READ | ORION_BIO_FLAGS_SHOULD_RETRY);
    else
        t->ended = true;
    return status == ORION_AGAIN ? -1 : 0;
}

static int bio_write(orion_bio_t *bio, const char *from, int bytes)
{
    const orion_libssl_t *lib = orion_libssl(NULL, 0);
    orion_tls_t *t = lib->BIO_get_data(bio);
    lib->BIO_clear_flags(bio, ORION_BIO_FLAGS_RETRY);
    if (t->out_at == t->out_end)
        t->out_at = t->out_end = 0;
    if ((uint32_t)bytes > ORION_TLS_OUT - t->out_end) { /* many answers to a peer that reads none */
        lib->BIO_set_flags(bio, ORION_BIO_FLAGS_WRITE | ORION_BIO_FLAGS_SHOULD_RETRY);
        return -1;
    }
    memcpy(t->out + t->out_end, from, (size_t)bytes);
    t->out_end += (uint32_t)bytes;
    return bytes;
}

static long bio_ctrl(orion_bio_t *bio, int what, long number, void *argument)
{
    (void)bio, (void)number, (void)argument;
    return what == ORION_BIO_CTRL_FLUSH;
}

static unsigned give_key(const orion_tls_t *t, unsigned char *psk, unsigned psk_most)
{
    if (psk_most < sizeof(t->key))
        return 0;
    memcpy(psk, t->key, sizeof(t->key));
    return sizeof(t->key);
}

static unsigned client_key(orion_ssl_t *ssl, const char *hint, char *identity, unsigned identity_most,
                           unsigned char *psk, unsigned psk_most)
{
    (void)hint;
    if (identity_most < sizeof(IDENTITY))
        return 0;
    memcpy(identity, IDENTITY, sizeof(IDENTITY));
    return give_key(orion_libssl(NULL, 0)->SSL_get_ex_data(ssl, 0), psk, psk_most);
}

static unsigned server_key(orion_ssl_t *ssl, const char *identity, unsigned char *psk, unsigned psk_most)
{
    return strcmp(identity, IDENTITY) == 0 ? give_key(orion_libssl(NULL, 0)->SSL_get_ex_data(ssl, 0), psk, psk_most)
                                           : 0;
}

static bool set_up_context(orion_tls_t *t, bool server)
{
    const orion_libssl_t *lib = t->lib;
    t->ctx = lib->SSL_CTX_new(lib->TLS_method());
    if (t->ctx == NULL ||
        lib->SSL_CTX_ctrl(t->ctx, ORION_SSL_CTRL_SET_MIN_PROTO_VERSION, ORION_TLS1_3_VERSION, NULL) != 1 ||
        lib->SSL_CTX_set_ciphersuites(t->ctx, "TLS_AES_128_GCM_SHA256") != 1 ||
        lib->SSL_CTX_set_num_tickets(t->ctx, 0) != 1)
        return false;
    (void)lib->SSL_CTX_ctrl(t->ctx, ORION_SSL_CTRL_SET_READ_AHEAD, 1, NULL);
    lib->SSL_CTX_set_default_read_buffer_len(t->ctx, READ_AHEAD);
    if (server) {
        lib->SSL_CTX_set_psk_server_callback(t->ctx, server_key);
    } else {
        lib->SSL_CTX_set_psk_client_callback(t->ctx, client_key);
        lib->SSL_CTX_set_verify(t->ctx, ORION_SSL_VERIFY_PEER, NULL); /* no certificate is good enough */
    }
    return true;
}

static bool set_up_session(orion_tls_t *t, bool server)
{
    const orion_libssl_t *lib = t->lib;
    t->method = lib->BIO_meth_new(ORION_BIO_TYPE_SOURCE_SINK, "orion");
    if (t->method == NULL || lib->BIO_meth_set_read(t->method, bio_read) != 1 ||
        lib->BIO_meth_set_write(t->method, bio_write) != 1 || lib->BIO_meth_set_ctrl(t->method, bio_ctrl) != 1)
        return false;
    orion_bio_t *bio = lib->BIO_new(t->method);
    t->ssl = bio != NULL ? lib->SSL_new(t->ctx) : NULL;
    if (t->ssl == NULL) {
        (void)lib->BIO_free(bio);
        return false;
    }
    lib->BIO_set_data(bio, t);
    lib->BIO_set_init(bio, 1);
    lib->SSL_set_bio(t->ssl, bio, bio);
    (server ? lib->SSL_set_accept_state : lib->SSL_set_connect_state)(t->ssl);
    return lib->SSL_set_ex_data(t->ssl, 0, t) == 1;
}

bool orion_tls_set_up(orion_tls_t *t, bool server)
{
    return set_up_context(t, server) && set_up_session(t, server);
}
