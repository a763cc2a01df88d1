/* SPDX-License-Identifier: Apache-2.0 */
/* The table of address ranges against an array of what is in it. */
#include "ranges.h"

#include "../csrc/check.h"

static void finds_exactly_what_was_added(void)
{
    enum { COUNT = 512, UNIT = 4096 };
    uint64_t seed = 42;
    uint8_t present[COUNT] = {0};
    for (int step = 0; step < 20000; step++) {
        uint64_t i = check_random(&seed) % COUNT;
        if (present[i])
            CHECK(orion_ranges_remove((i + 1) * UNIT, 1u << ORION_RANGE_DEVICE, NULL));
        else
            CHECK(orion_ranges_add(ORION_RANGE_DEVICE, (i + 1) * UNIT, i + 1, 0));
        present[i] = !present[i];
        orion_range_t range;
        uint64_t probe = check_random(&seed) % (COUNT * UNIT), at = probe / UNIT;
        int expected = at >= 1 && present[at - 1] && probe - at * UNIT < at;
        CHECK(orion_ranges_find(probe, &range) == expected);
        if (expected)
            CHECK(range.base == at * UNIT && range.bytes == at);
    }
    orion_ranges_clear();
}

static void removes_only_bases_of_the_right_kind(void)
{
    orion_range_t range;
    CHECK(orion_ranges_add(ORION_RANGE_PINNED, 0x1000, 0x100, 7));
    CHECK(!orion_ranges_remove(0x1001, ~0u, NULL));
    CHECK(!orion_ranges_remove(0x1000, 1u << ORION_RANGE_DEVICE, NULL));
    CHECK(orion_ranges_remove(0x1000, 1u << ORION_RANGE_PINNED, &range));
    CHECK(range.bytes == 0x100 && range.flags == 7);
    CHECK(!orion_ranges_find(0x1000, &range));
}

static void sees_overlaps(void)
{
    CHECK(orion_ranges_add(ORION_RANGE_REGISTERED, 0x1000, 0x1000, 0));
    CHECK(orion_ranges_overlap(0x800, 0x801) && orion_ranges_overlap(0x1fff, 1) && orion_ranges_overlap(0, 0x10000));
    CHECK(!orion_ranges_overlap(0x800, 0x800) && !orion_ranges_overlap(0x2000, 1));
    orion_ranges_clear();
}

CHECK_MAIN(CASE(finds_exactly_what_was_added), CASE(removes_only_bases_of_the_right_kind), CASE(sees_overlaps))
