/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session of this process: found and opened by cuInit, lost when the server or its worker dies, abandoned by a
 * forked child, closed at exit.
 */
#include "session.h"

#include "allocation.h"
#include "arena.h"
#include "context.h"
#include "device.h"
#include "events.h"
#include "handles.h"
#include "orion_generated/calls.h"
#include "patience.h"
#include "place.h"
#include "ranges.h"
#include "runtimes.h"
#include "say.h"
#include "wishes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "wire/token.h"

orion_session_t orion_the_session = {.gate = 1, .epoch = 1};

static orion_lock_t open_lock;
static int said_lost;
static uint32_t leaving; /* goodbye is being said: the peer may go any moment */

static CUresult fail(CUresult result, const char *sentence)
{
    static char said[512]; /* under open_lock: cuInit is tried by every copy of the runtime, once is enough */
    orion_the_session.init_result = (int32_t)result;
    if (strncmp(said, sentence, sizeof said - 1)) {
        size_t length = strnlen(sentence, sizeof said - 1);
        memcpy(said, sentence, length);
        said[length] = 0;
        orion_say("%s", sentence);
    }
    return result;
}

/* CUDA_ERROR_NOT_INITIALIZED is what CUDA answers in a child whose parent had initialised it. */
static void fork_child(void)
{
    orion_session_t *session = &orion_the_session;
    if (session->state != ORION_SESSION_READY)
        return;
    session->state = ORION_SESSION_FORKED;
    session->gate = 1;
    session->producer.word = 0;
    open_lock.word = 0;
    orion_threads_forget_after_fork();
    orion_link_abandon_after_fork(session->link);
    session->link = NULL;
}

static void watch_forks(void)
{
    static int watching;
    if (!watching && pthread_atfork(NULL, NULL, fork_child) == 0)
        watching = 1;
}

static orion_status_t open_link(orion_session_t *session, const char *address, const orion_hello_t *hello, char *why,
                                size_t why_bytes)
{
    memset(&session->welcome, 0, sizeof session->welcome);
    return orion_link_open(address, hello, &session->welcome, &session->link, why, why_bytes);
}

/* At the server to which the controller sends us: its unix socket if we see it, else its address. */
static orion_status_t open_place(orion_session_t *session, const orion_redirect_t *place, const orion_hello_t *hello,
                                 char *why, size_t why_bytes)
{
    char local[sizeof place->local + 8];
    bool any = hello->transport == ORION_TRANSPORT_ANY;
    snprintf(local, sizeof local, "unix:%s", place->local);
    if ((any || hello->transport == ORION_TRANSPORT_MEMFD) && place->local[0] && access(place->local, F_OK) == 0) {
        orion_status_t status = open_link(session, local, hello, why, why_bytes);
        /* In another mount namespace that path may be somebody else's: the address is sure. */
        if (!status || !any || !place->address[0])
            return status;
    }
    if (!place->address[0]) {
        snprintf(
            why, why_bytes,
            "the controller sends us to %s, which is not in reach from here, and that server has no address: start "
            "it with --bind",
            local);
        return ORION_SYSTEM;
    }
    return open_link(session, place->address, hello, why, why_bytes);
}

/* Through the socket that the node mounts. Where that cannot be, or tcp is wished for, the node may have said how else
 * to reach the same server, and with which token; if that fails, too, the first sentence is the one that helps. */
static orion_status_t open_mounted(orion_session_t *session, const char *address, const orion_hello_t *hello, char *why,
                                   size_t why_bytes)
{
    char second[512] = "";
    orion_allocation_t allocation;
    bool other = orion_allocation_read(ORION_ALLOCATION_FILE, &allocation);
    orion_status_t status = ORION_SYSTEM;
    if (!other || hello->transport != ORION_TRANSPORT_TCP)
        status = open_link(session, address, hello, why, why_bytes);
    if (status != ORION_SYSTEM || !other)
        return status;
    orion_token_choose(allocation.token, true);
    status = open_link(session, allocation.endpoint, hello, second, sizeof second);
    if (status && !why[0])
        snprintf(why, why_bytes, "%s", second);
    return status;
}

/* At a server of our own choice. One that has no room is asked again, as often as somebody who waits would like to know. */
static orion_status_t open_patiently(orion_session_t *session, const char *address, bool mounted,
                                     const orion_hello_t *hello, int64_t seconds, char *why, size_t why_bytes)
{
    static const struct timespec pause = {.tv_nsec = 250 * 1000 * 1000};
    orion_patience_t patience;
    orion_patience_init(&patience, "server", address, seconds);
    for (;;) {
        orion_status_t status = mounted ? open_mounted(session, address, hello, why, why_bytes)
                                        : open_link(session, address, hello, why, why_bytes);
        if (status == ORION_OK)
            orion_patience_rewarded(&patience);
        if (status != ORION_REFUSED || session->welcome.status != ORION_AGAIN || seconds == 0)
            return status;
        if (!orion_patience_lasts(&patience, session->welcome.message)) {
            orion_patience_explain(&patience, why, why_bytes);
            return status;
        }
        why[0] = '\0';
        nanosleep(&pause, NULL);
    }
}

static CUresult connect_locked(orion_session_t *session)
{
    char why[512] = "", socket[128];
    bool is_controller;
    orion_wishes_t wishes;
    orion_hello_t hello;
    orion_status_t status;
    int32_t refused = 0;

    if (orion_runtime_too_old(socket, sizeof socket)) {
        orion_runtime_advise(why, sizeof why, socket);
        return fail(CUDA_ERROR_NOT_SUPPORTED, why);
    }
    if (!orion_wishes_read(&wishes, why, sizeof why))
        return fail(CUDA_ERROR_INVALID_VALUE, why);
    const char *address = orion_server_address(socket, sizeof socket, &is_controller, why, sizeof why);
    if (!address)
        return fail(CUDA_ERROR_NO_DEVICE, why);

    orion_hello_init(&hello); /* flags and address ranges are the link's business */
    hello.wish_gmem_mib = wishes.gmem_mib;
    hello.wish_vgpu = wishes.vgpu;
    hello.wish_ratio = wishes.ratio;
    hello.transport = wishes.transport;
    if (is_controller) {
        orion_redirect_t place;
        hello.flags = wishes.cross_node ? ORION_FLAG_CROSS_NODE : 0;
        status = orion_place_find(address, &hello, &wishes, &place, &refused, why, sizeof why);
        hello.flags = 0;
        if (!status) {
            status = open_place(session, &place, &hello, why, sizeof why);
            refused = session->welcome.cuda_result;
        }
    } else {
        status = open_patiently(session, address, address == socket, &hello, wishes.wait, why, sizeof why);
        refused = session->welcome.cuda_result;
    }
    if (status)
        return fail(status == ORION_REFUSED && refused > 0 ? (CUresult)refused : CUDA_ERROR_NO_DEVICE,
                    why[0] ? why : orion_status_name(status));
    return CUDA_SUCCESS;
}

CUresult orion_session_open(void)
{
    orion_session_t *session = &orion_the_session;
    CUresult result = CUDA_SUCCESS;

    uint32_t state = __atomic_load_n(&session->state, __ATOMIC_ACQUIRE);
    if (state == ORION_SESSION_READY)
        return CUDA_SUCCESS;
    if (state == ORION_SESSION_FORKED)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (state == ORION_SESSION_CLOSED)
        return CUDA_ERROR_DEINITIALIZED;

    orion_lock(&open_lock);
    if (session->state == ORION_SESSION_READY)
        goto out;
    result = connect_locked(session);
    if (result)
        goto out;
    session->pid = (int)getpid();
    orion_arena_init(session);
    /* The gate opens for this thread's describe; others still see state NONE and say NOT_INITIALIZED. */
    __atomic_store_n(&session->gate, 0, __ATOMIC_RELEASE);
    result = orion_device_describe(session);
    if (result) {
        __atomic_store_n(&session->gate, 1, __ATOMIC_RELEASE);
        orion_link_close(session->link);
        session->link = NULL;
        result = fail(result, "the server does not describe its device; is it of the same version as this client?");
        goto out;
    }
    session->device_count = orion_device_visible(getenv("CUDA_VISIBLE_DEVICES"), session->device.uuid) ? 1 : 0;
    watch_forks();
    /* release: pairs with the acquire in orion_enter(): everything above is seen by whoever sees READY */
    __atomic_store_n(&session->state, ORION_SESSION_READY, __ATOMIC_RELEASE);
out:
    orion_unlock(&open_lock);
    if (!result && session->device_count == 0)
        result = CUDA_ERROR_NO_DEVICE;
    return result;
}

void orion_session_set_sticky(orion_session_t *session, CUresult result)
{
    int32_t none = 0;
    __atomic_compare_exchange_n(&session->sticky, &none, (int32_t)result, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    __atomic_store_n(&session->gate, 1, __ATOMIC_RELEASE);
}

void orion_session_clear_sticky(orion_session_t *session)
{
    if (session->link && __atomic_load_n(&session->state, __ATOMIC_RELAXED) == ORION_SESSION_READY) {
        __atomic_store_n(&session->sticky, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&session->gate, 0, __ATOMIC_RELEASE);
    }
}

/* A dead worker leaves an epitaph with the result that CUDA would give (a wild pointer: ILLEGAL_ADDRESS). Without one
 * (killed from outside, server gone) it is DEVICE_UNAVAILABLE: nothing is known about the program's own doing. */
CUresult orion_session_lost(orion_session_t *session, orion_status_t status)
{
    char why[256] = "";
    int32_t result = 0;

    if (status == ORION_TOO_BIG || status == ORION_NO_MEMORY)
        return orion_status_result(status);
    if (orion_session_sticky(session))
        return orion_session_sticky(session);
    if (status == ORION_INVALID) /* a forked child got past the gate */
        return CUDA_ERROR_NOT_INITIALIZED;
    orion_link_probe(session->link, why, sizeof why, &result);
    if (result <= 0)
        result = CUDA_ERROR_DEVICE_UNAVAILABLE;
    orion_session_set_sticky(session, (CUresult)result);
    if (!__atomic_load_n(&leaving, __ATOMIC_RELAXED) && !__atomic_exchange_n(&said_lost, 1, __ATOMIC_RELAXED)) {
        if (why[0])
            orion_say("%s", why);
        else
            orion_say("lost the session on \"%s\": %s; every CUDA call of this process fails from now on",
                      session->welcome.device, orion_status_name(status));
    }
    return orion_session_sticky(session);
}

/* Runs when the library is finalised. Destructors of other libraries may still call: they get DEINITIALIZED, which
 * the CUDA runtime understands. Memory stays mapped, other threads may be anywhere. */
__attribute__((destructor)) static void say_goodbye(void)
{
    orion_session_t *session = &orion_the_session;
    if (session->state != ORION_SESSION_READY || session->pid != (int)getpid())
        return;
    orion_events_drain(session);
    __atomic_store_n(&leaving, 1, __ATOMIC_RELAXED);
    if (!orion_session_sticky(session) && !orion_call_orionGoodbye(session))
        orion_events_drain(session);
    __atomic_store_n(&session->state, ORION_SESSION_CLOSED, __ATOMIC_RELEASE);
    __atomic_store_n(&session->gate, 1, __ATOMIC_RELEASE);
}
