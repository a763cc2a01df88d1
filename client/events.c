/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event ring's reader. One thread at a time reads (read_lock): the event thread, which starts at the first need,
 * or a thread that has just synchronised and wants printed text out. Host functions run on the event thread alone.
 */
#include "events.h"

#include "orion_generated/calls.h"
#include "say.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVENT_MOST 4096
#define WAIT_NS (100 * 1000 * 1000)

enum { EVENT_HOST_FUNCTION = 1, EVENT_STDOUT = 2, EVENT_STDERR = 3 };

typedef struct {
    uint32_t kind, bytes;
    uint64_t cookie;
    char data[EVENT_MOST - 16];
} event_t;

typedef struct expected {
    struct expected *next;
    uint64_t cookie;
    orion_host_fn function;
    void *argument;
    int arrived;
} expected_t;

static orion_lock_t read_lock, expected_lock, start_lock;
static expected_t *expected;
static uint64_t next_cookie = 1;
static uint32_t started;

static void print(FILE *stream, const char *text, size_t bytes)
{
    fwrite(text, 1, bytes, stream);
    fflush(stream);
}

static void mark_arrived(uint64_t cookie)
{
    orion_lock(&expected_lock);
    for (expected_t *e = expected; e; e = e->next)
        if (e->cookie == cookie)
            e->arrived = 1;
    orion_unlock(&expected_lock);
}

/* Reads one event. A host function is only marked: whoever reads here may not be the event thread. */
static orion_status_t read_one(orion_session_t *session, int64_t timeout_ns)
{
    event_t event;
    size_t bytes = 0;
    orion_status_t status = orion_link_event_wait(session->link, timeout_ns, &event, sizeof event, &bytes);
    if (status)
        return status;
    if (bytes < 16 || event.bytes > bytes - 16)
        return ORION_PROTOCOL;
    switch (event.kind) {
    case EVENT_HOST_FUNCTION:
        mark_arrived(event.cookie);
        break;
    case EVENT_STDOUT:
        print(stdout, event.data, event.bytes);
        break;
    case EVENT_STDERR:
        print(stderr, event.data, event.bytes);
        break;
    default:
        orion_debug("event of unknown kind %u", event.kind);
    }
    return ORION_OK;
}

/* Takes an arrived function out of the list, oldest first. */
static expected_t *take_arrived(void)
{
    expected_t *found = NULL;
    orion_lock(&expected_lock);
    for (expected_t **link = &expected; *link; link = &(*link)->next) {
        if ((*link)->arrived) {
            found = *link;
            *link = found->next;
            break;
        }
    }
    orion_unlock(&expected_lock);
    return found;
}

static void run_arrived(orion_session_t *session)
{
    expected_t *e;
    while ((e = take_arrived())) {
        e->function(e->argument, orion_session_sticky(session));
        orion_post_orionHostFuncDone(session, e->cookie);
        free(e);
    }
}

static void *event_thread(void *argument)
{
    orion_session_t *session = argument;
    orion_status_t status = ORION_OK;
    size_t none;
    while (__atomic_load_n(&session->state, __ATOMIC_ACQUIRE) == ORION_SESSION_READY) {
        /* Without room for it the event stays: the lock is not held while this thread sleeps. */
        status = orion_link_event_wait(session->link, WAIT_NS, NULL, 0, &none);
        if (status == ORION_TOO_BIG) {
            orion_lock(&read_lock);
            status = read_one(session, 0);
            orion_unlock(&read_lock);
        }
        run_arrived(session);
        if (status != ORION_OK && status != ORION_AGAIN && status != ORION_TIMEOUT)
            break;
    }
    if (status == ORION_PEER_GONE || status == ORION_PROTOCOL)
        orion_session_lost(session, status);
    return NULL;
}

CUresult orion_events_start(orion_session_t *session)
{
    CUresult result = CUDA_SUCCESS;
    pthread_t thread;
    sigset_t all, before;

    if (__atomic_load_n(&started, __ATOMIC_ACQUIRE))
        return CUDA_SUCCESS;
    orion_lock(&start_lock);
    if (!started) {
        /* Signals belong to the application's threads. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        if (pthread_create(&thread, NULL, event_thread, session) == 0) {
            pthread_detach(thread);
            __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
        } else {
            result = CUDA_ERROR_OPERATING_SYSTEM;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    orion_unlock(&start_lock);
    return result;
}

CUresult orion_events_expect(orion_session_t *session, orion_host_fn function, void *argument, uint64_t *cookie_p)
{
    CUresult result = orion_events_start(session);
    if (result)
        return result;
    expected_t *e = calloc(1, sizeof *e);
    if (!e)
        return CUDA_ERROR_OUT_OF_MEMORY;
    e->function = function;
    e->argument = argument;
    orion_lock(&expected_lock);
    *cookie_p = e->cookie = next_cookie++;
    expected_t **link = &expected;
    while (*link)
        link = &(*link)->next;
    *link = e;
    orion_unlock(&expected_lock);
    return CUDA_SUCCESS;
}

void orion_events_forget(uint64_t cookie)
{
    orion_lock(&expected_lock);
    for (expected_t **link = &expected; *link; link = &(*link)->next) {
        if ((*link)->cookie == cookie) {
            expected_t *e = *link;
            *link = e->next;
            free(e);
            break;
        }
    }
    orion_unlock(&expected_lock);
}

void orion_events_drain(orion_session_t *session)
{
    orion_lock(&read_lock);
    while (read_one(session, 0) == ORION_OK) {
    }
    orion_unlock(&read_lock);
}
