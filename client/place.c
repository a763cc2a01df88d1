/* SPDX-License-Identifier: Apache-2.0 */
/* Asking a controller, see place.h. The lease belongs to the server's session from then on: nothing is kept here. */
#include "place.h"

#include "say.h"
#include "settings.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "stream/socket.h"
#include "transport/greet.h"
#include "wire/token.h"

typedef struct {
    const char *controller;
    int64_t begun;
    int64_t most; /* ns; < 0: no limit */
    int told;
    char reason[256];
} waiting_t;

static int seconds_since(int64_t then)
{
    return (int)((orion_clock_ns() - then) / ORION_NS_PER_S);
}

static bool waits(void *context, const char *reason)
{
    waiting_t *w = context;
    snprintf(w->reason, sizeof w->reason, "%s", reason);
    if (w->most >= 0 && orion_clock_ns() - w->begun >= w->most)
        return false;
    if (!w->told)
        orion_say("waiting for a vGPU of the controller at %s: %s (ORION_WAIT=SECONDS limits this)", w->controller,
                  reason);
    w->told = 1;
    return true;
}

static bool insecure_allowed(void)
{
    const char *text = orion_setting("ORION_INSECURE_TCP");
    return text != NULL && strcmp(text, "1") == 0;
}

static orion_status_t ask(int socket, waiting_t *w, const orion_hello_t *hello, orion_redirect_t *place_p,
                          int32_t *cuda_result_p, char *why, size_t why_bytes)
{
    bool bound;
    if (!orion_socket_is_local(socket) && orion_token_chosen(&bound) == NULL && !insecure_allowed()) {
        orion_explain(why, why_bytes,
                      "the controller at %s is on another host, and the token of a vGPU would travel unencrypted: set "
                      "ORION_TOKEN=client.KEY with its client key, or ORION_INSECURE_TCP=1 on a network that you trust",
                      w->controller);
        return ORION_INVALID;
    }
    orion_socket_keep_alive(socket, 10);
    orion_status_t status = orion_greet_controller(socket, w->controller, hello, place_p, waits, w, cuda_result_p, why,
                                                   why_bytes);
    if (status == ORION_TIMEOUT && why[0] == '\0')
        orion_explain(why, why_bytes, "no vGPU was free within ORION_WAIT=%d seconds: %s",
                      (int)(w->most / ORION_NS_PER_S), w->reason);
    return status;
}

orion_status_t orion_place_find(const char *controller, const orion_hello_t *hello, const orion_wishes_t *wishes,
                                orion_redirect_t *place_p, int32_t *cuda_result_p, char *why, size_t why_bytes)
{
    waiting_t w = {.controller = controller,
                   .begun = orion_clock_ns(),
                   .most = wishes->wait < 0 ? -1 : wishes->wait * ORION_NS_PER_S};
    const char *token = orion_setting("ORION_TOKEN");
    orion_token_choose(token != NULL ? token : "", false);
    int socket = orion_greet_connect(controller, why, why_bytes);
    if (socket < 0) {
        orion_explain(why, why_bytes, "no controller answers at %s (ORION_CONTROLLER): start orion-controller there",
                      controller);
        return ORION_SYSTEM;
    }
    orion_status_t status = ask(socket, &w, hello, place_p, cuda_result_p, why, why_bytes);
    orion_fd_close(socket);
    if (status != ORION_OK)
        return status;
    if (w.told)
        orion_say("got a vGPU after %d s", seconds_since(w.begun));
    orion_token_choose(place_p->token, true);
    return ORION_OK;
}
