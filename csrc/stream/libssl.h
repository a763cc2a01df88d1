/* SPDX-License-Identifier: Apache-2.0 */
/* What we use of OpenSSL's libssl, found at run time: 1.1.1 or 3.x, never linked, no headers needed. The declarations
 * are of functions and constants that both have, and that their manual pages promise to keep. */
#ifndef ORION_STREAM_LIBSSL_H
#define ORION_STREAM_LIBSSL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct orion_ssl_st orion_ssl_t; /* OpenSSL's SSL, and so on */
typedef struct orion_ssl_ctx_st orion_ssl_ctx_t;
typedef struct orion_ssl_method_st orion_ssl_method_t;
typedef struct orion_bio_st orion_bio_t;
typedef struct orion_bio_method_st orion_bio_method_t;

typedef unsigned (*orion_psk_client_fn)(orion_ssl_t *ssl, const char *hint, char *identity, unsigned identity_most,
                                        unsigned char *psk, unsigned psk_most);
typedef unsigned (*orion_psk_server_fn)(orion_ssl_t *ssl, const char *identity, unsigned char *psk, unsigned psk_most);

/* The functions, each a member of the same name. */
#define ORION_LIBSSL_FUNCTIONS(F)                                                                             \
    F(int, OPENSSL_init_ssl, (uint64_t options, const void *settings))                                        \
    F(const char *, OpenSSL_version, (int what))                                                              \
    F(const orion_ssl_method_t *, TLS_method, (void))                                                         \
    F(orion_ssl_ctx_t *, SSL_CTX_new, (const orion_ssl_method_t *method))                                     \
    F(void, SSL_CTX_free, (orion_ssl_ctx_t * ctx))                                                            \
    F(long, SSL_CTX_ctrl, (orion_ssl_ctx_t * ctx, int what, long number, void *argument))                     \
    F(int, SSL_CTX_set_ciphersuites, (orion_ssl_ctx_t * ctx, const char *names))                              \
    F(int, SSL_CTX_set_num_tickets, (orion_ssl_ctx_t * ctx, size_t count))                                    \
    F(void, SSL_CTX_set_verify, (orion_ssl_ctx_t * ctx, int mode, void *callback))                            \
    F(void, SSL_CTX_set_default_read_buffer_len, (orion_ssl_ctx_t * ctx, size_t bytes))                       \
    F(void, SSL_CTX_set_psk_client_callback, (orion_ssl_ctx_t * ctx, orion_psk_client_fn callback))           \
    F(void, SSL_CTX_set_psk_server_callback, (orion_ssl_ctx_t * ctx, orion_psk_server_fn callback))           \
    F(orion_ssl_t *, SSL_new, (orion_ssl_ctx_t * ctx))                                                        \
    F(void, SSL_free, (orion_ssl_t * ssl))                                                                    \
    F(int, SSL_set_ex_data, (orion_ssl_t * ssl, int index, void *data))                                       \
    F(void *, SSL_get_ex_data, (const orion_ssl_t *ssl, int index))                                           \
    F(void, SSL_set_bio, (orion_ssl_t * ssl, orion_bio_t * in, orion_bio_t * out))                            \
    F(void, SSL_set_accept_state, (orion_ssl_t * ssl))                                                        \
    F(void, SSL_set_connect_state, (orion_ssl_t * ssl))                                                       \
    F(int, SSL_do_handshake, (orion_ssl_t * ssl))                                                             \
    F(int, SSL_session_reused, (const orion_ssl_t *ssl))                                                      \
    F(int, SSL_read, (orion_ssl_t * ssl, void *to, int bytes))                                                \
    F(int, SSL_write, (orion_ssl_t * ssl, const void *from, int bytes))                                       \
    F(int, SSL_has_pending, (const orion_ssl_t *ssl))                                                         \
    F(int, SSL_key_update, (orion_ssl_t * ssl, int kind))                                                     \
    F(int, SSL_get_error, (const orion_ssl_t *ssl, int result))                                               \
    F(orion_bio_method_t *, BIO_meth_new, (int type, const char *name))                                       \
    F(void, BIO_meth_free, (orion_bio_method_t * method))                                                     \
    F(int, BIO_meth_set_write, (orion_bio_method_t * method, int (*write)(orion_bio_t *, const char *, int))) \
    F(int, BIO_meth_set_read, (orion_bio_method_t * method, int (*read)(orion_bio_t *, char *, int)))         \
    F(int, BIO_meth_set_ctrl, (orion_bio_method_t * method, long (*ctrl)(orion_bio_t *, int, long, void *)))  \
    F(orion_bio_t *, BIO_new, (const orion_bio_method_t *method))                                             \
    F(int, BIO_free, (orion_bio_t * bio))                                                                     \
    F(void, BIO_set_data, (orion_bio_t * bio, void *data))                                                    \
    F(void *, BIO_get_data, (orion_bio_t * bio))                                                              \
    F(void, BIO_set_init, (orion_bio_t * bio, int init))                                                      \
    F(void, BIO_set_flags, (orion_bio_t * bio, int flags))                                                    \
    F(void, BIO_clear_flags, (orion_bio_t * bio, int flags))                                                  \
    F(void, ERR_clear_error, (void))                                                                          \
    F(unsigned long, ERR_peek_error, (void))                                                                  \
    F(const char *, ERR_reason_error_string, (unsigned long error))

#define ORION_SSL_CTRL_SET_READ_AHEAD 41
#define ORION_SSL_CTRL_SET_MIN_PROTO_VERSION 123
#define ORION_TLS1_3_VERSION 0x0304L
#define ORION_SSL_VERIFY_PEER 1
#define ORION_SSL_KEY_UPDATE_NOT_REQUESTED 0
#define ORION_SSL_ERROR_WANT_READ 2
#define ORION_SSL_ERROR_WANT_WRITE 3
#define ORION_BIO_TYPE_SOURCE_SINK 0x400
#define ORION_BIO_FLAGS_READ 0x01
#define ORION_BIO_FLAGS_WRITE 0x02
#define ORION_BIO_FLAGS_SHOULD_RETRY 0x08
#define ORION_BIO_FLAGS_RETRY (0x07 | ORION_BIO_FLAGS_SHOULD_RETRY)
#define ORION_BIO_CTRL_FLUSH 11

typedef struct orion_libssl {
#define ORION_LIBSSL_MEMBER(result, name, parameters) result(*name) parameters;
    ORION_LIBSSL_FUNCTIONS(ORION_LIBSSL_MEMBER)
#undef ORION_LIBSSL_MEMBER
} orion_libssl_t;

/* Loads it at the first call, in a server before its cage closes. NULL: there is none; why says which was looked for. */
const orion_libssl_t *orion_libssl(char *why, size_t why_bytes);

#endif
