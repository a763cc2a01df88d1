/* SPDX-License-Identifier: Apache-2.0 */
/* Asking a controller, see place.h. The lease belongs to the server's session from then on: nothing is kept here. */
#include "place.h"

#include "patience.h"
#include "settings.h"

#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "stream/socket.h"
#include "transport/greet.h"
#include "wire/token.h"

static bool waits(void *context, const char *reason)
{
    return orion_patience_lasts(context, reason);
}

static bool insecure_allowed(void)
{
    const char *text = orion_setting("ORION_INSECURE_TCP");
    return text != NULL && strcmp(text, "1") == 0;
}

static orion_status_t ask(int socket, orion_patience_t *patience, const orion_hello_t *hello, orion_redirect_t *place_p,
                          int32_t *cuda_result_p, char *why, size_t why_bytes)
{
    bool bound;
    if (!orion_socket_is_local(socket) && orion_token_chosen(&bound) == NULL && !insecure_allowed()) {
        orion_explain(why, why_bytes,
                      "the controller at %s is on another host, and the token of a vGPU would travel unencrypted: set "
                      "ORION_TOKEN=client.KEY with its client key, or ORION_INSECURE_TCP=1 on a network that you trust",
                      patience->address);
        return ORION_INVALID;
    }
    orion_socket_keep_alive(socket, 10);
    orion_status_t status = orion_greet_controller(socket, patience->address, hello, place_p, waits, patience,
                                                   cuda_result_p, why, why_bytes);
    if (status == ORION_TIMEOUT && why[0] == '\0')
        orion_patience_explain(patience, why, why_bytes);
    return status;
}

orion_status_t orion_place_find(const char *controller, const orion_hello_t *hello, const orion_wishes_t *wishes,
                                orion_redirect_t *place_p, int32_t *cuda_result_p, char *why, size_t why_bytes)
{
    orion_patience_t patience;
    const char *token = orion_setting("ORION_TOKEN");
    orion_patience_init(&patience, "controller", controller, wishes->wait);
    orion_token_choose(token != NULL ? token : "", false);
    int socket = orion_greet_connect(controller, why, why_bytes);
    if (socket < 0) {
        orion_explain(why, why_bytes, "no controller answers at %s (ORION_CONTROLLER): start orion-controller there",
                      controller);
        return ORION_SYSTEM;
    }
    orion_status_t status = ask(socket, &patience, hello, place_p, cuda_result_p, why, why_bytes);
    orion_fd_close(socket);
    if (status != ORION_OK)
        return status;
    orion_patience_rewarded(&patience);
    orion_token_choose(place_p->token, true);
    return ORION_OK;
}
