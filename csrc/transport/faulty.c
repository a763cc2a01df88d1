/* SPDX-License-Identifier: Apache-2.0 */
/* The fault-injecting link, see faulty.h. Faults are drawn under the caller's producer lock. */
#define _GNU_SOURCE
#include "transport/faulty.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "shm/layout.h"

typedef struct faulty_link {
    orion_link_t base;
    orion_link_t *inner;
    orion_fault_plan_t plan;
    uint64_t random;
    uint64_t commits;
    orion_record_t *claimed;
    uint32_t dead;                       /* atomic: other threads look */
    uint32_t dropped[ORION_REPLY_SLOTS]; /* atomic: sequence of the slot's latest lost call */
} faulty_link_t;

static faulty_link_t *faulty(orion_link_t *link)
{
    return (faulty_link_t *)link;
}

static uint64_t draw(faulty_link_t *f)
{ /* xorshift64* */
    f->random ^= f->random >> 12;
    f->random ^= f->random << 25;
    f->random ^= f->random >> 27;
    return f->random * 0x2545f4914f6cdd1dULL;
}

static bool chance(faulty_link_t *f, uint32_t ppm)
{
    return ppm != 0 && (draw(f) >> 32) % 1000000u < ppm;
}

static void sleep_us(uint64_t us)
{
    struct timespec t = {.tv_sec = (time_t)(us / 1000000u), .tv_nsec = (long)(us % 1000000u) * 1000};
    (void)nanosleep(&t, NULL);
}

static bool dead(faulty_link_t *f)
{
    return orion_load_acquire(&f->dead) != 0;
} /* acquire: pairs with faulty_commit */

static orion_status_t faulty_claim(orion_link_t *link, uint32_t bytes, orion_record_t **record_p)
{
    faulty_link_t *f = faulty(link);
    if (dead(f))
        return ORION_PEER_GONE;
    orion_status_t status = orion_link_claim(f->inner, bytes, record_p);
    if (status == ORION_OK)
        f->claimed = *record_p;
    return status;
}

static void faulty_commit(orion_link_t *link)
{
    faulty_link_t *f = faulty(link);
    orion_record_t *record = f->claimed;
    if (record == NULL || dead(f))
        return;
    f->claimed = NULL;
    f->commits++;
    if (f->plan.die_after != 0 && f->commits > f->plan.die_after) {
        orion_store_release(&f->dead, 1); /* release: pairs with the acquire in dead() */
        return;
    }
    if (chance(f, f->plan.delay_ppm))
        sleep_us(f->plan.delay_us);
    if (chance(f, f->plan.drop_ppm)) {
        /* never committed: the next claim takes the same room. release: pairs with the acquire in faulty_await */
        if (record->slot < ORION_REPLY_SLOTS)
            orion_store_release(&f->dropped[record->slot], record->sequence);
        return;
    }
    if (chance(f, f->plan.garbage_ppm)) {
        uint32_t bytes = record->bytes;
        for (uint32_t at = 0; at + 8 <= bytes; at += 8) {
            uint64_t word = draw(f);
            memcpy((uint8_t *)record + at, &word, sizeof(word));
        }
    }
    orion_link_commit(f->inner);
}

static orion_status_t faulty_await(orion_link_t *link, uint32_t slot, uint32_t sequence, const orion_reply_t **reply_p)
{
    faulty_link_t *f = faulty(link);
    if (dead(f))
        return ORION_PEER_GONE;
    if (slot < ORION_REPLY_SLOTS && orion_load_acquire(&f->dropped[slot]) == sequence && sequence != 0) {
        sleep_us(f->plan.timeout_ms * 1000);
        return ORION_TIMEOUT;
    }
    return orion_link_await(f->inner, slot, sequence, reply_p);
}

static orion_status_t faulty_stage_claim(orion_link_t *link, orion_stage_t *stage_p)
{
    return dead(faulty(link)) ? ORION_PEER_GONE : orion_link_stage_claim(faulty(link)->inner, stage_p);
}

static orion_status_t faulty_stage_send(orion_link_t *link, const orion_stage_t *stage, const void *from, size_t bytes)
{
    return dead(faulty(link)) ? ORION_PEER_GONE : orion_link_stage_send(faulty(link)->inner, stage, from, bytes);
}

static void faulty_stage_abort(orion_link_t *link, const orion_stage_t *stage)
{
    orion_link_stage_abort(faulty(link)->inner, stage);
}

static orion_status_t faulty_stage_await(orion_link_t *link, const orion_stage_t *stage)
{
    return dead(faulty(link)) ? ORION_PEER_GONE : orion_link_stage_await(faulty(link)->inner, stage);
}

static orion_status_t faulty_stage_collect(orion_link_t *link, const orion_stage_t *stage, void *to, size_t bytes)
{
    return dead(faulty(link)) ? ORION_PEER_GONE : orion_link_stage_collect(faulty(link)->inner, stage, to, bytes);
}

static orion_status_t faulty_extent_map(orion_link_t *link, uint64_t offset, uint64_t bytes, void **p)
{
    return dead(faulty(link)) ? ORION_PEER_GONE : orion_link_extent_map(faulty(link)->inner, offset, bytes, p);
}

static orion_status_t faulty_extent_unmap(orion_link_t *link, uint64_t offset, uint64_t bytes)
{
    return orion_link_extent_unmap(faulty(link)->inner, offset, bytes);
}

static orion_status_t faulty_event_wait(orion_link_t *link, int64_t timeout_ns, void *buffer, size_t capacity,
                                        size_t *bytes_p)
{
    if (dead(faulty(link)))
        return ORION_PEER_GONE;
    return orion_link_event_wait(faulty(link)->inner, timeout_ns, buffer, capacity, bytes_p);
}

static orion_status_t faulty_probe(orion_link_t *link, char *why, size_t why_bytes, int32_t *cuda_result_p)
{
    if (!dead(faulty(link)))
        return orion_link_probe(faulty(link)->inner, why, why_bytes, cuda_result_p);
    orion_explain(why, why_bytes, "the session is over: a planned fault (ORION_FAULTS) ended it");
    if (cuda_result_p != NULL)
        *cuda_result_p = 0;
    return ORION_PEER_GONE;
}

static void faulty_fork_child(orion_link_t *link)
{
    orion_link_abandon_after_fork(faulty(link)->inner);
}

static void faulty_close(orion_link_t *link)
{
    orion_link_close(faulty(link)->inner);
    free(link);
}

static const orion_link_ops_t faulty_ops = {
    .name = "faulty",
    .claim = faulty_claim,
    .commit = faulty_commit,
    .await = faulty_await,
    .stage_claim = faulty_stage_claim,
    .stage_send = faulty_stage_send,
    .stage_abort = faulty_stage_abort,
    .stage_await = faulty_stage_await,
    .stage_collect = faulty_stage_collect,
    .extent_map = faulty_extent_map,
    .extent_unmap = faulty_extent_unmap,
    .event_wait = faulty_event_wait,
    .probe = faulty_probe,
    .fork_child = faulty_fork_child,
    .close = faulty_close,
};

static bool number(const char *text, const char *key, uint64_t *value_p)
{
    char value[32];
    return !orion_parse_option(text, ',', key, value, sizeof(value)) || orion_parse_u64(value, value_p);
}

static bool part(const char *text, const char *key, uint32_t *ppm_p)
{
    char value[32];
    return !orion_parse_option(text, ',', key, value, sizeof(value)) || orion_parse_ppm(value, ppm_p);
}

orion_status_t orion_fault_plan_parse(const char *text, orion_fault_plan_t *plan_p)
{
    orion_fault_plan_t plan = {.delay_us = 100, .timeout_ms = 50, .seed = 1};
    if (!part(text, "drop", &plan.drop_ppm) || !part(text, "garbage", &plan.garbage_ppm) ||
        !part(text, "delay", &plan.delay_ppm) || !number(text, "delay_us", &plan.delay_us) ||
        !number(text, "die_after", &plan.die_after) || !number(text, "timeout_ms", &plan.timeout_ms) ||
        !number(text, "seed", &plan.seed)) {
        return ORION_INVALID;
    }
    *plan_p = plan;
    return ORION_OK;
}

orion_status_t orion_faulty_wrap(orion_link_t *inner, const orion_fault_plan_t *plan, orion_link_t **link_p)
{
    faulty_link_t *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return ORION_NO_MEMORY;
    f->base.ops = &faulty_ops;
    f->inner = inner;
    f->plan = *plan;
    f->random = plan->seed * 0x9e3779b97f4a7c15ULL | 1; /* xorshift must not start at zero */
    *link_p = &f->base;
    return ORION_OK;
}
