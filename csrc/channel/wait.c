/* SPDX-License-Identifier: Apache-2.0 */
/* Spin, then sleep; see wait.h. */
#include "channel/wait.h"

#include <sys/prctl.h>

#include "base/clock.h"
#include "base/sys.h"

#define FIRST_LOOKS 32       /* before the clock is read at all; a pause takes 15 to 35 ns, as processors differ */
#define LOOKS_PER_CLOCK 16   /* about half a microsecond */
#define WAKE_COST_NS 16000   /* until it has been measured */
#define WAKE_COST_MIN_NS 500 /* less is no measurement: this thread's timers have another slack than we know of */
#define MEASURE_AFTER 64     /* sleeps of this process: a program that starts has fewer */
#define MEASURED_SLEEPS 5    /* some 70 us each */
#define MEASURED_NS 1000
#define SLACK_NS 50000     /* of timers, where the kernel does not tell */
#define BUDGET_MIN_NS 1000 /* below it there is no spinning beyond the first looks */
#define TOGETHER_MAX 64
#define MOVE_PAUSE_NS ORION_NS_PER_MS
#define MOVE_PAUSE_MAX_NS (8 * ORION_NS_PER_MS) /* a move costs some 10 us */
#define MOVE_LASTED 4                           /* pauses without a need to move: the last one was worth it */

void orion_wait_policy_init(orion_wait_policy_t *policy, bool membarrier)
{
    policy->membarrier = membarrier;
    policy->spin = !orion_cpu_throttled();
    policy->single = orion_cpu_usable() < 2;
}

/* ---- the cost of a wake ---- */

static uint32_t wake_cost = WAKE_COST_NS; /* of this process; a forked child goes on with its parent's */
static uint32_t sleeps;                   /* so far; from MEASURE_AFTER on it has been measured */

/* From a timer that ends our own sleep to this thread's running again: out of the idle processor and through the scheduler,
 * the way of any wake, and no other thread is needed for it. The second shortest: others run, too, and the shortest may be
 * that of a timer that went along with another one. */
static uint32_t measure(void)
{
    uint32_t word = 0;
    int64_t late[MEASURED_SLEEPS];
    int slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0); /* refused in a worker's cage */
    for (int i = 0; i < MEASURED_SLEEPS; i++) {
        int64_t start = orion_clock_ns();
        (void)orion_futex_wait(&word, 0, MEASURED_NS);
        int64_t this = orion_clock_ns() - start - MEASURED_NS - (slack > 0 ? slack : SLACK_NS);
        int at = i;
        for (; at > 0 && late[at - 1] > this; at--)
            late[at] = late[at - 1];
        late[at] = this;
    }
    if (late[1] < WAKE_COST_MIN_NS)
        return WAKE_COST_NS;
    return late[1] < ORION_SPIN_CAP_NS ? (uint32_t)late[1] : ORION_SPIN_CAP_NS;
}

/* After a sleep. Once, and off everybody's path: when nothing came, or after so many sleeps that it does not count. */
static void count_sleep(bool idle)
{
    uint32_t before = orion_load_relaxed(&sleeps), after = idle ? MEASURE_AFTER : before + 1;
    if (before >= MEASURE_AFTER || !orion_compare_exchange(&sleeps, &before, after))
        return; /* measured, or another thread counts just now */
    if (after == MEASURE_AFTER)
        orion_store_relaxed(&wake_cost, measure());
}

uint32_t orion_wait_wake_cost_ns(void)
{
    return orion_load_relaxed(&wake_cost);
}

/* ---- looking ---- */

static bool looks(const uint32_t *word, uint32_t old, int count)
{
    for (int i = 0; i < count; i++) {
        if (orion_load_relaxed(word) != old)
            return true; /* the caller's own acquire load follows */
        orion_cpu_relax();
    }
    return false;
}

static void grow(orion_wait_t *wait)
{
    uint32_t budget = wait->budget_ns < BUDGET_MIN_NS ? 2 * BUDGET_MIN_NS : 2 * wait->budget_ns;
    wait->budget_ns = budget > ORION_SPIN_CAP_NS ? ORION_SPIN_CAP_NS : budget;
}

/* A wait that a wake ended: would the longest spin have caught it? */
static bool was_soon(int64_t waited_ns)
{
    return waited_ns <= ORION_SPIN_CAP_NS + 2 * (int64_t)orion_wait_wake_cost_ns(); /* wakes differ */
}

static void shrink(orion_wait_t *wait)
{
    wait->budget_ns /= 2;
    if (wait->budget_ns < BUDGET_MIN_NS)
        wait->budget_ns = 1; /* 0 means "never used" */
}

/* Both on one processor: while we spin, the other side cannot even start. */
static bool alone(const orion_wait_policy_t *policy, const orion_wait_place_t *place)
{
    uint32_t here = (uint32_t)orion_cpu_current() + 1;
    if (orion_load_relaxed(place->cpu) != here)
        orion_store_relaxed(place->cpu, here);
    uint32_t there = orion_load_relaxed(place->peer_cpu);
    return there == here || (there == 0 && policy->single);
}

/* A wake likes to put the woken thread beside its waker, and two threads that take turns on one processor are never
 * seen as two to run: without a push they stay there for ever, at a futex round trip a call (3 us against 0.4). */
static bool move_away(orion_wait_t *wait)
{
    if (++wait->together < TOGETHER_MAX)
        return false;
    wait->together = 0;
    int64_t now = orion_clock_ns();
    if (now < wait->move_at_ns)
        return false;
    bool lasted = now - wait->move_at_ns >= (MOVE_LASTED - 1) * wait->move_pause_ns;
    wait->move_pause_ns = lasted ? MOVE_PAUSE_NS : 2 * wait->move_pause_ns;
    if (wait->move_pause_ns > MOVE_PAUSE_MAX_NS)
        wait->move_pause_ns = MOVE_PAUSE_MAX_NS;
    wait->move_at_ns = now + wait->move_pause_ns;
    return orion_cpu_leave(orion_cpu_current());
}

bool orion_wait_look(const orion_wait_policy_t *policy, const orion_wait_place_t *place, uint32_t old, uint32_t look_ns)
{
    if (looks(place->word, old, 1))
        return true;
    if (!policy->spin || alone(policy, place))
        return false;
    int64_t end = orion_clock_ns() + look_ns;
    do {
        if (looks(place->word, old, LOOKS_PER_CLOCK))
            return true;
    } while (orion_clock_ns() < end);
    return false;
}

static void announce(const orion_wait_place_t *place, uint32_t change)
{
    uint32_t value = orion_fetch_add(place->sleeping, change) + change;
    if (place->mirror != NULL)
        orion_store_relaxed(place->mirror, value);
}

orion_status_t orion_wait_changed(orion_wait_t *wait, const orion_wait_policy_t *policy,
                                  const orion_wait_place_t *place, uint32_t old, int64_t limit_ns)
{
    const uint32_t *word = place->word;
    if (wait->budget_ns == 0)
        wait->budget_ns = orion_wait_wake_cost_ns();
    bool together = alone(policy, place);
    if (!together)
        wait->together = 0;
    if (together && place->movable && policy->spin && move_away(wait))
        together = alone(policy, place);
    bool spin = policy->spin && !together;
    if (spin && looks(word, old, FIRST_LOOKS))
        return ORION_OK;

    int64_t start = orion_clock_ns(), now = start;
    if (spin && wait->budget_ns >= BUDGET_MIN_NS) {
        int64_t budget = wait->budget_ns < limit_ns ? wait->budget_ns : limit_ns;
        while (now - start < budget) {
            if (looks(word, old, LOOKS_PER_CLOCK)) {
                grow(wait);
                return ORION_OK;
            }
            now = orion_clock_ns();
        }
    }
    int64_t left = limit_ns - (now - start);
    if (left <= 0)
        return orion_load_relaxed(word) != old ? ORION_OK : ORION_TIMEOUT;
    if (left > ORION_SLEEP_MAX_NS)
        left = ORION_SLEEP_MAX_NS;

    announce(place, 1);
    /* The flag is visible before we look again; the sender stores, then looks at the flag: one of the two sees the other.
   * The barrier makes that true for a sender without a fence. Should it fail, the sleep ends by itself. */
    if (!policy->membarrier || !orion_membarrier_global())
        orion_fence_full();
    orion_status_t status = ORION_OK;
    if (orion_load_relaxed(word) == old && (place->also == NULL || orion_load_relaxed(place->also) == 0))
        status = orion_futex_wait(word, old, left);
    announce(place, place->leave);

    bool changed = orion_load_relaxed(word) != old;
    if (changed && was_soon(orion_clock_ns() - start)) {
        grow(wait);
    } else {
        shrink(wait);
        wait->together = 0; /* not waiting for each other all the time */
    }
    count_sleep(!changed && status == ORION_TIMEOUT);
    if (changed)
        return ORION_OK;
    return status == ORION_TIMEOUT ? ORION_TIMEOUT : ORION_AGAIN;
}
