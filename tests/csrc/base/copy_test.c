/* SPDX-License-Identifier: Apache-2.0 */
/* Copies through shared memory: exact whatever their length and place, visible behind a release store, by the way that
 * has been cheaper. */
#include "base/copy.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

#include "../check.h"
#include "base/atomic.h"

#define ROOM ((256u << 10) + 4096)
#define GUARD 0xa5

static uint8_t from[ROOM], to[ROOM];
static const size_t lengths[] = {
    0, 1, 63, 64, 65, 1023, 1024, 1025, 4080, 4097, 16u << 10, 65u << 10, 128u << 10, (128u << 10) + 7, 256u << 10};
#define LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

/* What each copier decides by: nothing known yet; past the caches; plain stores; a trial of the other way. */
static const orion_copier_t decided[] = {
    {0, 0, 0}, {1u << 30, 1, 9}, {1, 1u << 30, 9}, {1u << 30, 1, 0}, {1, 1u << 30, 0}};
#define DECIDED (sizeof(decided) / sizeof(decided[0]))

static bool exact(size_t to_at, size_t from_at, size_t bytes)
{
    if (memcmp(to + to_at, from + from_at, bytes) != 0)
        return false;
    for (size_t i = 0; i < 128; i++) {
        if ((i < to_at && to[to_at - 1 - i] != GUARD) || to[to_at + bytes + i] != GUARD)
            return false;
    }
    return true;
}

static void prepare(size_t to_at, size_t bytes)
{
    memset(to, GUARD, to_at + bytes + 128);
}

static void copies_are_exact_at_every_length_and_place(void)
{
    for (size_t i = 0; i < ROOM; i++)
        from[i] = (uint8_t)(i * 31 + (i >> 8));
    for (size_t l = 0; l < LENGTHS; l++) {
        for (size_t place = 0; place < 64; place += 7) {
            size_t to_at = 128 + place, from_at = 3 * place;
            prepare(to_at, lengths[l]);
            orion_copy_from_peer(to + to_at, from + from_at, lengths[l]);
            CHECK(exact(to_at, from_at, lengths[l]));
            for (size_t d = 0; d < DECIDED; d++) {
                orion_copier_t copier = decided[d];
                prepare(to_at, lengths[l]);
                orion_copy_to_peer(&copier, to + to_at, from + from_at, lengths[l]);
                CHECK(exact(to_at, from_at, lengths[l]));
            }
        }
    }
}

static void a_copier_measures_both_ways_and_keeps_to_the_cheaper(void)
{
#if defined(__x86_64__)
    orion_copier_t copier = {0};
    orion_copy_to_peer(&copier, to, from, 64u << 10);
    CHECK(copier.stored != 0 && copier.streamed == 0);
    copier.stored = 1u << 30; /* as where the two share no cache */
    orion_copy_to_peer(&copier, to, from, 64u << 10);
    CHECK(copier.streamed != 0);
    copier = decided[1];
    orion_copy_to_peer(&copier, to, from, 64u << 10);
    CHECK_EQUAL(copier.stored, decided[1].stored);
    CHECK(copier.streamed > decided[1].streamed);
    CHECK_EQUAL(copier.until_trial, decided[1].until_trial - 1);
    copier = decided[1];
    copier.until_trial = 0;
    orion_copy_to_peer(&copier, to, from, 256u << 10); /* one part by plain stores, and what they cost now is known */
    CHECK(copier.stored < decided[1].stored);
    CHECK(copier.until_trial != 0);
    copier = decided[2];
    orion_copy_to_peer(&copier, to, from, 64u << 10);
    CHECK_EQUAL(copier.streamed, decided[2].streamed);
    orion_copy_to_peer(&copier, to, from, 4096); /* short: nothing is measured */
    CHECK_EQUAL(copier.until_trial, decided[2].until_trial - 1);
#endif
}

#define ROUNDS 4000
#define BLOCK (32u << 10)
static uint32_t written, seen;
static uint32_t torn;

/* acquire: pairs with the release stores below */
static void await(const uint32_t *word, uint32_t value)
{
    for (uint32_t looks = 0; orion_load_acquire(word) != value; looks++) {
        orion_cpu_relax();
        if (looks > 200)
            (void)sched_yield(); /* there may be one processor only */
    }
}

static void *read_blocks(void *arg)
{
    static uint8_t block[BLOCK];
    (void)arg;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        await(&written, round);
        orion_copy_from_peer(block, to, BLOCK);
        for (size_t i = 0; i < BLOCK; i += 64)
            torn += block[i] != (uint8_t)round || block[i + 63] != (uint8_t)round;
        orion_store_release(&seen, round);
    }
    return NULL;
}

static void what_went_past_the_caches_is_there_behind_a_release_store(void)
{
    static uint8_t block[BLOCK];
    pthread_t reader;
    MUST(pthread_create(&reader, NULL, read_blocks, NULL) == 0);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        orion_copier_t copier = decided[1 + round % 2];
        memset(block, (int)(uint8_t)round, BLOCK);
        orion_copy_to_peer(&copier, to, block, BLOCK);
        orion_store_release(&written, round); /* release: the copy is before it */
        await(&seen, round);
    }
    MUST(pthread_join(reader, NULL) == 0);
    CHECK_EQUAL(torn, 0);
}

CHECK_MAIN(CASE(copies_are_exact_at_every_length_and_place), CASE(a_copier_measures_both_ways_and_keeps_to_the_cheaper),
           CASE(what_went_past_the_caches_is_there_behind_a_release_store))
