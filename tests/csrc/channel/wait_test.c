/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting: ends when the word changes, never sleeps past its limit, loses no wake, and stops spinning where spinning
 * does not pay. */
#define _GNU_SOURCE
#include "channel/wait.h"

#include <pthread.h>
#include <sys/wait.h>

#include "../check.h"
#include "base/clock.h"
#include "base/sys.h"

typedef struct desk {
    _Alignas(128) uint32_t word;
    _Alignas(128) uint32_t sleeping;
    _Alignas(128) uint32_t cpu;
    _Alignas(128) uint32_t peer_cpu;
    orion_wait_policy_t policy;
    orion_wait_t wait;
    orion_wait_place_t place;
} desk_t;

static void desk_make(desk_t *d, bool membarrier)
{
    memset(d, 0, sizeof(*d));
    MUST(!membarrier || orion_membarrier_register());
    orion_wait_policy_init(&d->policy, membarrier);
    d->place = (orion_wait_place_t){
        .word = &d->word, .sleeping = &d->sleeping, .leave = (uint32_t)-1, .cpu = &d->cpu, .peer_cpu = &d->peer_cpu};
}

static void a_wait_ends_at_its_limit(void)
{
    static desk_t d;
    desk_make(&d, false);
    int64_t start = check_now_ns();
    CHECK_EQUAL(orion_wait_changed(&d.wait, &d.policy, &d.place, 0, 5 * ORION_NS_PER_MS), ORION_TIMEOUT);
    CHECK(check_now_ns() - start >= 5 * ORION_NS_PER_MS);
    CHECK_EQUAL(d.sleeping, 0);
    start = check_now_ns();
    CHECK_EQUAL(orion_wait_changed(&d.wait, &d.policy, &d.place, 0, INT64_MAX), ORION_TIMEOUT);
    CHECK(check_now_ns() - start >= ORION_SLEEP_MAX_NS / 2); /* one sleep, then the caller looks after its peer */
}

static void a_changed_word_needs_no_wait(void)
{
    static desk_t d;
    desk_make(&d, false);
    d.word = 3;
    CHECK_EQUAL(orion_wait_changed(&d.wait, &d.policy, &d.place, 0, 0), ORION_OK);
    CHECK_EQUAL(orion_wait_changed(&d.wait, &d.policy, &d.place, 0, INT64_MAX), ORION_OK);
}

static void the_spin_shrinks_while_nothing_comes_and_stays_small(void)
{
    static desk_t d;
    desk_make(&d, false);
    for (int i = 0; i < 12; i++)
        (void)orion_wait_changed(&d.wait, &d.policy, &d.place, 0, ORION_NS_PER_MS);
    CHECK(d.wait.budget_ns < 1000);
}

/* The first spin of a wait is as long as a wake costs, and is halved by a wait in vain. */
static uint32_t first_budget(void)
{
    static desk_t d;
    do { /* one that slept: where others run, time may be up before */
        desk_make(&d, false);
        d.place.leave = 1;
        (void)orion_wait_changed(&d.wait, &d.policy, &d.place, 0, ORION_NS_PER_MS);
    } while (d.sleeping == 0);
    return 2 * d.wait.budget_ns;
}

static void a_wake_is_measured_once_and_by_who_waited_in_vain(void)
{
    static desk_t d;
    uint32_t guess = orion_wait_wake_cost_ns();
    CHECK(first_budget() / 2 == guess / 2);
    uint32_t cost = orion_wait_wake_cost_ns();
    CHECK(cost >= 500 && cost <= ORION_SPIN_CAP_NS);
    for (int i = 0; i < 100; i++) {
        CHECK(first_budget() / 2 == cost / 2 || cost < 2000); /* below 1 us there is no spin */
        CHECK_EQUAL(orion_wait_wake_cost_ns(), cost);
    }
    pid_t child = fork(); /* it goes on with what its parent knows */
    MUST(child >= 0);
    if (child == 0) {
        desk_make(&d, false);
        (void)orion_wait_changed(&d.wait, &d.policy, &d.place, 0, ORION_NS_PER_MS);
        _exit(orion_wait_wake_cost_ns() == cost ? 0 : 1);
    }
    int how;
    MUST(waitpid(child, &how, 0) == child);
    CHECK_EQUAL(how, 0);
}

/* Processor time of this thread over 40 waits that nobody ends. */
static int64_t spent_waiting(bool spin)
{
    static desk_t d;
    desk_make(&d, false);
    d.policy.spin = spin;
    struct timespec before, after;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    for (int i = 0; i < 40; i++) {
        d.wait.budget_ns = ORION_SPIN_CAP_NS;
        (void)orion_wait_changed(&d.wait, &d.policy, &d.place, 0, ORION_NS_PER_MS);
    }
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    return (after.tv_sec - before.tv_sec) * ORION_NS_PER_S + after.tv_nsec - before.tv_nsec;
}

static void one_processor_is_never_spun_on(void)
{
    /* What the sleeps themselves cost depends on machine and sanitizer, and is in both. An interrupt may land in
     * either, so one of a few tries has to show the difference. */
    bool seen = false;
    for (int i = 0; i < 20 && !seen; i++)
        seen = spent_waiting(false) + 20 * (int64_t)ORION_SPIN_CAP_NS < spent_waiting(true);
    CHECK(seen);
}

typedef struct pingpong {
    desk_t there, here;
    bool membarrier;
    uint32_t rounds;
} pingpong_t;

static void hand_over(desk_t *to, uint32_t value, bool membarrier)
{
    orion_store_release(&to->word, value);
    orion_wake_order(membarrier);
    if (orion_load_relaxed(&to->sleeping) != 0)
        (void)orion_futex_wake(&to->word, ORION_WAKE_ALL);
}

static bool await_value(desk_t *d, uint32_t value)
{
    for (int tries = 0; tries < 400; tries++) {
        uint32_t seen = orion_load_acquire(&d->word);
        if (seen == value)
            return true;
        (void)orion_wait_changed(&d->wait, &d->policy, &d->place, seen, ORION_SLEEP_MAX_NS);
    }
    return false;
}

static void *answer(void *arg)
{
    pingpong_t *p = arg;
    for (uint32_t i = 1; i <= p->rounds; i++) {
        MUST(await_value(&p->there, i));
        hand_over(&p->here, i, p->membarrier);
    }
    return NULL;
}

/* A lost wake costs a whole sleep: with this many rounds the total would show it. */
static void no_wake_is_lost_with(bool membarrier, bool spin)
{
    static pingpong_t p;
    pthread_t thread;
    desk_make(&p.there, membarrier);
    desk_make(&p.here, membarrier);
    p.there.policy.spin = p.here.policy.spin = spin;
    p.membarrier = membarrier;
    p.rounds = 3000;
    MUST(pthread_create(&thread, NULL, answer, &p) == 0);
    int64_t start = check_now_ns();
    for (uint32_t i = 1; i <= p.rounds; i++) {
        hand_over(&p.there, i, membarrier);
        MUST(await_value(&p.here, i));
    }
    MUST(pthread_join(thread, NULL) == 0);
    CHECK(check_now_ns() - start < p.rounds * ORION_SLEEP_MAX_NS / 4);
}

static void no_wake_is_lost_with_fences(void)
{
    no_wake_is_lost_with(false, true);
    no_wake_is_lost_with(false, false);
}

static void no_wake_is_lost_with_membarrier(void)
{
    if (!orion_membarrier_register())
        return;
    no_wake_is_lost_with(true, true);
    no_wake_is_lost_with(true, false);
}

/* As many waits beside the other side as it takes to think of moving; from the start where somebody else had the
 * processor during one, which ends the row of them. */
static void share_a_processor(desk_t *d)
{
    for (int i = 0, all = 0; i < 64 && all < 100000; i++, all++) {
        d->peer_cpu = (uint32_t)orion_cpu_current() + 1;
        (void)orion_wait_changed(&d->wait, &d->policy, &d->place, d->word + 1, ORION_NS_PER_MS);
        if (d->wait.together == 0 && i < 63)
            i = -1;
    }
}

static void moving_away_is_tried_less_often_while_it_does_not_last(void)
{
    static desk_t d;
    desk_make(&d, false);
    if (!d.policy.spin || d.policy.single)
        return;
    d.place.movable = true;
    int64_t pause = 0, longest = 0;
    for (int i = 0; i < 1000 && longest < 4 * ORION_NS_PER_MS; i++) {
        int64_t before = check_now_ns();
        d.wait.move_at_ns = before - 1; /* the pause is over just now */
        share_a_processor(&d);
        if (d.wait.move_at_ns < before)
            continue; /* it was the last of the row */
        /* unless the machine stopped for so long that the move seemed to last */
        CHECK(d.wait.move_pause_ns >= pause || check_now_ns() - before > pause);
        pause = d.wait.move_pause_ns;
        longest = pause > longest ? pause : longest;
    }
    CHECK(longest >= 4 * ORION_NS_PER_MS && longest < 20 * ORION_NS_PER_MS);
    d.wait.move_at_ns = check_now_ns() + 1000 * ORION_NS_PER_MS;
    share_a_processor(&d);
    CHECK_EQUAL(d.wait.move_pause_ns, pause);                    /* not yet */
    d.wait.move_at_ns = check_now_ns() - 1000 * ORION_NS_PER_MS; /* a second apart */
    share_a_processor(&d);
    CHECK_EQUAL(d.wait.move_pause_ns, ORION_NS_PER_MS);
}

CHECK_MAIN(CASE(a_wake_is_measured_once_and_by_who_waited_in_vain), CASE(a_wait_ends_at_its_limit),
           CASE(a_changed_word_needs_no_wait), CASE(the_spin_shrinks_while_nothing_comes_and_stays_small),
           CASE(one_processor_is_never_spun_on), CASE(no_wake_is_lost_with_fences),
           CASE(no_wake_is_lost_with_membarrier), CASE(moving_away_is_tried_less_often_while_it_does_not_last))
