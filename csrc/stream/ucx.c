/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream over UCX, see ucx.h: its operations. UCX moves nothing by itself: whoever sends, receives or settles
 * makes it progress. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "stream/socket.h"
#include "stream/ucx_state.h"

#define WITNESS_TURNS 64 /* empty looks between looks at the socket, which cost a system call */
#define PROGRESS_TURNS 64
#define LINGER_NS ORION_NS_PER_S /* at most, for the last bytes of a stream that is closed */

static const orion_ucp_request_param_t plain;

static orion_ucx_t *ucx(orion_bytestream_t *stream)
{
    return (orion_ucx_t *)(void *)stream;
}

/* ---- moving, with the lock ---- */

/* What comes in meanwhile is the receiver's, who may sleep: UCX's descriptor will not wake it for that again. */
static void progress(orion_ucx_t *u)
{
    uint64_t one = 1;
    int turns = 0;
    while (turns < PROGRESS_TURNS && u->lib->ucp_worker_progress(u->worker) != 0)
        turns++;
    if (turns > 0 && u->armed)
        (void)!write(u->wake_fd, &one, sizeof(one));
}

/* Is the request done? It is gone then. */
static bool finish(orion_ucx_t *u, void **request)
{
    if (*request == NULL)
        return true;
    if (orion_ucp_failed(*request)) {
        u->broken = true;
        *request = NULL;
        return true;
    }
    orion_ucs_status_t status = u->lib->ucp_request_check_status(*request);
    if (status == ORION_UCS_INPROGRESS)
        return false;
    u->broken |= status != ORION_UCS_OK;
    u->lib->ucp_request_free(*request);
    *request = NULL;
    return true;
}

bool orion_ucx_settle(orion_ucx_t *u)
{
    if (u->phase < ORION_UCX_BYTE || u->broken || u->ended)
        return true;
    progress(u);
    if (!finish(u, &u->sending) || (u->flush != NULL && !finish(u, &u->flush)))
        return false;
    if (!u->dirty)
        return true;
    u->dirty = false;
    u->flush = u->lib->ucp_ep_flush_nbx(u->ep, &plain);
    return finish(u, &u->flush);
}

/* What the other end has left there before it went, or who watched over it. */
void orion_ucx_look_at_witness(orion_ucx_t *u)
{
    uint8_t bytes[ORION_UCX_TAIL];
    struct iovec room = {bytes, sizeof(bytes)};
    uint64_t count;
    size_t n;
    orion_status_t status;
    if (u->armed)
        (void)!read(u->wake_fd, &count, sizeof(count));
    u->armed = false;
    u->turns = 0;
    while (!u->ended && (status = orion_socket_receive(u->base.socket, &room, 1, false, &n)) != ORION_AGAIN) {
        u->ended = status != ORION_OK;
        if (u->ended)
            return;
        uint32_t keep = u->tail_bytes + n > ORION_UCX_TAIL ? ORION_UCX_TAIL - (uint32_t)n : u->tail_bytes;
        memmove(u->tail, u->tail + u->tail_bytes - keep, keep);
        memcpy(u->tail + keep, bytes, n);
        u->tail_bytes = keep + (uint32_t)n;
    }
}

/* One piece that UCX has received. */
bool orion_ucx_next_piece(orion_ucx_t *u)
{
    for (int i = 0; u->piece_left == 0 && i < PROGRESS_TURNS; i++) {
        if (u->piece != NULL)
            u->lib->ucp_stream_data_release(u->ep, u->piece);
        u->piece = NULL;
        void *data = u->lib->ucp_stream_recv_data_nb(u->ep, &u->piece_left);
        if (orion_ucp_failed(data)) {
            u->broken = true;
            u->piece_left = 0;
            return false;
        }
        if (data != NULL) {
            u->piece = u->piece_at = data;
        } else {
            u->piece_left = 0;
            if (u->lib->ucp_worker_progress(u->worker) == 0)
                return false;
        }
    }
    return u->piece_left > 0;
}

/* ---- the operations ---- */

static orion_status_t send_locked(orion_ucx_t *u, const struct iovec *parts, size_t count, size_t *sent_p)
{
    if (u->phase != ORION_UCX_DONE)
        return u->phase == ORION_UCX_FAILED ? ORION_PEER_GONE : ORION_AGAIN;
    if (u->promised == 0 && u->sending == NULL) {
        for (size_t i = 0; i < count && u->promised < ORION_UCX_BOUNCE; i++) {
            size_t n = parts[i].iov_len < ORION_UCX_BOUNCE - u->promised ? parts[i].iov_len
                                                                         : ORION_UCX_BOUNCE - u->promised;
            if (n > 0)
                memcpy(u->bounce + u->promised, parts[i].iov_base, n);
            u->promised += n;
        }
        if (u->promised == 0)
            return ORION_AGAIN;
        u->dirty = true;
        u->sending = u->lib->ucp_stream_send_nbx(u->ep, u->bounce, u->promised, &plain);
    }
    if (!finish(u, &u->sending)) {
        progress(u);
        if (!finish(u, &u->sending))
            return ORION_AGAIN;
    }
    if (u->broken || u->ended)
        return ORION_PEER_GONE;
    *sent_p = u->promised;
    u->promised = 0;
    return *sent_p > 0 ? ORION_OK : ORION_AGAIN;
}

static orion_status_t ucx_send(orion_bytestream_t *stream, const struct iovec *parts, size_t count, size_t *sent_p)
{
    orion_ucx_t *u = ucx(stream);
    int saved = errno;
    (void)pthread_mutex_lock(&u->lock);
    orion_status_t status = send_locked(u, parts, count, sent_p);
    (void)pthread_mutex_unlock(&u->lock);
    errno = saved;
    return status;
}

static orion_status_t receive_locked(orion_ucx_t *u, const struct iovec *room, size_t count, size_t *received_p)
{
    size_t total = 0;
    orion_status_t status = orion_ucx_step(u);
    if (status != ORION_OK)
        return status;
    bool more = true; /* never again after "no": what comes a moment later belongs where the last byte ended */
    for (size_t i = 0; more && i < count; i++) {
        uint8_t *to = room[i].iov_base;
        size_t left = room[i].iov_len;
        while (left > 0 && (more = orion_ucx_next_piece(u))) {
            size_t n = left < u->piece_left ? left : u->piece_left;
            memcpy(to, u->piece_at, n);
            u->piece_at += n;
            u->piece_left -= n;
            to += n;
            left -= n;
            total += n;
        }
    }
    *received_p = total;
    if (total > 0)
        return ORION_OK;
    if (u->armed || ++u->turns >= WITNESS_TURNS || u->broken)
        orion_ucx_look_at_witness(u);
    return u->ended || u->broken ? ORION_PEER_GONE : ORION_AGAIN;
}

static orion_status_t receive_now(orion_ucx_t *u, const struct iovec *room, size_t count, size_t *received_p)
{
    int saved = errno;
    (void)pthread_mutex_lock(&u->lock);
    orion_status_t status = receive_locked(u, room, count, received_p);
    (void)pthread_mutex_unlock(&u->lock);
    errno = saved;
    return status;
}

static orion_status_t ucx_receive(orion_bytestream_t *stream, const struct iovec *room, size_t count, bool wait,
                                  size_t *received_p)
{
    orion_status_t status = receive_now(ucx(stream), room, count, received_p);
    int64_t left = ORION_BYTESTREAM_SLICE_NS, deadline = wait && status == ORION_AGAIN ? orion_clock_ns() + left : 0;
    while (wait && status == ORION_AGAIN && left > 0) { /* much of what wakes us is UCX's own business */
        (void)orion_bytestream_wait(stream, ORION_BYTESTREAM_READ, left);
        status = receive_now(ucx(stream), room, count, received_p);
        left = deadline - orion_clock_ns();
    }
    return status;
}

static int ucx_arm(orion_bytestream_t *stream, unsigned wishes, struct pollfd polled[ORION_BYTESTREAM_FDS])
{
    orion_ucx_t *u = ucx(stream);
    int saved = errno;
    (void)pthread_mutex_lock(&u->lock);
    polled[0] = (struct pollfd){.fd = stream->socket, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = u->efd, .events = POLLIN};
    polled[2] = (struct pollfd){.fd = u->wake_fd, .events = POLLIN};
    int count = u->phase == ORION_UCX_ADDRESS ? 1 : ORION_BYTESTREAM_FDS;
    if ((wishes & ORION_BYTESTREAM_READ && u->piece_left > 0) ||
        (wishes & ORION_BYTESTREAM_WRITE && u->phase == ORION_UCX_DONE && u->sending == NULL))
        count = 0;
    else if (count > 1 && u->lib->ucp_worker_arm(u->worker) == ORION_UCS_ERR_BUSY) {
        progress(u);
        count = 0;
    }
    u->armed = true;
    (void)pthread_mutex_unlock(&u->lock);
    errno = saved;
    return count;
}

static bool ucx_last_words(orion_bytestream_t *stream, void *to, size_t bytes)
{
    orion_ucx_t *u = ucx(stream);
    int64_t deadline = orion_clock_ns() + 4 * ORION_BYTESTREAM_SLICE_NS;
    (void)pthread_mutex_lock(&u->lock);
    while (!u->ended && orion_clock_ns() < deadline) { /* UCX may notice it before who watches does */
        struct pollfd p = {.fd = stream->socket, .events = POLLIN};
        (void)poll(&p, 1, (int)(ORION_BYTESTREAM_SLICE_NS / ORION_NS_PER_MS));
        orion_ucx_look_at_witness(u);
    }
    bool enough = u->tail_bytes >= bytes;
    if (enough)
        memcpy(to, u->tail + u->tail_bytes - bytes, bytes);
    (void)pthread_mutex_unlock(&u->lock);
    return enough;
}

static bool ucx_settled(orion_bytestream_t *stream)
{
    orion_ucx_t *u = ucx(stream);
    int saved = errno;
    (void)pthread_mutex_lock(&u->lock);
    bool settled = orion_ucx_settle(u);
    (void)pthread_mutex_unlock(&u->lock);
    errno = saved;
    return settled;
}

static void ucx_fork_child(orion_bytestream_t *stream)
{
    orion_ucx_t *u = ucx(stream);
    orion_fd_close(stream->socket);
    orion_fd_close(u->wake_fd);
    stream->socket = u->wake_fd = -1;
    u->context = NULL;
    u->worker = NULL; /* UCX's own thread and lock are the parent's: everything of it is lost here */
}

/* The last bytes get out first, if there is somebody to take them. */
static void shut_down(orion_ucx_t *u)
{
    int64_t deadline = orion_clock_ns() + LINGER_NS;
    while (u->phase == ORION_UCX_DONE && !orion_ucx_settle(u) && orion_clock_ns() < deadline)
        orion_ucx_look_at_witness(u);
    if (u->piece != NULL)
        u->lib->ucp_stream_data_release(u->ep, u->piece);
    if (u->ep != NULL) {
        orion_ucp_request_param_t force = {.op_attr_mask = ORION_UCP_OP_FLAGS, .flags = ORION_UCP_EP_CLOSE_FORCE};
        void *closing = u->lib->ucp_ep_close_nbx(u->ep, &force);
        while (!finish(u, &closing) && orion_clock_ns() < deadline)
            progress(u);
    }
    if (u->address != NULL)
        u->lib->ucp_worker_release_address(u->worker, u->address);
    u->lib->ucp_worker_destroy(u->worker);
}

void orion_ucx_close(orion_bytestream_t *stream)
{
    orion_ucx_t *u = ucx(stream);
    if (u->worker != NULL)
        shut_down(u);
    if (u->context != NULL)
        u->lib->ucp_cleanup(u->context);
    orion_fd_close(stream->socket);
    orion_fd_close(u->wake_fd);
    orion_forget_bytes(u->key, sizeof(u->key));
    free(u);
}

const orion_bytestream_ops_t orion_ucx_ops = {
    .name = "ucx",
    .send = ucx_send,
    .receive = ucx_receive,
    .arm = ucx_arm,
    .last_words = ucx_last_words,
    .settled = ucx_settled,
    .fork_child = ucx_fork_child,
    .close = orion_ucx_close,
};
