/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads and their reply slots. A thread takes a slot at its first call and gives it back when it ends; when all
 * are taken, late threads share the last one, a call at a time.
 */
#include "session.h"

#include "context.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static orion_lock_t slots_lock, shared_lock;
static uint64_t slots_taken[ORION_SLOTS_MAX / 64];
static uint32_t slot_sequence[ORION_SLOTS_MAX]; /* where the next owner of a slot goes on counting */

static uint32_t slot_count(const orion_session_t *session)
{
    uint32_t slots = session->welcome.slots;
    return slots && slots < ORION_SLOTS_MAX ? slots : ORION_SLOTS_MAX;
}

static void give_back(orion_thread_t *thread)
{
    if (thread->slot == ORION_SLOT_NONE)
        return;
    orion_lock(&slots_lock);
    slot_sequence[thread->slot] = thread->sequence;
    slots_taken[thread->slot / 64] &= ~(1ull << (thread->slot % 64));
    orion_unlock(&slots_lock);
}

/* Runs as the thread ends. A later destructor of the thread may still call CUDA and then gets a new state. */
static void thread_ends(void *argument)
{
    orion_thread_t *thread = argument;
    orion_tls.thread = NULL;
    give_back(thread);
    free(thread->copy);
    free(thread);
}

static void make_key(void)
{
    if (pthread_key_create(&key, thread_ends) != 0)
        abort();
}

static void take_slot(orion_session_t *session, orion_thread_t *thread)
{
    uint32_t own = slot_count(session) - 1; /* the last one is for sharing */
    thread->slot = ORION_SLOT_NONE;
    orion_lock(&slots_lock);
    for (uint32_t slot = 0; slot < own; slot++) {
        if (slots_taken[slot / 64] & (1ull << (slot % 64)))
            continue;
        slots_taken[slot / 64] |= 1ull << (slot % 64);
        thread->slot = slot;
        thread->sequence = slot_sequence[slot];
        break;
    }
    orion_unlock(&slots_lock);
}

orion_thread_t *orion_thread_self(orion_session_t *session)
{
    orion_thread_t *thread = orion_tls.thread;
    if (thread)
        return thread;
    pthread_once(&key_once, make_key);
    thread = calloc(1, sizeof *thread);
    if (!thread)
        return NULL;
    take_slot(session, thread);
    if (pthread_setspecific(key, thread) != 0) {
        give_back(thread);
        free(thread);
        return NULL;
    }
    orion_tls.thread = thread;
    return thread;
}

uint32_t orion_thread_slot(orion_session_t *session)
{
    orion_thread_t *thread = orion_thread_self(session);
    return thread && thread->slot != ORION_SLOT_NONE ? thread->slot : slot_count(session) - 1;
}

uint8_t *orion_thread_copy(orion_session_t *session)
{
    orion_thread_t *thread = orion_thread_self(session);
    if (thread && !thread->copy)
        thread->copy = malloc(ORION_REPLY_DATA);
    return thread ? thread->copy : NULL;
}

uint32_t orion_slot_lend(orion_session_t *session, uint32_t *sequence_p)
{
    uint32_t slot = slot_count(session) - 1;
    orion_lock(&shared_lock);
    *sequence_p = ++slot_sequence[slot];
    return slot;
}

void orion_slot_return(orion_session_t *session, uint32_t sequence)
{
    slot_sequence[slot_count(session) - 1] = sequence;
    orion_unlock(&shared_lock);
}

void orion_threads_forget_after_fork(void)
{
    slots_lock.word = shared_lock.word = 0;
    orion_tls.current = NULL;
    if (orion_tls.thread)
        orion_tls.thread->depth = 0;
}
