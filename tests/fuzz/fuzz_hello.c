/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as hello, welcome, notice and token: refused with a sentence, or decoded with strings that end. */
#include <stdlib.h>
#include <string.h>

#include "wire/hello.h"
#include "wire/token.h"

static void need(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_notice_t notice;
    orion_redirect_t redirect;
    char why[64];
    memset(why, 'x', sizeof(why));
    if (orion_hello_decode(data, size, &hello, why, sizeof(why)) == ORION_OK) {
        need(strnlen(hello.token, sizeof(hello.token)) < sizeof(hello.token));
        need(strnlen(hello.command, sizeof(hello.command)) < sizeof(hello.command));
        need(hello.wish_ratio <= 100);
    } else {
        need(strnlen(why, sizeof(why)) < sizeof(why));
    }
    if (orion_welcome_decode(data, size, &welcome, why, sizeof(why)) == ORION_OK) {
        need(strnlen(welcome.message, sizeof(welcome.message)) < sizeof(welcome.message));
        need(strnlen(welcome.command_name, sizeof(welcome.command_name)) < sizeof(welcome.command_name));
        need(strnlen(welcome.reply_name, sizeof(welcome.reply_name)) < sizeof(welcome.reply_name));
        need(strnlen(welcome.device, sizeof(welcome.device)) < sizeof(welcome.device));
    }
    if (orion_notice_decode(data, size, &notice, why, sizeof(why)) == ORION_OK) {
        need(strnlen(notice.message, sizeof(notice.message)) < sizeof(notice.message));
    }
    orion_token_t token;
    char text[512];
    size_t length = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
    if (length > 0)
        memcpy(text, data, length);
    text[length] = '\0';
    if (orion_token_parse(text, &token, why, sizeof(why))) {
        need(strlen(token.id) > 0 && strlen(token.secret) >= ORION_TOKEN_SECRET_MIN);
        need(strlen(token.id) + 1 + strlen(token.secret) == strlen(text));
    }
    if (orion_redirect_decode(data, size, &redirect, why, sizeof(why)) == ORION_OK) {
        static const orion_token_t token = {"client", "0123456789abcdef"};
        static const orion_exchange_t exchange;
        need(strnlen(redirect.token, sizeof(redirect.token)) < sizeof(redirect.token));
        need(strnlen(redirect.address, sizeof(redirect.address)) < sizeof(redirect.address));
        need(strnlen(redirect.local, sizeof(redirect.local)) < sizeof(redirect.local));
        need(!orion_token_uncover(&token, &exchange, &redirect)); /* nobody guesses a proof */
    }
    return 0;
}
