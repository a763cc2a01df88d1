/* SPDX-License-Identifier: Apache-2.0 */
/* The hello over a socket (net_frame.h): versions, tokens, limits, and what the stream will be. A token proves both ends to
 * each other, and what they agreed on: nobody in between can talk them out of TLS. See net.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "channel/net.h"
#include "stream/libssl.h"
#include "stream/socket.h"
#include "stream/tls.h"
#include "stream/ucx.h"

#define KEEPALIVE_S 10
#define STREAM_NS (5 * ORION_NS_PER_S) /* for TLS or UCX to begin */

typedef struct greeting {
    int socket;
    bool listening, ucx;
    bool local, required, off, insecure; /* of this end: the other is on this host; ORION_TLS; unencrypted is fine */
    int64_t deadline;
    const orion_token_t *token;         /* NULL = none */
    orion_net_hello_t hello, challenge; /* as they were sent */
    orion_net_hello_t welcome;
    char *why;
    size_t why_bytes;
} greeting_t;

/* ---- codes ---- */

/* The purpose's name with its NUL comes first, so that a code for one purpose is none for another. */
static void code(const greeting_t *g, const char *purpose, const orion_net_hello_t *welcome, uint8_t mac[32])
{
    orion_hmac_t hmac;
    orion_hmac_init(&hmac, g->token->secret, strlen(g->token->secret));
    orion_hmac_update(&hmac, purpose, strlen(purpose) + 1);
    orion_hmac_update(&hmac, &g->hello, sizeof(g->hello));
    orion_hmac_update(&hmac, &g->challenge, sizeof(g->challenge));
    if (welcome != NULL) {
        orion_net_hello_t bare = *welcome;
        memset(bare.mac, 0, sizeof(bare.mac));
        orion_hmac_update(&hmac, &bare, sizeof(bare));
    }
    orion_hmac_final(&hmac, mac);
}

#define ANSWER "orion channel 1 answer"
#define PROOF "orion channel 1 proof"
#define KEY "orion channel 1 key"

/* ---- packets ---- */

static orion_net_hello_t step(orion_net_step_t which)
{
    return (orion_net_hello_t){.magic = ORION_NET_MAGIC, .version = ORION_NET_VERSION, .step = which};
}

static orion_status_t say(const greeting_t *g, const orion_net_hello_t *hello)
{
    orion_status_t status = orion_fd_send(g->socket, hello, sizeof(*hello), NULL, 0);
    if (status != ORION_OK)
        orion_explain(g->why, g->why_bytes, "it hung up before this process had said hello");
    return status;
}

orion_status_t orion_net_hello_decode(const void *data, orion_net_hello_t *hello_p, char *why, size_t why_bytes)
{
    orion_net_hello_t h;
    memcpy(&h, data, sizeof(h));
    h.token[sizeof(h.token) - 1] = '\0';
    h.message[sizeof(h.message) - 1] = '\0';
    if (h.magic != ORION_NET_MAGIC) {
        orion_explain(why, why_bytes, "what answers there is no channel of Orion");
        return ORION_PROTOCOL;
    }
    if (h.version != ORION_NET_VERSION) {
        orion_explain(why, why_bytes, "it speaks version %u of the channel protocol, this process version %u",
                      h.version, ORION_NET_VERSION);
        return ORION_VERSION;
    }
    if (h.step == ORION_NET_REFUSAL) {
        orion_printable(h.message);
        orion_explain(why, why_bytes, "it said no: %s", h.message);
        return ORION_REFUSED;
    }
    if (h.step < ORION_NET_HELLO || h.step > ORION_NET_REFUSAL ||
        ((h.step == ORION_NET_HELLO || h.step == ORION_NET_WELCOME) && (h.epoch == 0 || h.arena_limit == 0))) {
        orion_explain(why, why_bytes, "its hello makes no sense");
        return ORION_PROTOCOL;
    }
    *hello_p = h;
    return ORION_OK;
}

static orion_status_t hear(const greeting_t *g, orion_net_hello_t *hello_p)
{
    orion_net_hello_t raw;
    orion_status_t status = orion_fd_receive(g->socket, &raw, sizeof(raw), NULL, 0,
                                             g->deadline == INT64_MAX ? -1 : g->deadline);
    if (status == ORION_TIMEOUT) {
        orion_explain(g->why, g->why_bytes, "%s",
                      g->listening ? "it did not say hello in time" : "nobody accepted in time");
        return status;
    }
    if (status != ORION_OK) {
        orion_explain(g->why, g->why_bytes, "it hung up before it said hello");
        return ORION_PEER_GONE;
    }
    return orion_net_hello_decode(&raw, hello_p, g->why, g->why_bytes);
}

static orion_status_t unexpected(const greeting_t *g)
{
    orion_explain(g->why, g->why_bytes, "its hello comes out of turn");
    return ORION_PROTOCOL;
}

/* ---- what has to be encrypted ---- */

static orion_status_t read_settings(greeting_t *g, const orion_channel_options_t *options)
{
    const char *mode = getenv("ORION_TLS");
    if (mode == NULL || mode[0] == '\0')
        mode = "auto";
    g->required = strcmp(mode, "required") == 0;
    g->off = strcmp(mode, "off") == 0;
    g->local = orion_socket_is_local(g->socket);
    g->insecure = orion_net_insecure(options);
    if (g->required || g->off || strcmp(mode, "auto") == 0)
        return ORION_OK;
    orion_explain(g->why, g->why_bytes, "ORION_TLS=%.32s is not known; unset it, or say auto, off or required", mode);
    return ORION_INVALID;
}

/* For whoever connects: whether to ask for TLS, or that there may be no channel. */
static orion_status_t wish(greeting_t *g)
{
    char missing[200];
    bool plain = !g->required && (g->local || g->insecure);
    bool wanted = !g->ucx && g->token != NULL && (g->required || (!g->off && !g->local));
    if (wanted && orion_libssl(missing, sizeof(missing)) == NULL) {
        if (!plain) {
            orion_explain(g->why, g->why_bytes, "what goes there cannot be encrypted: %s", missing);
            return ORION_INVALID;
        }
        wanted = false;
    }
    if (!wanted && !plain) {
        orion_explain(g->why, g->why_bytes,
                      g->ucx ? "UCX does not encrypt: use tcp:// with a token, or insecure=True on a network that you "
                               "trust%s"
                             : "it is not on this host, or ORION_TLS=required, and data would travel unencrypted: give "
                               "both sides a token=ID.SECRET%s, or say insecure=True on a network that you trust",
                      g->off && !g->ucx ? " and unset ORION_TLS" : "");
        return ORION_INVALID;
    }
    g->hello.flags = (wanted ? ORION_NET_TLS : 0) | (g->ucx ? ORION_NET_UCX : 0);
    return ORION_OK;
}

/* For whoever listens: why not, or NULL. */
static const char *objection(const greeting_t *g, const orion_net_hello_t *hello)
{
    char missing[200];
    bool tls = (hello->flags & ORION_NET_TLS) != 0, ucx = (hello->flags & ORION_NET_UCX) != 0;
    if (ucx != g->ucx)
        return g->ucx ? "this is a listener of ucx://: connect with that scheme"
                      : "this is a listener of tcp://: connect with that scheme";
    if (g->token != NULL && hello->token[0] == '\0')
        return "this listener wants a token: connect with token=ID.SECRET, or set ORION_TOKEN";
    if (g->token == NULL && hello->token[0] != '\0')
        return "this listener has no token, so it cannot prove itself: give it the same one, or connect with token=''";
    if (g->token != NULL && strcmp(hello->token, g->token->id) != 0)
        return "this listener knows another token";
    if (tls && (g->token == NULL || g->off || orion_libssl(missing, sizeof(missing)) == NULL))
        return "this listener does not encrypt: see its ORION_TLS, or whether it has OpenSSL";
    if (!tls && g->required)
        return "this listener wants TLS: connect with ORION_TLS=required";
    if (!tls && !g->local && !g->insecure)
        return "data would travel unencrypted: connect without ORION_TLS=off, or let the listener say insecure=True";
    return NULL;
}

/* ---- both sides ---- */

static orion_status_t refuse(const greeting_t *g, const char *objection)
{
    orion_net_hello_t no = step(ORION_NET_REFUSAL);
    (void)snprintf(no.message, sizeof(no.message), "%s", objection);
    (void)say(g, &no);
    orion_explain(g->why, g->why_bytes, "refused: %s", objection);
    return ORION_REFUSED;
}

static orion_status_t fill(greeting_t *g, orion_net_hello_t *mine, const orion_channel_options_t *options)
{
    const orion_channel_limits_t limits = orion_channel_limits(options);
    mine->arena_limit = limits.arena;
    mine->message_limit = limits.message;
    if (orion_random_bytes(&mine->epoch, sizeof(mine->epoch)) != 0 ||
        orion_random_bytes(mine->nonce, sizeof(mine->nonce)) != 0) {
        orion_explain(g->why, g->why_bytes, "cannot draw a random number");
        return ORION_SYSTEM;
    }
    mine->epoch |= 1;
    return ORION_OK;
}

static orion_status_t greet_listener(greeting_t *g, const orion_channel_options_t *options)
{
    g->hello = step(ORION_NET_HELLO);
    orion_status_t status = fill(g, &g->hello, options);
    if (status == ORION_OK)
        status = wish(g);
    if (status != ORION_OK)
        return status;
    if (g->token != NULL)
        (void)snprintf(g->hello.token, sizeof(g->hello.token), "%s", g->token->id);
    status = say(g, &g->hello);
    if (status == ORION_OK)
        status = hear(g, g->token != NULL ? &g->challenge : &g->welcome);
    if (status != ORION_OK)
        return status;
    if (g->token != NULL) {
        uint8_t proof[32];
        orion_net_hello_t answer = step(ORION_NET_ANSWER);
        if (g->challenge.step != ORION_NET_CHALLENGE) {
            orion_explain(g->why, g->why_bytes, "it did not ask for the token, so it cannot be told from an impostor");
            return ORION_REFUSED;
        }
        code(g, ANSWER, NULL, answer.mac);
        status = say(g, &answer);
        if (status == ORION_OK)
            status = hear(g, &g->welcome);
        if (status != ORION_OK)
            return status;
        code(g, PROOF, &g->welcome, proof);
        if (!orion_same_bytes(proof, g->welcome.mac, sizeof(proof))) {
            orion_explain(g->why, g->why_bytes, "what answers there does not know the secret of token %s",
                          g->token->id);
            return ORION_REFUSED;
        }
    }
    return g->welcome.step == ORION_NET_WELCOME && g->welcome.flags == g->hello.flags ? ORION_OK : unexpected(g);
}

static orion_status_t greet_caller(greeting_t *g, const orion_channel_options_t *options)
{
    orion_status_t status = hear(g, &g->hello);
    if (status != ORION_OK)
        return status;
    if (g->hello.step != ORION_NET_HELLO)
        return unexpected(g);
    const char *no = objection(g, &g->hello);
    if (no != NULL)
        return refuse(g, no);
    g->welcome = step(ORION_NET_WELCOME);
    status = fill(g, &g->welcome, options);
    if (status != ORION_OK)
        return status;
    g->welcome.flags = g->hello.flags & (ORION_NET_TLS | ORION_NET_UCX);
    if (g->token != NULL) {
        orion_net_hello_t answer;
        uint8_t expected[32];
        g->challenge = step(ORION_NET_CHALLENGE);
        memcpy(g->challenge.nonce, g->welcome.nonce, sizeof(g->challenge.nonce));
        status = say(g, &g->challenge);
        if (status == ORION_OK)
            status = hear(g, &answer);
        if (status != ORION_OK)
            return status;
        code(g, ANSWER, NULL, expected);
        if (answer.step != ORION_NET_ANSWER)
            return unexpected(g);
        if (!orion_same_bytes(expected, answer.mac, sizeof(expected)))
            return refuse(g, "the secret of the token is another here");
        code(g, PROOF, &g->welcome, g->welcome.mac);
    }
    return say(g, &g->welcome);
}

/* The stream that was agreed on; the socket is its own from here on. */
static orion_status_t open_stream(const greeting_t *g, orion_bytestream_t **stream_p)
{
    uint8_t key[ORION_TLS_KEY_BYTES];
    orion_bytestream_t *stream = NULL;
    /* whoever listens has given only a moment for the hello, which has come */
    int64_t left = g->listening || g->deadline == INT64_MAX ? STREAM_NS : g->deadline - orion_clock_ns();
    orion_status_t status;
    if (left > STREAM_NS)
        left = STREAM_NS;
    if (g->token != NULL)
        code(g, KEY, &g->welcome, key);
    if (g->ucx) {
        status = orion_bytestream_of_ucx(g->socket, g->listening, g->token != NULL ? key : NULL, &stream, g->why,
                                         g->why_bytes);
        if (status == ORION_OK)
            status = orion_ucx_meet(stream, left, g->why, g->why_bytes);
    } else if ((g->welcome.flags & ORION_NET_TLS) != 0) {
        status = orion_bytestream_of_tls(g->socket, g->listening, key, &stream, g->why, g->why_bytes);
        if (status == ORION_OK)
            status = orion_tls_handshake(stream, left, g->why, g->why_bytes);
    } else {
        status = orion_bytestream_of_socket(g->socket, &stream);
    }
    if (status != ORION_OK)
        orion_bytestream_close(stream);
    else
        *stream_p = stream;
    orion_forget_bytes(key, sizeof(key));
    return status;
}

orion_status_t orion_net_greet(int socket, bool ucx, const orion_channel_options_t *options, const orion_token_t *token,
                               bool listening, int64_t deadline, orion_channel_t **channel_p, char *why,
                               size_t why_bytes)
{
    greeting_t g = {.socket = socket,
                    .listening = listening,
                    .ucx = ucx,
                    .deadline = deadline,
                    .token = token,
                    .why = why,
                    .why_bytes = why_bytes};
    orion_bytestream_t *stream;
    orion_status_t status = read_settings(&g, options);
    if (status == ORION_OK)
        status = listening ? greet_caller(&g, options) : greet_listener(&g, options);
    if (status != ORION_OK) {
        orion_fd_close(socket);
        return status;
    }
    orion_socket_keep_alive(socket, KEEPALIVE_S);
    status = open_stream(&g, &stream);
    if (status != ORION_OK)
        return status;
    const orion_net_hello_t *mine = listening ? &g.welcome : &g.hello, *theirs = listening ? &g.hello : &g.welcome;
    orion_net_terms_t terms = {mine->epoch,
                               theirs->epoch,
                               {mine->arena_limit, mine->message_limit},
                               {theirs->arena_limit, theirs->message_limit}};
    return orion_net_open(stream, options, &terms, channel_p, why, why_bytes);
}
