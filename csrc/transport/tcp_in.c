/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving: the role, what becomes of each frame, and the server's death. */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "base/futex.h"
#include "base/log.h"
#include "transport/tcp_link.h"
#include "wire/token.h"

#define LOST_TURNS 20 /* of a slice */

enum { SIGNAL_NONE = 0, SIGNAL_LOOK = 1, SIGNAL_ROLE = 2 };

/* acquire: pairs with the releases in deliver; what came is there */
static bool arrived(const orion_tcp_link_t *link, const orion_tcp_want_t *want)
{
    switch (want->kind) {
    case ORION_TCP_REPLY:
        return orion_load_acquire(&link->replies[want->index].sequence) == want->sequence;
    case ORION_TCP_STAGE: /* sequences only grow: done is reached at or beyond it */
        return (int32_t)(orion_load_acquire(&link->stage_done[want->index]) - want->sequence) >= 0;
    case ORION_TCP_EVENT:
        return orion_load_acquire(&link->events_head) != want->sequence;
    default:
        return false;
    }
}

/* ---- the role ---- */

/* With role_lock: takes the waiter out of the list and wakes it. */
static void signal_waiter(orion_tcp_link_t *link, orion_tcp_waiter_t **at, uint32_t signal)
{
    orion_tcp_waiter_t *waiter = *at;
    *at = waiter->next;
    (void)orion_fetch_sub(&link->waiting, 1);
    orion_store_release(&waiter->signal, signal); /* release: pairs with the acquire in sleep_beside */
    (void)orion_futex_wake(&waiter->signal, 1);
}

static bool take_role(orion_tcp_link_t *link)
{
    (void)pthread_mutex_lock(&link->role_lock);
    bool taken = !link->role_taken;
    link->role_taken = true;
    (void)pthread_mutex_unlock(&link->role_lock);
    return taken;
}

static void release_role(orion_tcp_link_t *link)
{
    (void)pthread_mutex_lock(&link->role_lock);
    if (link->waiters != NULL)
        signal_waiter(link, &link->waiters, SIGNAL_ROLE); /* it stays taken: that thread has it now */
    else
        link->role_taken = false;
    (void)pthread_mutex_unlock(&link->role_lock);
}

/* Takes the role, or sleeps until its frame has come or the role is free. true: this thread has the role. */
static bool sleep_beside(orion_tcp_link_t *link, const orion_tcp_want_t *want, int64_t deadline_ns)
{
    orion_tcp_waiter_t self = {.want = *want};
    (void)pthread_mutex_lock(&link->role_lock);
    if (!link->role_taken) {
        link->role_taken = true;
        (void)pthread_mutex_unlock(&link->role_lock);
        return true;
    }
    orion_tcp_waiter_t **at = &link->waiters;
    while (*at != NULL)
        at = &(*at)->next;
    *at = &self;
    (void)orion_fetch_add(&link->waiting, 1); /* full barrier: the list before the look at what has come */
    (void)pthread_mutex_unlock(&link->role_lock);
    while (orion_load_acquire(&self.signal) == SIGNAL_NONE && !arrived(link, want) &&
           orion_tcp_state(link) == ORION_OK) {
        int64_t left = deadline_ns == INT64_MAX ? ORION_TCP_SLICE_NS : deadline_ns - orion_clock_ns();
        if (left <= 0)
            break;
        (void)orion_futex_wait(&self.signal, SIGNAL_NONE, left < ORION_TCP_SLICE_NS ? left : ORION_TCP_SLICE_NS);
    }
    (void)pthread_mutex_lock(&link->role_lock);
    if (self.signal == SIGNAL_NONE) {
        for (at = &link->waiters; *at != &self; at = &(*at)->next) {
        }
        *at = self.next;
        (void)orion_fetch_sub(&link->waiting, 1);
    }
    (void)pthread_mutex_unlock(&link->role_lock);
    return self.signal == SIGNAL_ROLE;
}

/* Those whose frame has come, or all of them. */
static void wake_waiters(orion_tcp_link_t *link, bool all)
{
    orion_fence_full(); /* what has come before the look at the list; pairs with the fetch_add in sleep_beside */
    if (orion_load_relaxed(&link->waiting) == 0)
        return;
    (void)pthread_mutex_lock(&link->role_lock);
    for (orion_tcp_waiter_t **at = &link->waiters; *at != NULL;) {
        if (all || arrived(link, &(*at)->want))
            signal_waiter(link, at, SIGNAL_LOOK);
        else
            at = &(*at)->next;
    }
    (void)pthread_mutex_unlock(&link->role_lock);
}

/* ---- the server's death ---- */

static orion_status_t declare_gone(orion_tcp_link_t *link, int32_t result, const char *text)
{
    (void)pthread_mutex_lock(&link->end_lock);
    if (link->epitaph[0] == '\0') {
        orion_field_set(link->epitaph, sizeof(link->epitaph), text);
        link->epitaph_result = result;
    }
    if (orion_load_relaxed(link->state) == ORION_LINK_LIVE)
        orion_store_release(link->state, ORION_LINK_GONE); /* release: pairs with the acquire in orion_tcp_state */
    (void)pthread_mutex_unlock(&link->end_lock);
    wake_waiters(link, true);
    return ORION_PEER_GONE;
}

static bool read_epitaph(orion_tcp_link_t *link, const void *bytes)
{
    orion_notice_t notice;
    char why[160];
    if (orion_notice_decode(bytes, sizeof(notice), &notice, why, sizeof(why)) != ORION_OK ||
        notice.kind != ORION_NOTICE_EPITAPH)
        return false;
    (void)declare_gone(link, notice.cuda_result, notice.message[0] != '\0' ? notice.message : "the session was ended");
    return true;
}

/* The epitaph comes beside TLS and UCX, since the worker that has those is dead, but proved if there is a key. */
static bool read_last_words(orion_tcp_link_t *link, uint8_t frame[ORION_EPITAPH_FRAME_BYTES])
{
    struct {
        uint8_t frame[ORION_EPITAPH_FRAME_BYTES], mac[ORION_MAC_BYTES];
    } last;
    uint8_t mac[ORION_MAC_BYTES];
    if (!orion_bytestream_last_words(link->stream, &last, sizeof(last)))
        return false;
    orion_key_epitaph(link->key.key, last.frame, sizeof(last.frame), mac);
    memcpy(frame, last.frame, sizeof(last.frame));
    return orion_same_bytes(mac, last.mac, sizeof(mac));
}

/* The stream has ended. A worker that died while it sent leaves half a frame, and the epitaph lies behind that. */
static orion_status_t ended(orion_tcp_link_t *link, const char *otherwise)
{
    _Alignas(8) uint8_t last[ORION_EPITAPH_FRAME_BYTES];
    orion_record_t head;
    if (link->key.proven ? read_last_words(link, last)
                         : orion_bytestream_last_words(link->stream, last, sizeof(last)) ||
                               orion_frames_last(&link->frames, last, sizeof(last))) {
        memcpy(&head, last, sizeof(head));
        if (head.opcode == ORION_FRAME_NOTICE && head.bytes == sizeof(last) && head.epoch == link->epoch &&
            read_epitaph(link, last + sizeof(head)))
            return ORION_PEER_GONE;
    }
    return declare_gone(link, 0, otherwise);
}

static orion_status_t garbage(orion_tcp_link_t *link, const char *what)
{
    char text[200];
    orion_explain(text, sizeof(text), "the server sent garbage: %s", what);
    return ended(link, text);
}

/* The server says something every second while it lives; `since`: when we began to wait for it. */
static orion_status_t lose_patience(orion_tcp_link_t *link, int64_t since_ns)
{
    char text[240];
    int64_t heard = orion_load_relaxed(&link->heard_at), now = orion_clock_ns();
    if (since_ns > heard)
        heard = since_ns;
    if (link->patience_ns == 0 || now - heard <= link->patience_ns)
        return ORION_OK;
    orion_explain(
        text, sizeof(text),
        "no sign of life came from it for %d s (ORION_TCP_TIMEOUT): the network is down or the server stopped",
        (int)(link->patience_ns / ORION_NS_PER_S));
    return declare_gone(link, 0, text);
}

/* ---- frames; all with the role ---- */

static orion_status_t deliver_reply(orion_tcp_link_t *link, const orion_record_t *frame)
{
    orion_frame_reply_t fixed;
    uint32_t payload = orion_record_payload_bytes(frame);
    if (frame->slot >= ORION_REPLY_SLOTS || payload < sizeof(fixed))
        return garbage(link, "a reply to nobody");
    memcpy(&fixed, orion_record_payload_const(frame), sizeof(fixed));
    if (fixed.bytes > payload - sizeof(fixed) || fixed.bytes > ORION_REPLY_DATA)
        return garbage(link, "a reply that claims more than it holds");
    orion_reply_t *reply = &link->replies[frame->slot];
    memcpy(reply->data, (const uint8_t *)orion_record_payload_const(frame) + sizeof(fixed), fixed.bytes);
    reply->result = fixed.result;
    reply->sticky = fixed.sticky;
    reply->bytes = fixed.bytes;
    orion_store_release(&reply->sequence, frame->sequence); /* release: pairs with the acquire in arrived */
    return ORION_OK;
}

static orion_status_t deliver(orion_tcp_link_t *link, const orion_record_t *frame)
{
    switch (frame->opcode) {
    case ORION_FRAME_REPLY:
        return deliver_reply(link, frame);
    case ORION_FRAME_STAGE: /* its bytes are in the chunk: place() has looked at the index */
    case ORION_FRAME_DONE:
        if (frame->slot >= ORION_STAGE_COUNT)
            return garbage(link, "an unknown staging chunk");
        orion_store_release(&link->stage_done[frame->slot], frame->sequence); /* release: pairs with arrived */
        return ORION_OK;
    case ORION_FRAME_EVENT:
        if (!orion_tcp_deliver_event(link, frame))
            return garbage(link, "more events than it may send");
        return ORION_OK;
    case ORION_FRAME_PULSE:
        return ORION_OK;
    case ORION_FRAME_NOTICE:
        if (orion_record_payload_bytes(frame) == sizeof(orion_notice_t) &&
            read_epitaph(link, orion_record_payload_const(frame)))
            return ORION_PEER_GONE;
        return garbage(link, "a notice that is none");
    default:
        return garbage(link, "a frame of unknown kind");
    }
}

/* All frames that have come, or those up to what is wanted: where the next chunk goes may be known then. */
static orion_status_t deliver_all(orion_tcp_link_t *link, const orion_tcp_want_t *want)
{
    const orion_record_t *frame;
    orion_status_t status;
    bool any = false;
    while ((status = orion_frames_next(&link->frames, &frame)) == ORION_OK) {
        status = deliver(link, frame);
        if (status != ORION_OK)
            return status;
        any = true;
        if (arrived(link, want)) {
            status = ORION_AGAIN;
            break;
        }
    }
    if (any)
        wake_waiters(link, false);
    return status == ORION_AGAIN ? ORION_OK : garbage(link, link->frames.complaint);
}

/* ORION_AGAIN: nothing came. */
static orion_status_t receive(orion_tcp_link_t *link, bool wait)
{
    orion_status_t status = orion_frames_receive(&link->frames, link->stream, wait);
    if (status == ORION_PEER_GONE)
        return ended(link, "the server, or the network to it, closed the connection without saying why");
    if (status == ORION_PROTOCOL)
        return garbage(link, link->frames.complaint);
    if (status == ORION_OK)
        orion_store_relaxed(&link->heard_at, orion_clock_ns());
    return status;
}

static orion_status_t look(void *self)
{
    return receive(self, false);
}

/* Reads until it has come. */
static orion_status_t pump(orion_tcp_link_t *link, const orion_tcp_want_t *want, int64_t since_ns, int64_t deadline_ns)
{
    for (;;) {
        orion_status_t status = deliver_all(link, want);
        if (arrived(link, want))
            return ORION_OK;
        if (status != ORION_OK)
            return status;
        int64_t now = orion_clock_ns(), left = deadline_ns == INT64_MAX ? ORION_TCP_SLICE_NS : deadline_ns - now;
        status = orion_spin(&link->spin, link->stream, left, look, link);
        if (status == ORION_AGAIN && left >= ORION_TCP_SLICE_NS) {
            status = receive(link, true);
            orion_spin_slept(&link->spin, orion_clock_ns() - now);
        } else if (status == ORION_AGAIN && left > 0) {
            if (orion_bytestream_wait(link->stream, ORION_BYTESTREAM_READ, left) == ORION_OK)
                status = receive(link, false);
        }
        if (status == ORION_AGAIN) {
            if (deadline_ns != INT64_MAX && orion_clock_ns() >= deadline_ns)
                return ORION_TIMEOUT;
            status = lose_patience(link, since_ns);
        }
        if (status == ORION_OK)
            status = orion_tcp_state(link); /* another thread may have found the end */
        if (status != ORION_OK)
            return status;
    }
}

orion_status_t orion_tcp_wait(orion_tcp_link_t *link, const orion_tcp_want_t *want, int64_t deadline_ns)
{
    orion_status_t status = orion_tcp_state(link);
    if (status == ORION_OK)
        status = orion_tcp_flush(link);
    int64_t since = orion_clock_ns();
    while (!arrived(link, want)) {
        if (status != ORION_OK)
            return status;
        if (sleep_beside(link, want, deadline_ns)) {
            status = orion_tcp_state(link);
            link->direct = want;
            if (status == ORION_OK)
                status = pump(link, want, since, deadline_ns);
            link->direct = &orion_tcp_nothing;
            release_role(link);
        } else if (deadline_ns != INT64_MAX && orion_clock_ns() >= deadline_ns) {
            status = ORION_TIMEOUT;
        } else {
            status = orion_tcp_state(link);
        }
    }
    return ORION_OK;
}

orion_status_t orion_tcp_wait_writable(orion_tcp_link_t *link, int64_t since_ns)
{
    orion_status_t status = ORION_OK;
    if (take_role(link)) {
        (void)orion_bytestream_wait(link->stream, ORION_BYTESTREAM_READ | ORION_BYTESTREAM_WRITE, ORION_TCP_SLICE_NS);
        status = receive(link, false);
        if (status == ORION_OK)
            status = deliver_all(link, &orion_tcp_nothing);
        release_role(link);
    } else { /* whoever has the role reads meanwhile */
        (void)orion_bytestream_wait(link->stream, ORION_BYTESTREAM_WRITE, ORION_TCP_SLICE_NS);
        status = orion_tcp_state(link);
    }
    return status == ORION_OK || status == ORION_AGAIN ? lose_patience(link, since_ns) : status;
}

orion_status_t orion_tcp_look(orion_tcp_link_t *link)
{
    orion_status_t status = orion_tcp_state(link);
    if (status != ORION_OK || !take_role(link))
        return status;
    do {
        status = deliver_all(link, &orion_tcp_nothing);
        if (status == ORION_OK)
            status = receive(link, false);
    } while (status == ORION_OK);
    release_role(link);
    return orion_tcp_state(link);
}

orion_status_t orion_tcp_lost(orion_tcp_link_t *link)
{
    const struct timespec pause = {.tv_nsec = ORION_TCP_SLICE_NS};
    for (int turn = 0; turn < LOST_TURNS && orion_tcp_look(link) == ORION_OK; turn++)
        (void)nanosleep(&pause, NULL); /* whoever has the role reads on to the end */
    if (orion_tcp_state(link) == ORION_OK)
        (void)declare_gone(link, 0, "the connection to it broke");
    return orion_tcp_state(link);
}
