/* SPDX-License-Identifier: Apache-2.0 */
/* Handle tables: bounds, generations, and finding while others change. */
#include "worker/handles.h"

#include <pthread.h>
#include <stdatomic.h>

#include "check.h"

#define WIRE(generation, index) ((uint64_t)(generation) << 32 | (index))

static int thing, other;

static void handle_is_found_only_by_its_generation(void)
{
    orion_handles_t *table = orion_handles_new(5000);
    CHECK(orion_handles_find(table, WIRE(1, 7)) == NULL);
    CHECK(orion_handles_claim(table, WIRE(1, 7)));
    CHECK(orion_handles_find(table, WIRE(1, 7)) == NULL); /* claimed is not there yet */
    CHECK(!orion_handles_claim(table, WIRE(2, 7)));
    orion_handles_put(table, WIRE(1, 7), &thing);
    CHECK(orion_handles_find(table, WIRE(1, 7)) == &thing);
    CHECK(orion_handles_find(table, WIRE(2, 7)) == NULL);
    CHECK(orion_handles_take(table, WIRE(2, 7)) == NULL);
    CHECK(orion_handles_take(table, WIRE(1, 7)) == &thing);
    CHECK(orion_handles_take(table, WIRE(1, 7)) == NULL);
    CHECK(orion_handles_claim(table, WIRE(3, 7)));
    orion_handles_abandon(table, WIRE(3, 7));
    CHECK(orion_handles_claim(table, WIRE(4, 7)));
    orion_handles_free(table);
}

static void index_beyond_the_table_is_refused(void)
{
    orion_handles_t *table = orion_handles_new(1000);
    CHECK(!orion_handles_claim(table, WIRE(1, 0xffffffffu)));
    CHECK(!orion_handles_claim(table, WIRE(1, 5000)));
    CHECK(orion_handles_find(table, WIRE(1, 0xffffffffu)) == NULL);
    orion_handles_free(table);
}

static void forgotten_object_has_no_handle_left(void)
{
    orion_handles_t *table = orion_handles_new(5000);
    for (uint32_t i = 0; i < 3000; i++) {
        CHECK(orion_handles_claim(table, WIRE(1, i)));
        orion_handles_put(table, WIRE(1, i), i % 2 ? &thing : &other);
    }
    orion_handles_forget(table, &thing);
    for (uint32_t i = 0; i < 3000; i++)
        CHECK(orion_handles_find(table, WIRE(1, i)) == (i % 2 ? NULL : &other));
    orion_handles_forget(table, NULL);
    CHECK(orion_handles_find(table, WIRE(1, 0)) == NULL);
    orion_handles_free(table);
}

static _Atomic int ending;

static void *look_on(void *arg)
{
    uintptr_t wrong = 0;
    while (!atomic_load(&ending))
        for (uint32_t i = 0; i < 4000; i += 37) {
            void *found = orion_handles_find(arg, WIRE(1, i));
            wrong += found != NULL && found != &thing;
        }
    return (void *)wrong;
}

static void finding_needs_no_lock(void)
{
    orion_handles_t *table = orion_handles_new(5000);
    pthread_t looker;
    void *wrong;
    MUST(pthread_create(&looker, NULL, look_on, table) == 0);
    for (int turn = 0; turn < 50; turn++) {
        for (uint32_t i = 0; i < 4000; i++)
            if (orion_handles_claim(table, WIRE(1, i)))
                orion_handles_put(table, WIRE(1, i), &thing);
        for (uint32_t i = 0; i < 4000; i++)
            orion_handles_take(table, WIRE(1, i));
    }
    atomic_store(&ending, 1);
    pthread_join(looker, &wrong);
    CHECK(wrong == NULL);
    orion_handles_free(table);
}

CHECK_MAIN(CASE(handle_is_found_only_by_its_generation), CASE(index_beyond_the_table_is_refused),
           CASE(forgotten_object_has_no_handle_left), CASE(finding_needs_no_lock))
