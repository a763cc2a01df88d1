/* SPDX-License-Identifier: Apache-2.0 */
/* UCX's own API as its documentation recommends it: active messages for what is small (the handler copies the bytes to
 * where they are waited for), tagged messages for what is large. It polls; ORION_BENCH_UCX_SLEEP=1: it sleeps on its
 * descriptor when polling finds nothing, armed as its documentation says. UCX_TLS in the environment chooses the way. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <ucp/api/ucp.h>

#include "twin.h"

#define AM_ID 7
#define AM_MAX 4096  /* beyond it tags: there a receive is posted where the data shall go */
#define AM_SLOTS 256 /* for what comes before it is waited for: more than one call of ucp_worker_progress delivers */

static ucp_context_h context;
static ucp_worker_h worker;
static ucp_ep_h endpoint;
static int sleeping, event_fd = -1;
static uint8_t arrived[AM_SLOTS][AM_MAX];
static unsigned arrivals, taken;
static void *waiting; /* where the next message shall go, while somebody waits for it */
static size_t waiting_bytes;

static ucs_status_t on_message(void *arg, const void *header, size_t header_bytes, void *data, size_t bytes,
                               const ucp_am_recv_param_t *param)
{
    (void)arg;
    (void)header;
    (void)header_bytes;
    twin_must((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0 && bytes <= AM_MAX, "an eager message");
    if (waiting != NULL) {
        twin_must(bytes == waiting_bytes, "a message of the length that is waited for");
        memcpy(waiting, data, bytes);
        waiting = NULL;
        return UCS_OK;
    }
    twin_must(arrivals - taken < AM_SLOTS, "keeping what one call of ucp_worker_progress delivers");
    memcpy(arrived[arrivals++ % AM_SLOTS], data, bytes);
    return UCS_OK;
}

static void must(ucs_status_t status, const char *what)
{
    if (status != UCS_OK)
        fprintf(stderr, "%s\n", ucs_status_string(status));
    twin_must(status == UCS_OK, what);
}

static void ucx_open(int side)
{
    (void)side;
    const char *text = getenv("ORION_BENCH_UCX_SLEEP");
    sleeping = text != NULL && *text == '1';
    ucp_config_t *config;
    must(ucp_config_read(NULL, NULL, &config), "ucp_config_read");
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                           .features = UCP_FEATURE_AM | UCP_FEATURE_TAG | (sleeping ? UCP_FEATURE_WAKEUP : 0)};
    must(ucp_init(&params, config, &context), "ucp_init");
    ucp_config_release(config);
    ucp_worker_params_t worker_params = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                         .thread_mode = UCS_THREAD_MODE_SINGLE};
    must(ucp_worker_create(context, &worker_params, &worker), "ucp_worker_create");
    if (sleeping)
        must(ucp_worker_get_efd(worker, &event_fd), "ucp_worker_get_efd");
    ucp_am_handler_param_t handler = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB, .id = AM_ID, .cb = on_message};
    must(ucp_worker_set_am_recv_handler(worker, &handler), "ucp_worker_set_am_recv_handler");
    ucp_address_t *address;
    size_t bytes;
    must(ucp_worker_get_address(worker, &address, &bytes), "ucp_worker_get_address");
    const void *theirs = twin_exchange(address, bytes, NULL);
    ucp_worker_release_address(worker, address);
    ucp_ep_params_t ep = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS, .address = theirs};
    must(ucp_ep_create(worker, &ep, &endpoint), "ucp_ep_create");
    arrivals = taken = 0;
    waiting = NULL;
}

/* One turn of the wait for something: polls, and then sleeps if it is to. */
static void turn(void)
{
    if (ucp_worker_progress(worker) != 0 || !sleeping)
        return;
    ucs_status_t status = ucp_worker_arm(worker);
    if (status == UCS_ERR_BUSY)
        return;
    must(status, "ucp_worker_arm");
    struct pollfd p = {.fd = event_fd, .events = POLLIN};
    (void)poll(&p, 1, 100);
}

static void finish(ucs_status_ptr_t request, const char *what)
{
    if (request == NULL)
        return;
    twin_must(!UCS_PTR_IS_ERR(request), what);
    while (ucp_request_check_status(request) == UCS_INPROGRESS)
        turn();
    must(ucp_request_check_status(request), what);
    ucp_request_free(request);
}

static void ucx_send(const void *out, size_t bytes)
{
    ucp_request_param_t param = {.op_attr_mask = 0};
    if (bytes > AM_MAX) {
        finish(ucp_tag_send_nbx(endpoint, out, bytes, 1, &param), "ucp_tag_send_nbx");
        return;
    }
    param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = UCP_AM_SEND_FLAG_EAGER;
    finish(ucp_am_send_nbx(endpoint, AM_ID, NULL, 0, out, bytes, &param), "ucp_am_send_nbx");
}

static void ucx_receive(void *buffer, size_t bytes)
{
    if (bytes > AM_MAX) {
        ucp_request_param_t param = {.op_attr_mask = 0};
        finish(ucp_tag_recv_nbx(worker, buffer, bytes, 1, (ucp_tag_t)-1, &param), "ucp_tag_recv_nbx");
        return;
    }
    if (arrivals != taken) {
        memcpy(buffer, arrived[taken++ % AM_SLOTS], bytes);
        return;
    }
    waiting = buffer;
    waiting_bytes = bytes;
    while (waiting != NULL)
        turn();
}

static void ucx_call(const void *out, void *in, size_t bytes)
{
    ucx_send(out, bytes);
    ucx_receive(in, bytes);
}

static void ucx_answer(void *buffer, size_t bytes)
{
    ucx_receive(buffer, bytes);
    ucx_send(buffer, bytes);
}

/* Both sides close at once: without force each would wait for the other's progress. */
static void ucx_close(void)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
    ucs_status_ptr_t request = ucp_ep_close_nbx(endpoint, &param);
    while (UCS_PTR_IS_PTR(request) && ucp_request_check_status(request) == UCS_INPROGRESS)
        (void)ucp_worker_progress(worker);
    if (UCS_PTR_IS_PTR(request))
        ucp_request_free(request);
    ucp_worker_destroy(worker);
    ucp_cleanup(context);
}

const twin_t twin = {.name = "ucx",
                     .call_max = 1 << 16,
                     .send_max = 1 << 30,
                     .open = ucx_open,
                     .close = ucx_close,
                     .call = ucx_call,
                     .answer = ucx_answer,
                     .send = ucx_send,
                     .receive = ucx_receive};
