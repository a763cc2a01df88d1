/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over a socket, see tls.h. OpenSSL reads from and writes to memory of ours; the system calls are ours, so that
 * none raises SIGPIPE and none waits with the lock. What it has encrypted goes out before its bytes count as sent. */
#define _GNU_SOURCE
#include "stream/tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sha256.h"
#include "stream/libssl.h"
#include "stream/socket.h"

#define RECORD_BYTES 16384u                      /* the longest plaintext of a TLS record */
#define OUT_HIGH (8u * RECORD_BYTES)             /* what is encrypted for one system call */
#define OUT_BYTES (OUT_HIGH + 2u * RECORD_BYTES) /* and a record beyond it, with its header, or a handshake's answer */
#define READ_AHEAD (8u * RECORD_BYTES)
#define TAIL_BYTES 512u         /* of what came last, for last_words */
#define REKEY_BYTES (64u << 20) /* far below what AES-GCM is good for under one key */
#define IDENTITY "orion"

typedef struct tls {
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
    uint8_t tail[TAIL_BYTES];
    uint8_t gather[RECORD_BYTES];
    uint8_t out[OUT_BYTES];
} tls_t;

static tls_t *tls(orion_bytestream_t *stream)
{
    return (tls_t *)(void *)stream;
}

/* ---- what OpenSSL calls ---- */

static void remember_tail(tls_t *t, const char *bytes, uint32_t count)
{
    if (count >= TAIL_BYTES) {
        memcpy(t->tail, bytes + count - TAIL_BYTES, TAIL_BYTES);
        t->tail_bytes = TAIL_BYTES;
        return;
    }
    uint32_t keep = t->tail_bytes + count > TAIL_BYTES ? TAIL_BYTES - count : t->tail_bytes;
    memmove(t->tail, t->tail + t->tail_bytes - keep, keep);
    memcpy(t->tail + keep, bytes, count);
    t->tail_bytes = keep + count;
}

/* The last error of this thread's queue in OpenSSL's words, kept: the queue is emptied before each call. */
static orion_status_t fail(tls_t *t)
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
    tls_t *t = lib->BIO_get_data(bio);
    struct iovec room = {to, (size_t)bytes};
    size_t n;
    lib->BIO_clear_flags(bio, ORION_BIO_FLAGS_RETRY);
    orion_status_t status = orion_socket_receive(t->base.socket, &room, 1, false, &n);
    if (status == ORION_OK) {
        remember_tail(t, to, (uint32_t)n);
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
    tls_t *t = lib->BIO_get_data(bio);
    lib->BIO_clear_flags(bio, ORION_BIO_FLAGS_RETRY);
    if (t->out_at == t->out_end)
        t->out_at = t->out_end = 0;
    if ((uint32_t)bytes > OUT_BYTES - t->out_end) { /* many answers to a peer that reads none */
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

static unsigned give_key(const tls_t *t, unsigned char *psk, unsigned psk_most)
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

/* ---- with the lock ---- */

/* What is encrypted, as far as the socket takes it. ORION_OK: all of it. */
static orion_status_t flush(tls_t *t)
{
    while (t->out_at < t->out_end) {
        struct iovec part = {t->out + t->out_at, t->out_end - t->out_at};
        size_t sent;
        orion_status_t status = orion_socket_send(t->base.socket, &part, 1, &sent);
        if (status != ORION_OK)
            return status;
        t->out_at += (uint32_t)sent;
    }
    return ORION_OK;
}

/* What a call of OpenSSL that has not succeeded means. */
static orion_status_t judge(tls_t *t, int result)
{
    int error = t->lib->SSL_get_error(t->ssl, result);
    if (error == ORION_SSL_ERROR_WANT_READ || error == ORION_SSL_ERROR_WANT_WRITE)
        return ORION_AGAIN;
    return t->ended ? ORION_PEER_GONE : fail(t);
}

/* ORION_OK: the other end has the key. A handshake without it can only fail, and is not believed if it did not. */
static orion_status_t shake_hands(tls_t *t)
{
    if (t->checked)
        return ORION_OK;
    t->lib->ERR_clear_error();
    int result = t->lib->SSL_do_handshake(t->ssl);
    orion_status_t status = result == 1 ? ORION_OK : judge(t, result);
    (void)flush(t); /* an alert, too, if it can still be sent */
    if (status == ORION_OK && t->lib->SSL_session_reused(t->ssl) != 1) {
        snprintf(t->problem, sizeof(t->problem), "TLS: a session without our key");
        status = fail(t);
    }
    t->checked = status == ORION_OK;
    return status;
}

/* One record. */
static orion_status_t encrypt_record(tls_t *t, const void *data, size_t bytes)
{
    t->lib->ERR_clear_error();
    if (t->since_rekey >= REKEY_BYTES) {
        t->since_rekey = 0;
        (void)t->lib->SSL_key_update(t->ssl, ORION_SSL_KEY_UPDATE_NOT_REQUESTED); /* goes out before the record */
    }
    int result = t->lib->SSL_write(t->ssl, data, (int)bytes);
    if (result <= 0)
        return judge(t, result);
    t->since_rekey += bytes;
    t->promised += bytes;
    return ORION_OK;
}

/* As much as one system call shall carry. Short parts share a record. */
static orion_status_t encrypt(tls_t *t, const struct iovec *parts, size_t count)
{
    orion_status_t status = shake_hands(t);
    t->send_reads = status == ORION_AGAIN;
    size_t gathered = 0;
    for (size_t i = 0; i < count && status == ORION_OK; i++) {
        const uint8_t *at = parts[i].iov_base;
        size_t left = parts[i].iov_len;
        while (left > 0 && status == ORION_OK && t->out_end - t->out_at < OUT_HIGH) {
            size_t n = left < RECORD_BYTES - gathered ? left : RECORD_BYTES - gathered;
            if (n == RECORD_BYTES) {
                status = encrypt_record(t, at, n);
            } else {
                memcpy(t->gather + gathered, at, n);
                gathered += n;
                if (gathered == RECORD_BYTES) {
                    status = encrypt_record(t, t->gather, gathered);
                    gathered = 0;
                }
            }
            at += n;
            left -= n;
        }
    }
    if (gathered > 0 && status == ORION_OK)
        status = encrypt_record(t, t->gather, gathered);
    return t->promised > 0 ? ORION_OK : status;
}

/* ---- the operations ---- */

static orion_status_t tls_send(orion_bytestream_t *stream, const struct iovec *parts, size_t count, size_t *sent_p)
{
    tls_t *t = tls(stream);
    orion_status_t status = ORION_OK;
    int saved = errno;
    (void)pthread_mutex_lock(&t->lock);
    if (t->promised == 0)
        status = encrypt(t, parts, count);
    if (status == ORION_OK)
        status = t->promised > 0 ? flush(t) : ORION_AGAIN;
    if (status == ORION_OK) {
        *sent_p = t->promised;
        t->promised = 0;
    }
    (void)pthread_mutex_unlock(&t->lock);
    errno = saved;
    return status == ORION_PROTOCOL ? ORION_PEER_GONE : status;
}

static orion_status_t receive_now(tls_t *t, const struct iovec *room, size_t count, size_t *received_p)
{
    size_t total = 0;
    int saved = errno;
    (void)pthread_mutex_lock(&t->lock);
    orion_status_t status = t->problem[0] != '\0' ? ORION_PROTOCOL : shake_hands(t);
    t->drained = status != ORION_OK;
    for (size_t i = 0; i < count && status == ORION_OK; i++) {
        uint8_t *at = room[i].iov_base;
        size_t left = room[i].iov_len;
        while (left > 0 && status == ORION_OK) {
            t->lib->ERR_clear_error();
            int result = t->lib->SSL_read(t->ssl, at, left < INT32_MAX ? (int)left : INT32_MAX);
            if (result <= 0) {
                status = judge(t, result);
                t->drained = true;
                break;
            }
            at += result;
            left -= (size_t)result;
            total += (size_t)result;
        }
    }
    (void)flush(t);
    (void)pthread_mutex_unlock(&t->lock);
    errno = saved;
    if (total == 0)
        return status;
    *received_p = total;
    return ORION_OK; /* what was wrong behind these bytes is wrong the next time as well */
}

static orion_status_t tls_receive(orion_bytestream_t *stream, const struct iovec *room, size_t count, bool wait,
                                  size_t *received_p)
{
    orion_status_t status = receive_now(tls(stream), room, count, received_p);
    if (status != ORION_AGAIN || !wait)
        return status;
    (void)orion_bytestream_wait(stream, ORION_BYTESTREAM_READ, ORION_BYTESTREAM_SLICE_NS);
    return receive_now(tls(stream), room, count, received_p);
}

static int tls_arm(orion_bytestream_t *stream, unsigned wishes, struct pollfd polled[ORION_BYTESTREAM_FDS])
{
    tls_t *t = tls(stream);
    (void)pthread_mutex_lock(&t->lock);
    bool there = wishes & ORION_BYTESTREAM_READ && !t->drained && t->lib->SSL_has_pending(t->ssl);
    bool writes = t->out_at < t->out_end || (wishes & ORION_BYTESTREAM_WRITE && !t->send_reads);
    bool reads = wishes & ORION_BYTESTREAM_READ || (wishes & ORION_BYTESTREAM_WRITE && t->send_reads);
    (void)pthread_mutex_unlock(&t->lock);
    polled[0] = (struct pollfd){.fd = stream->socket, .events = (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0))};
    return there ? 0 : 1;
}

/* What comes when TLS has ended badly is not TLS any more; whoever sends it closes the socket behind it. */
static bool tls_last_words(orion_bytestream_t *stream, void *to, size_t bytes)
{
    tls_t *t = tls(stream);
    char rest[TAIL_BYTES];
    struct iovec room = {rest, sizeof(rest)};
    int64_t deadline = orion_clock_ns() + 4 * ORION_BYTESTREAM_SLICE_NS;
    (void)pthread_mutex_lock(&t->lock);
    while (!t->ended && orion_clock_ns() < deadline) {
        size_t n;
        orion_status_t status = orion_socket_receive(stream->socket, &room, 1, true, &n);
        if (status == ORION_OK)
            remember_tail(t, rest, (uint32_t)n);
        t->ended = status == ORION_PEER_GONE;
    }
    bool enough = t->tail_bytes >= bytes;
    if (enough)
        memcpy(to, t->tail + t->tail_bytes - bytes, bytes);
    (void)pthread_mutex_unlock(&t->lock);
    return enough;
}

static void tls_fork_child(orion_bytestream_t *stream)
{
    tls_t *t = tls(stream);
    orion_fd_close(stream->socket);
    stream->socket = -1;
    t->ssl = NULL; /* lost: another thread of the parent may have been in the middle of it */
    t->ctx = NULL;
    t->method = NULL;
}

static void tls_close(orion_bytestream_t *stream)
{
    tls_t *t = tls(stream);
    if (t->ssl != NULL)
        t->lib->SSL_free(t->ssl); /* and its BIO */
    if (t->method != NULL)
        t->lib->BIO_meth_free(t->method);
    if (t->ctx != NULL)
        t->lib->SSL_CTX_free(t->ctx);
    orion_fd_close(stream->socket);
    orion_forget_bytes(t->key, sizeof(t->key));
    free(t);
}

static const orion_bytestream_ops_t tls_ops = {
    .name = "tls",
    .send = tls_send,
    .receive = tls_receive,
    .arm = tls_arm,
    .last_words = tls_last_words,
    .fork_child = tls_fork_child,
    .close = tls_close,
};

/* ---- the beginning ---- */

static bool set_up_context(tls_t *t, bool server)
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

static bool set_up_session(tls_t *t, bool server)
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

orion_status_t orion_bytestream_of_tls(int socket, bool server, const uint8_t key[ORION_TLS_KEY_BYTES],
                                       orion_bytestream_t **stream_p, char *why, size_t why_bytes)
{
    const orion_libssl_t *lib = orion_libssl(why, why_bytes);
    tls_t *t = lib != NULL ? malloc(sizeof(*t)) : NULL;
    if (t == NULL) {
        orion_fd_close(socket);
        if (lib != NULL)
            orion_explain(why, why_bytes, "not enough memory for an encrypted stream");
        return lib != NULL ? ORION_NO_MEMORY : ORION_SYSTEM;
    }
    memset(t, 0, offsetof(tls_t, tail));
    t->base = (orion_bytestream_t){.ops = &tls_ops, .socket = socket, .over_socket = true};
    t->lib = lib;
    memcpy(t->key, key, sizeof(t->key));
    (void)pthread_mutex_init(&t->lock, NULL);
    orion_socket_set_up(socket);
    if (!set_up_context(t, server) || !set_up_session(t, server)) {
        (void)fail(t);
        orion_explain(why, why_bytes, "an encrypted stream cannot be set up (%s); ORION_TLS=off does without",
                      t->problem);
        tls_close(&t->base);
        return ORION_SYSTEM;
    }
    *stream_p = &t->base;
    return ORION_OK;
}

orion_status_t orion_tls_handshake(orion_bytestream_t *stream, int64_t limit_ns, char *why, size_t why_bytes)
{
    tls_t *t = tls(stream);
    int64_t deadline = orion_clock_ns() + limit_ns;
    for (;;) {
        (void)pthread_mutex_lock(&t->lock);
        orion_status_t status = shake_hands(t);
        (void)pthread_mutex_unlock(&t->lock);
        int64_t left = deadline - orion_clock_ns();
        if (status == ORION_AGAIN && left > 0) {
            (void)orion_bytestream_wait(stream, ORION_BYTESTREAM_READ, left);
            continue;
        }
        if (status == ORION_AGAIN)
            status = ORION_TIMEOUT;
        if (status != ORION_OK)
            orion_explain(why, why_bytes, "%s",
                          status == ORION_PROTOCOL    ? t->problem
                          : status == ORION_PEER_GONE ? "it closed the connection"
                                                      : "it did not answer in time");
        return status;
    }
}
