/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over a socket, see tls.h: its operations. What OpenSSL has encrypted goes out before its bytes count as sent. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sha256.h"
#include "stream/socket.h"
#include "stream/tls_state.h"

#define REKEY_BYTES (64u << 20) /* far below what AES-GCM is good for under one key */

static orion_tls_t *tls(orion_bytestream_t *stream)
{
    return (orion_tls_t *)(void *)stream;
}

/* ---- with the lock ---- */

/* What is encrypted, as far as the socket takes it. ORION_OK: all of it. */
static orion_status_t flush(orion_tls_t *t)
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
static orion_status_t judge(orion_tls_t *t, int result)
{
    int error = t->lib->SSL_get_error(t->ssl, result);
    if (error == ORION_SSL_ERROR_WANT_READ || error == ORION_SSL_ERROR_WANT_WRITE)
        return ORION_AGAIN;
    return t->ended ? ORION_PEER_GONE : orion_tls_fail(t);
}

/* ORION_OK: the other end has the key. A handshake without it can only fail, and is not believed if it did not. */
static orion_status_t shake_hands(orion_tls_t *t)
{
    if (t->checked)
        return ORION_OK;
    t->lib->ERR_clear_error();
    int result = t->lib->SSL_do_handshake(t->ssl);
    orion_status_t status = result == 1 ? ORION_OK : judge(t, result);
    (void)flush(t); /* an alert, too, if it can still be sent */
    if (status == ORION_OK && t->lib->SSL_session_reused(t->ssl) != 1) {
        snprintf(t->problem, sizeof(t->problem), "TLS: a session without our key");
        status = orion_tls_fail(t);
    }
    t->checked = status == ORION_OK;
    return status;
}

/* One record. */
static orion_status_t encrypt_record(orion_tls_t *t, const void *data, size_t bytes)
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
static orion_status_t encrypt(orion_tls_t *t, const struct iovec *parts, size_t count)
{
    orion_status_t status = shake_hands(t);
    t->send_reads = status == ORION_AGAIN;
    size_t gathered = 0;
    for (size_t i = 0; i < count && status == ORION_OK; i++) {
        const uint8_t *at = parts[i].iov_base;
        size_t left = parts[i].iov_len;
        while (left > 0 && status == ORION_OK && t->out_end - t->out_at < ORION_TLS_OUT_HIGH) {
            size_t n = left < ORION_TLS_RECORD - gathered ? left : ORION_TLS_RECORD - gathered;
            if (n == ORION_TLS_RECORD) {
                status = encrypt_record(t, at, n);
            } else {
                memcpy(t->gather + gathered, at, n);
                gathered += n;
                if (gathered == ORION_TLS_RECORD) {
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
    orion_tls_t *t = tls(stream);
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

static orion_status_t receive_now(orion_tls_t *t, const struct iovec *room, size_t count, size_t *received_p)
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
    orion_tls_t *t = tls(stream);
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
    orion_tls_t *t = tls(stream);
    char rest[ORION_TLS_TAIL];
    struct iovec room = {rest, sizeof(rest)};
    int64_t deadline = orion_clock_ns() + 4 * ORION_BYTESTREAM_SLICE_NS;
    (void)pthread_mutex_lock(&t->lock);
    while (!t->ended && orion_clock_ns() < deadline) {
        size_t n;
        orion_status_t status = orion_socket_receive(stream->socket, &room, 1, true, &n);
        if (status == ORION_OK)
            orion_tls_remember(t, rest, (uint32_t)n);
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
    orion_tls_t *t = tls(stream);
    orion_fd_close(stream->socket);
    stream->socket = -1;
    t->ssl = NULL; /* lost: another thread of the parent may have been in the middle of it */
    t->ctx = NULL;
    t->method = NULL;
}

static void tls_close(orion_bytestream_t *stream)
{
    orion_tls_t *t = tls(stream);
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

orion_status_t orion_bytestream_of_tls(int socket, bool server, const uint8_t key[ORION_TLS_KEY_BYTES],
                                       orion_bytestream_t **stream_p, char *why, size_t why_bytes)
{
    const orion_libssl_t *lib = orion_libssl(why, why_bytes);
    orion_tls_t *t = lib != NULL ? malloc(sizeof(*t)) : NULL;
    if (t == NULL) {
        orion_fd_close(socket);
        if (lib != NULL)
            orion_explain(why, why_bytes, "not enough memory for an encrypted stream");
        return lib != NULL ? ORION_NO_MEMORY : ORION_SYSTEM;
    }
    memset(t, 0, offsetof(orion_tls_t, tail));
    t->base = (orion_bytestream_t){.ops = &tls_ops, .socket = socket, .over_socket = true};
    t->lib = lib;
    memcpy(t->key, key, sizeof(t->key));
    (void)pthread_mutex_init(&t->lock, NULL);
    orion_socket_set_up(socket);
    if (!orion_tls_set_up(t, server)) {
        (void)orion_tls_fail(t);
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
    orion_tls_t *t = tls(stream);
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
