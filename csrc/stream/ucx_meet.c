/* SPDX-License-Identifier: Apache-2.0 */
/* How a byte stream over UCX begins, see ucx.h. The client sends its address over the socket, the server answers with
 * its own; each connects to the other and sends one byte through UCX. Whoever has the other's byte knows that both
 * directions work. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "stream/socket.h"
#include "stream/ucx_state.h"

#define API_MAJOR 1
#define API_MINOR 12
#define INTRO_MAGIC 0x5843556fu /* "oUCX" */
#define HELLO_BYTE 0x4f
#define ADDRESS_MOST (ORION_UCX_INTRO_MOST - sizeof(intro_t))

typedef struct intro {
    uint32_t magic, bytes; /* of the address, which follows */
    uint8_t mac[ORION_SHA256_BYTES];
} intro_t;

static const orion_ucp_request_param_t plain;

static orion_status_t fail(orion_ucx_t *u, const char *problem)
{
    if (u->problem[0] == '\0')
        snprintf(u->problem, sizeof(u->problem), "UCX: %s", problem);
    u->base.complaint = u->problem;
    u->phase = ORION_UCX_FAILED;
    return ORION_PROTOCOL;
}

/* From within UCX, in a call of ours that has the lock. */
static void on_error(void *argument, orion_ucp_ep_t *ep, orion_ucs_status_t status)
{
    (void)ep, (void)status;
    ((orion_ucx_t *)argument)->broken = true;
}

/* The role is part of it: nobody is sent its own address back. */
static void prove(const orion_ucx_t *u, bool server, const void *address, size_t bytes, uint8_t mac[ORION_SHA256_BYTES])
{
    const char *purpose = server ? "orion 1 ucx server" : "orion 1 ucx client";
    orion_hmac_t hmac;
    memset(mac, 0, ORION_SHA256_BYTES);
    if (!u->has_key)
        return;
    orion_hmac_init(&hmac, u->key, sizeof(u->key));
    orion_hmac_update(&hmac, purpose, strlen(purpose) + 1);
    orion_hmac_update(&hmac, address, bytes);
    orion_hmac_final(&hmac, mac);
}

/* It is short and the first on its way: a socket that does not take it whole is not worth waiting for. */
static bool send_address(const orion_ucx_t *u)
{
    intro_t intro = {.magic = INTRO_MAGIC, .bytes = (uint32_t)u->address_bytes};
    struct iovec parts[] = {{&intro, sizeof(intro)}, {u->address, u->address_bytes}};
    size_t sent = 0;
    prove(u, u->server, u->address, u->address_bytes, intro.mac);
    return orion_socket_send(u->base.socket, parts, 2, &sent) == ORION_OK && sent == sizeof(intro) + u->address_bytes;
}

static orion_status_t connect_to(orion_ucx_t *u, const void *address)
{
    orion_ucp_ep_params_t params = {.field_mask = ORION_UCP_EP_REMOTE_ADDRESS | ORION_UCP_EP_ERR_MODE |
                                                  ORION_UCP_EP_ERR_HANDLER,
                                    .address = address,
                                    .err_mode = ORION_UCP_ERR_MODE_PEER,
                                    .on_error = on_error,
                                    .on_error_argument = u};
    if (u->lib->ucp_ep_create(u->worker, &params, &u->ep) != ORION_UCS_OK) {
        params.err_mode = ORION_UCP_ERR_MODE_NONE; /* shared memory knows no other: the socket sees the end */
        if (u->lib->ucp_ep_create(u->worker, &params, &u->ep) != ORION_UCS_OK)
            return fail(u, "the other end cannot be reached by the transports that UCX_TLS and UCX_NET_DEVICES leave");
    }
    u->bounce[0] = HELLO_BYTE;
    u->sending = u->lib->ucp_stream_send_nbx(u->ep, u->bounce, 1, &plain);
    u->dirty = true;
    u->phase = ORION_UCX_BYTE;
    return orion_ucp_failed(u->sending) ? fail(u, "its first byte cannot be sent") : ORION_OK;
}

/* Exactly what belongs to it: what follows on the socket is the witness's. */
static orion_status_t read_address(orion_ucx_t *u)
{
    intro_t intro;
    uint8_t mac[ORION_SHA256_BYTES];
    for (;;) {
        size_t wanted = sizeof(intro), n;
        if (u->intro_at >= sizeof(intro)) {
            memcpy(&intro, u->intro, sizeof(intro));
            if (intro.magic != INTRO_MAGIC || intro.bytes == 0 || intro.bytes > ADDRESS_MOST)
                return fail(u, "what came first on the socket is no address");
            wanted += intro.bytes;
        }
        if (u->intro_at == wanted && wanted > sizeof(intro))
            break;
        struct iovec room = {u->intro + u->intro_at, wanted - u->intro_at};
        orion_status_t status = orion_socket_receive(u->base.socket, &room, 1, false, &n);
        if (status != ORION_OK)
            return status;
        u->intro_at += (uint32_t)n;
    }
    prove(u, !u->server, u->intro + sizeof(intro), intro.bytes, mac);
    if (!orion_same_bytes(mac, intro.mac, sizeof(mac)))
        return fail(u, "the other end's address is not proved by the key of this session");
    if (u->server && !send_address(u)) /* not earlier: the welcome comes before it on the socket */
        return fail(u, "its address cannot be sent");
    return connect_to(u, u->intro + sizeof(intro));
}

orion_status_t orion_ucx_step(orion_ucx_t *u)
{
    if (u->phase == ORION_UCX_DONE)
        return ORION_OK;
    if (u->phase == ORION_UCX_FAILED)
        return ORION_PROTOCOL;
    if (u->phase == ORION_UCX_ADDRESS) {
        orion_status_t status = read_address(u);
        if (status != ORION_OK)
            return status;
    }
    (void)orion_ucx_settle(u);
    if (u->broken)
        return fail(u, "the connection to the other end broke at once");
    if (!orion_ucx_next_piece(u)) {
        orion_ucx_look_at_witness(u);
        return u->ended ? ORION_PEER_GONE : ORION_AGAIN;
    }
    if (*u->piece_at != HELLO_BYTE)
        return fail(u, "what came first is not an end of ours");
    u->piece_at++;
    u->piece_left--;
    u->phase = ORION_UCX_DONE;
    return ORION_OK;
}

static bool open_context(orion_ucx_t *u, bool local)
{
    const orion_libucp_t *lib = u->lib;
    orion_ucp_params_t params = {.field_mask = ORION_UCP_PARAM_FEATURES,
                                 .features = ORION_UCP_FEATURE_STREAM | ORION_UCP_FEATURE_WAKEUP};
    orion_ucp_config_t *config;
    if (lib->ucp_config_read(NULL, NULL, &config) != ORION_UCS_OK)
        return false;
    if (getenv("UCX_TLS") == NULL) /* whoever writes UCX's shared memory can point it anywhere */
        (void)lib->ucp_config_modify(config, "TLS", "^shm,cuda,rocm,ze");
    if (getenv("UCX_NET_DEVICES") == NULL && local) /* its ports ask nobody for a token */
        (void)lib->ucp_config_modify(config, "NET_DEVICES", "lo");
    if (getenv("UCX_TCP_PREFER_DEFAULT") ==
        NULL) /* else it reads the routes for each connection, which a cage refuses */
        (void)lib->ucp_config_modify(config, "TCP_PREFER_DEFAULT", "n");
    orion_ucs_status_t status = lib->ucp_init_version(API_MAJOR, API_MINOR, &params, config, &u->context);
    lib->ucp_config_release(config);
    return status == ORION_UCS_OK;
}

static bool open_worker(orion_ucx_t *u)
{
    orion_ucp_worker_params_t params = {.field_mask = ORION_UCP_WORKER_THREAD_MODE,
                                        .thread_mode = ORION_UCS_THREAD_MODE_SERIALIZED};
    if (u->lib->ucp_worker_create(u->context, &params, &u->worker) != ORION_UCS_OK)
        return false;
    /* Asked for now: to know its own address UCX reads files, which a cage does not allow. */
    return u->lib->ucp_worker_get_efd(u->worker, &u->efd) == ORION_UCS_OK &&
           u->lib->ucp_worker_get_address(u->worker, &u->address, &u->address_bytes) == ORION_UCS_OK &&
           u->address_bytes <= ADDRESS_MOST && (u->server || send_address(u));
}

orion_status_t orion_bytestream_of_ucx(int socket, bool server, const uint8_t *key, orion_bytestream_t **stream_p,
                                       char *why, size_t why_bytes)
{
    const orion_libucp_t *lib = orion_libucp(why, why_bytes);
    orion_ucx_t *u = lib != NULL ? malloc(sizeof(*u)) : NULL;
    if (u == NULL) {
        orion_fd_close(socket);
        if (lib != NULL)
            orion_explain(why, why_bytes, "not enough memory for a stream over UCX");
        return lib != NULL ? ORION_NO_MEMORY : ORION_SYSTEM;
    }
    memset(u, 0, offsetof(orion_ucx_t, tail));
    u->base = (orion_bytestream_t){.ops = &orion_ucx_ops, .socket = socket};
    u->lib = lib;
    u->server = server;
    u->has_key = key != NULL;
    if (key != NULL)
        memcpy(u->key, key, sizeof(u->key));
    (void)pthread_mutex_init(&u->lock, NULL);
    orion_socket_set_up(socket);
    u->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (u->wake_fd >= 0 && open_context(u, orion_socket_is_local(socket)) && open_worker(u)) {
        *stream_p = &u->base;
        return ORION_OK;
    }
    orion_explain(
        why, why_bytes,
        "UCX cannot begin with the transports that UCX_TLS and UCX_NET_DEVICES leave (UCX_LOG_LEVEL=error says "
        "more)");
    orion_ucx_close(&u->base);
    return ORION_SYSTEM;
}

orion_status_t orion_ucx_meet(orion_bytestream_t *stream, int64_t limit_ns, char *why, size_t why_bytes)
{
    orion_ucx_t *u = (orion_ucx_t *)(void *)stream;
    int64_t deadline = orion_clock_ns() + limit_ns;
    for (;;) {
        (void)pthread_mutex_lock(&u->lock);
        orion_status_t status = orion_ucx_step(u);
        (void)pthread_mutex_unlock(&u->lock);
        int64_t left = deadline - orion_clock_ns();
        if (status == ORION_AGAIN && left > 0) {
            (void)orion_bytestream_wait(stream, ORION_BYTESTREAM_READ,
                                        left < ORION_BYTESTREAM_SLICE_NS ? left : ORION_BYTESTREAM_SLICE_NS);
            continue;
        }
        if (status == ORION_AGAIN)
            status = ORION_TIMEOUT;
        if (status != ORION_OK)
            orion_explain(why, why_bytes, "%s",
                          status == ORION_PROTOCOL    ? u->problem
                          : status == ORION_PEER_GONE ? "it closed the connection"
                                                      : "the two ends did not reach each other in time");
        return status;
    }
}
