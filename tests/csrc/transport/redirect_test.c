/* SPDX-License-Identifier: Apache-2.0 */
/* What the client makes of a controller's answers: a redirect, waiting, a refusal, and everything that is none of them. */
#define _GNU_SOURCE
#include "../check.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "echo_worker.h"
#include "transport/greet.h"
#include "wire/token.h"

#define KEY "client.correct-horse-battery-staple"
#define SECRET "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define S 1000000000LL

static char why[400];

typedef struct controller {
    int socket;
    const char *key; /* that it challenges with; NULL: it does not */
    int waits;       /* notices before its answer */
    uint32_t flip;   /* + 1: that byte of the redirect is another than the one it has proved */
    bool refuses, welcomes, bare;
    orion_redirect_t redirect;
    pthread_t thread;
} controller_t;

static void cover(orion_redirect_t *redirect, const uint8_t key[32])
{
    char *secret = strchr(redirect->token, '.') + 1;
    for (int i = 0; i < 32; i++) {
        unsigned byte;
        char pair[3] = {secret[2 * i], secret[2 * i + 1], 0};
        MUST(sscanf(pair, "%2x", &byte) == 1);
        snprintf(pair, sizeof(pair), "%02x", byte ^ key[i]);
        memcpy(secret + 2 * i, pair, 2);
    }
}

static void prove(controller_t *c, orion_exchange_t *exchange)
{
    orion_token_t token;
    orion_notice_t notice;
    uint8_t key[32];
    char text[200];
    orion_hmac_t hmac;
    orion_notice_init(&notice, ORION_NOTICE_CHALLENGE);
    memset(exchange->server_nonce, 0x5a, sizeof(exchange->server_nonce));
    memcpy(notice.nonce, exchange->server_nonce, sizeof(notice.nonce));
    (void)orion_fd_send(c->socket, &notice, sizeof(notice), NULL, 0);
    if (orion_fd_receive(c->socket, &notice, sizeof(notice), NULL, 0, check_now_ns() + 2 * S) != ORION_OK)
        return;
    memcpy(exchange->client_nonce, notice.nonce, sizeof(notice.nonce));
    MUST(orion_token_parse(c->key, &token, text, sizeof(text)));
    orion_token_key(&token, exchange, key);
    cover(&c->redirect, key);
    orion_hmac_init(&hmac, token.secret, strlen(token.secret));
    orion_hmac_update(&hmac, "orion 1 redirect", 17);
    orion_hmac_update(&hmac, exchange->server_nonce, 32);
    orion_hmac_update(&hmac, exchange->client_nonce, 32);
    orion_hmac_update(&hmac, &exchange->hello, sizeof(exchange->hello));
    orion_hmac_update(&hmac, &c->redirect, offsetof(orion_redirect_t, proof));
    orion_hmac_final(&hmac, c->redirect.proof);
}

static void *serve(void *arg)
{
    controller_t *c = arg;
    orion_exchange_t exchange;
    orion_notice_t notice;
    orion_welcome_t welcome;
    char rest[64];
    MUST(orion_fd_receive(c->socket, &exchange.hello, sizeof(exchange.hello), NULL, 0, check_now_ns() + 5 * S) ==
         ORION_OK);
    if (c->key != NULL)
        prove(c, &exchange);
    for (int i = 0; i < c->waits; i++) {
        orion_notice_init(&notice, ORION_NOTICE_WAIT);
        snprintf(notice.message, sizeof(notice.message), "%d ahead", c->waits - i);
        (void)orion_fd_send(c->socket, &notice, sizeof(notice), NULL, 0);
    }
    if (c->flip != 0)
        ((uint8_t *)&c->redirect)[c->flip - 1] ^= 1;
    orion_welcome_init(&welcome);
    welcome.epoch = welcome.slots = 1;
    if (c->refuses) {
        welcome.status = ORION_REFUSED;
        welcome.cuda_result = 46;
        orion_field_set(welcome.message, sizeof(welcome.message), "nothing for you");
    }
    if (c->refuses || c->welcomes)
        (void)orion_fd_send(c->socket, &welcome, sizeof(welcome), NULL, 0);
    else
        (void)orion_fd_send(c->socket, &c->redirect, c->bare ? 40 : sizeof(c->redirect), NULL, 0);
    (void)shutdown(c->socket, SHUT_WR);
    while (recv(c->socket, rest, sizeof(rest), 0) > 0) { /* to its end: closing earlier could take the answer along */
    }
    (void)close(c->socket);
    return NULL;
}

static int heard, patience;
static char heard_last[256];

static bool waits(void *context, const char *reason)
{
    MUST(context == &heard);
    heard++;
    snprintf(heard_last, sizeof(heard_last), "%s", reason);
    return heard <= patience;
}

static orion_status_t ask(controller_t *c, orion_redirect_t *redirect, int32_t *result)
{
    int pair[2];
    orion_hello_t hello;
    MUST(echo_tcp_pair(pair) == 0);
    c->socket = pair[1];
    if (c->redirect.magic == 0) {
        orion_redirect_init(&c->redirect);
        orion_field_set(c->redirect.token, sizeof(c->redirect.token), "lease." SECRET);
        orion_field_set(c->redirect.address, sizeof(c->redirect.address), "gpu7:9960");
    }
    MUST(pthread_create(&c->thread, NULL, serve, c) == 0);
    orion_hello_init(&hello);
    why[0] = '\0';
    heard = 0;
    orion_status_t status = orion_greet_controller(pair[0], "the test", &hello, redirect, waits, &heard, result, why,
                                                   sizeof(why));
    (void)close(pair[0]);
    MUST(pthread_join(c->thread, NULL) == 0);
    return status;
}

static void a_redirect_is_followed(void)
{
    controller_t c = {.waits = 2};
    orion_redirect_t redirect;
    int32_t result = 0;
    unsetenv("ORION_TOKEN");
    patience = 9;
    CHECK_EQUAL(ask(&c, &redirect, &result), ORION_OK);
    CHECK(strcmp(redirect.address, "gpu7:9960") == 0 && strcmp(redirect.token, "lease." SECRET) == 0);
    CHECK_EQUAL(heard, 2);
    CHECK(strcmp(heard_last, "1 ahead") == 0);
}

static void who_does_not_want_to_wait_does_not(void)
{
    controller_t c = {.waits = 3};
    orion_redirect_t redirect;
    int32_t result = 0;
    unsetenv("ORION_TOKEN");
    patience = 1;
    CHECK_EQUAL(ask(&c, &redirect, &result), ORION_TIMEOUT);
    CHECK(heard == 2 && why[0] == '\0');
}

static void a_refusal_brings_its_result(void)
{
    controller_t c = {.refuses = true};
    orion_redirect_t redirect;
    int32_t result = 0;
    unsetenv("ORION_TOKEN");
    CHECK_EQUAL(ask(&c, &redirect, &result), ORION_REFUSED);
    CHECK_EQUAL(result, 46);
    CHECK(strstr(why, "nothing for you") != NULL);
}

static void servers_and_halves_of_redirects_are_refused(void)
{
    controller_t server = {.welcomes = true}, half = {.bare = true};
    orion_redirect_t redirect;
    int32_t result = 0;
    unsetenv("ORION_TOKEN");
    CHECK_EQUAL(ask(&server, &redirect, &result), ORION_PROTOCOL);
    CHECK(strstr(why, "name it in ORION_SERVER") != NULL);
    CHECK_EQUAL(ask(&half, &redirect, &result), ORION_PEER_GONE);
}

static void a_key_covers_the_token_and_proves_the_controller(void)
{
    controller_t c = {.key = KEY};
    orion_redirect_t redirect;
    int32_t result = 0;
    setenv("ORION_TOKEN", KEY, 1);
    CHECK_EQUAL(ask(&c, &redirect, &result), ORION_OK);
    CHECK(strcmp(redirect.token, "lease." SECRET) == 0);
    CHECK(strcmp(c.redirect.token, redirect.token) != 0);
}

static void controllers_without_the_key_are_refused(void)
{
    static const uint32_t places[] = {offsetof(orion_redirect_t, address), offsetof(orion_redirect_t, token) + 8,
                                      offsetof(orion_redirect_t, local) + 9, offsetof(orion_redirect_t, proof)};
    controller_t other = {.key = "client.another-key-than-ours"}, none = {0};
    orion_redirect_t redirect;
    int32_t result = 0;
    setenv("ORION_TOKEN", KEY, 1);
    CHECK_EQUAL(ask(&other, &redirect, &result), ORION_PROTOCOL);
    CHECK_EQUAL(ask(&none, &redirect, &result), ORION_PROTOCOL);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        controller_t c = {.key = KEY, .flip = places[i] + 1};
        CHECK_EQUAL(ask(&c, &redirect, &result), ORION_PROTOCOL);
        CHECK(strstr(why, "does not know the secret of token client") != NULL);
    }
}

static void a_servers_client_says_what_a_controller_is(void)
{
    controller_t c = {0};
    int pair[2], fds[2];
    orion_hello_t hello;
    orion_welcome_t welcome;
    unsetenv("ORION_TOKEN");
    MUST(echo_tcp_pair(pair) == 0);
    c.socket = pair[1];
    orion_redirect_init(&c.redirect);
    orion_field_set(c.redirect.address, sizeof(c.redirect.address), "gpu7:9960");
    MUST(pthread_create(&c.thread, NULL, serve, &c) == 0);
    orion_hello_init(&hello);
    CHECK_EQUAL(orion_greet(pair[0], "x", &hello, &welcome, fds, NULL, why, sizeof(why)), ORION_PROTOCOL);
    CHECK(strstr(why, "name it in ORION_CONTROLLER") != NULL);
    (void)close(pair[0]);
    MUST(pthread_join(c.thread, NULL) == 0);
}

static void a_chosen_token_has_to_be_proven_on_a_unix_socket_too(void)
{
    controller_t c = {.welcomes = true};
    int pair[2], fds[2];
    orion_hello_t hello;
    orion_welcome_t welcome;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    c.socket = pair[1];
    MUST(pthread_create(&c.thread, NULL, serve, &c) == 0);
    orion_hello_init(&hello);
    orion_token_choose("lease." SECRET, true);
    CHECK_EQUAL(orion_greet(pair[0], "x", &hello, &welcome, fds, NULL, why, sizeof(why)), ORION_PROTOCOL);
    orion_token_choose("", false);
    (void)close(pair[0]);
    MUST(pthread_join(c.thread, NULL) == 0);
}

CHECK_MAIN(CASE(a_redirect_is_followed), CASE(who_does_not_want_to_wait_does_not), CASE(a_refusal_brings_its_result),
           CASE(servers_and_halves_of_redirects_are_refused), CASE(a_key_covers_the_token_and_proves_the_controller),
           CASE(controllers_without_the_key_are_refused), CASE(a_servers_client_says_what_a_controller_is),
           CASE(a_chosen_token_has_to_be_proven_on_a_unix_socket_too))
