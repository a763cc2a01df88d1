/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as how the other end of a stream over UCX introduces itself: its address on the socket, proved by a key or
 * not, then what UCX itself brings (here a stand-in for the library, which hands out what the input says). */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "stream/ucx_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *piece; /* what UCX has received; NULL: nothing more */
static size_t piece_bytes;
static int reachable;

static unsigned progress(orion_ucp_worker_t *worker)
{
    (void)worker;
    return 0;
}

static orion_ucs_status_t connect_to(orion_ucp_worker_t *worker, const orion_ucp_ep_params_t *params,
                                     orion_ucp_ep_t **ep_p)
{
    (void)worker, (void)params;
    *ep_p = (orion_ucp_ep_t *)(uintptr_t)8;
    return reachable ? ORION_UCS_OK : -1;
}

static void *flush(orion_ucp_ep_t *ep, const orion_ucp_request_param_t *param)
{
    (void)ep, (void)param;
    return NULL;
}

static void *send_bytes(orion_ucp_ep_t *ep, const void *data, size_t bytes, const orion_ucp_request_param_t *param)
{
    (void)ep, (void)data, (void)bytes, (void)param;
    return NULL;
}

static void *receive_bytes(orion_ucp_ep_t *ep, size_t *bytes_p)
{
    (void)ep;
    if (piece == NULL)
        return NULL;
    uint8_t *copy = malloc(piece_bytes + 1);
    if (copy == NULL)
        abort();
    memcpy(copy, piece, piece_bytes);
    *bytes_p = piece_bytes;
    piece = NULL;
    return copy;
}

static void release(orion_ucp_ep_t *ep, void *data)
{
    (void)ep;
    free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const orion_libucp_t lib = {.ucp_worker_progress = progress,
                                       .ucp_ep_create = connect_to,
                                       .ucp_ep_flush_nbx = flush,
                                       .ucp_stream_send_nbx = send_bytes,
                                       .ucp_stream_recv_data_nb = receive_bytes,
                                       .ucp_stream_data_release = release};
    static uint8_t own[] = "our own address";
    int sockets[2];
    if (size < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
        return 0;
    const uint8_t how = data[0];
    const size_t behind = data[1] < size - 2 ? data[1] : size - 2, said = size - 2 - behind;
    orion_ucx_t *u = calloc(1, sizeof(*u));
    if (u == NULL)
        abort();
    u->base.socket = sockets[0];
    u->lib = &lib;
    u->server = how & 1;
    u->has_key = how & 2;
    u->address = (orion_ucp_address_t *)(void *)own;
    u->address_bytes = sizeof(own);
    reachable = how & 4;
    piece = behind > 0 ? data + 2 + said : NULL;
    piece_bytes = behind;
    (void)pthread_mutex_init(&u->lock, NULL);
    orion_status_t status = ORION_AGAIN;
    const size_t step = how / 8 + 1u;
    for (size_t at = 0; status == ORION_AGAIN && at < said;) { /* in pieces */
        const size_t n = step < said - at ? step : said - at;
        if (send(sockets[1], data + 2 + at, n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)n)
            break;
        at += n;
        status = orion_ucx_step(u);
    }
    (void)shutdown(sockets[1], SHUT_WR);
    for (int i = 0; i < 3 && status == ORION_AGAIN; i++)
        status = orion_ucx_step(u);
    if (status == ORION_PROTOCOL && u->problem[0] == '\0')
        abort();
    if (status == ORION_OK && (u->has_key || u->phase != ORION_UCX_DONE)) /* nobody here knows the key */
        abort();
    free(u->piece);
    (void)pthread_mutex_destroy(&u->lock);
    free(u);
    orion_fd_close(sockets[0]);
    orion_fd_close(sockets[1]);
    return 0;
}
