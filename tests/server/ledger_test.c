/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger against a plain array: ranges, overlaps, charges, at sizes where leaves split and vanish. */
#include "worker/ledger.h"

#include "check.h"

#define RANGES 3000u

static uint32_t dice_state = 12345;

static uint32_t dice(uint32_t sides)
{
    dice_state = dice_state * 1664525u + 1013904223u;
    return (dice_state >> 8) % sides;
}

static void ledger_charges_to_the_byte(void)
{
    orion_ledger_t ledger;
    orion_ledger_init(&ledger, 1000, NULL, NULL);
    CHECK(orion_ledger_take(&ledger, 999));
    CHECK(!orion_ledger_take(&ledger, 2));
    CHECK(!orion_ledger_take(&ledger, UINT64_MAX));
    CHECK(orion_ledger_take(&ledger, 1));
    CHECK_EQUAL(orion_ledger_used(&ledger), 1000);
    orion_ledger_give(&ledger, 5000); /* never below nothing */
    CHECK_EQUAL(orion_ledger_used(&ledger), 0);
    orion_ledger_fini(&ledger);
}

static void ledger_refuses_overlaps_and_wrapping(void)
{
    orion_ledger_t ledger;
    orion_ledger_init(&ledger, 1000, NULL, NULL);
    CHECK(orion_ledger_insert(&ledger, &(orion_range_t){.base = 100, .bytes = 50, .kind = ORION_RANGE_HEAP}));
    CHECK(!orion_ledger_insert(&ledger, &(orion_range_t){.base = 149, .bytes = 1, .kind = ORION_RANGE_HEAP}));
    CHECK(!orion_ledger_insert(&ledger, &(orion_range_t){.base = 99, .bytes = 2, .kind = ORION_RANGE_HEAP}));
    CHECK(!orion_ledger_insert(&ledger, &(orion_range_t){.base = 200, .bytes = 0, .kind = ORION_RANGE_HEAP}));
    CHECK(
        !orion_ledger_insert(&ledger, &(orion_range_t){.base = UINT64_MAX - 5, .bytes = 50, .kind = ORION_RANGE_HEAP}));
    CHECK(orion_ledger_insert(&ledger, &(orion_range_t){.base = 150, .bytes = 1, .kind = ORION_RANGE_ARENA}));
    CHECK(orion_ledger_covers(&ledger, 100, 50));
    CHECK(!orion_ledger_covers(&ledger, 100, 51)); /* two allocations are not one */
    CHECK(!orion_ledger_covers(&ledger, 120, UINT64_MAX));
    CHECK(!orion_ledger_remove(&ledger, 100, ORION_RANGE_ARENA, NULL));
    CHECK(!orion_ledger_remove(&ledger, 101, ORION_RANGE_HEAP, NULL));
    CHECK(orion_ledger_remove(&ledger, 100, ORION_RANGE_HEAP, NULL));
    CHECK(!orion_ledger_covers(&ledger, 100, 1));
    orion_ledger_fini(&ledger);
}

static void ledger_agrees_with_a_plain_array(void)
{
    static uint8_t there[RANGES];
    orion_ledger_t ledger;
    uint64_t used = 0;
    orion_ledger_init(&ledger, UINT64_MAX, NULL, NULL);
    for (uint32_t turn = 0; turn < 200000; turn++) {
        const uint32_t i = dice(RANGES);
        const uint64_t base = 4096ull * i, bytes = 1 + i;
        CHECK_EQUAL(orion_ledger_covers(&ledger, base + bytes - 1, 1), there[i]);
        CHECK(!orion_ledger_covers(&ledger, base + bytes, 1));
        if (there[i]) {
            CHECK(orion_ledger_remove(&ledger, base, ORION_RANGE_HEAP, NULL));
            used -= bytes;
        } else {
            const orion_range_t range = {.base = base, .bytes = bytes, .charged = bytes, .kind = ORION_RANGE_HEAP};
            CHECK(orion_ledger_take(&ledger, bytes));
            CHECK(orion_ledger_insert(&ledger, &range));
            CHECK(!orion_ledger_insert(&ledger, &range));
            used += bytes;
        }
        there[i] = !there[i];
        CHECK_EQUAL(orion_ledger_used(&ledger), used);
    }
    orion_ledger_clear(&ledger, ORION_RANGE_HEAP);
    CHECK_EQUAL(orion_ledger_used(&ledger), 0);
    CHECK_EQUAL(ledger.leaves, 0);
    orion_ledger_fini(&ledger);
}

CHECK_MAIN(CASE(ledger_charges_to_the_byte), CASE(ledger_refuses_overlaps_and_wrapping),
           CASE(ledger_agrees_with_a_plain_array))
