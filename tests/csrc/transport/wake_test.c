/* SPDX-License-Identifier: Apache-2.0 */
/* Wakes that come at the wrong instant, found by tests/model: here the other side stands still at that instant. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "../check.h"
#include "../sleeper.h"
#include "transport/memory.h"
#include "transport/port.h"

typedef struct desk { /* a client's link to a worker that this test plays */
    orion_memory_link_t *link;
    orion_port_t *port;
    orion_command_control_t *command;
    orion_reply_control_t *reply;
} desk_t;

static void *pages(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    return p;
}

static void desk_make(desk_t *d)
{
    char why[200];
    orion_welcome_t welcome;
    orion_port_config_t config = {.epoch = 3, .witness_fd = -1};
    d->command = pages(ORION_COMMAND_SEGMENT_BYTES);
    d->reply = pages(ORION_REPLY_SEGMENT_BYTES);
    MUST(orion_port_attach(&config, d->command, d->reply, &d->port, why, sizeof(why)) == ORION_OK);
    orion_welcome_init(&welcome);
    orion_port_describe(d->port, &welcome);
    d->link = orion_memory_create("memory", "test", why, sizeof(why));
    MUST(d->link != NULL);
    d->link->command_segment.address = d->command;
    d->link->reply_segment.address = d->reply;
    MUST(orion_memory_start(d->link, &welcome, why, sizeof(why)) == ORION_OK);
}

static void desk_free(desk_t *d)
{
    d->link->command_segment.address = d->link->reply_segment.address = NULL; /* the desk's, not segments */
    orion_link_close(&d->link->base);
    orion_port_close(d->port);
    (void)munmap(d->command, ORION_COMMAND_SEGMENT_BYTES);
    (void)munmap(d->reply, ORION_REPLY_SEGMENT_BYTES);
}

static void post(desk_t *d)
{
    orion_record_t *record;
    MUST(orion_link_claim(&d->link->base, ORION_RECORD_HEADER, &record) == ORION_OK);
    record->opcode = 1;
    record->slot = ORION_SLOT_NONE;
    record->sequence = 0;
    orion_link_commit(&d->link->base);
}

static void a_wake_that_came_before_the_sleep_is_followed_by_another(void)
{
    desk_t d;
    desk_make(&d);
    orion_store_release(&d.reply->worker_sleeping, 1); /* it says that it will sleep, and still takes what comes */
    post(&d);                                          /* wakes nobody */
    sleeper_t s = {.word = &d.command->head, .old = orion_load_relaxed(&d.command->head)};
    sleeper_start(&s); /* now it sleeps: it has seen that record */
    post(&d);
    CHECK_EQUAL(sleeper_join(&s), ORION_OK);
    desk_free(&d);
}

static void a_burst_wakes_once(void)
{
    desk_t d;
    desk_make(&d);
    orion_store_release(&d.reply->worker_sleeping, 1);
    sleeper_t s = {.word = &d.command->head, .old = orion_load_relaxed(&d.command->head)};
    sleeper_start(&s);
    post(&d);
    CHECK_EQUAL(sleeper_join(&s), ORION_OK);
    CHECK_EQUAL(d.link->woken, 1);
    post(&d); /* still the same sleep, which is over: nothing to do */
    CHECK_EQUAL(d.link->woken, 1);
    desk_free(&d);
}

CHECK_MAIN(CASE(a_wake_that_came_before_the_sleep_is_followed_by_another), CASE(a_burst_wakes_once))
