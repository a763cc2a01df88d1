/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of device memory that are outside of the common range are this process's as well, or refused. */
#include "guard.h"

#include "../csrc/check.h"

#include <sys/mman.h>

#define MIB (1ull << 20)
#define FAR 0x580000000000ull

static orion_link_ops_t remote = {.name = "shm"}, local = {.name = "local"};
static orion_link_t link_of = {&remote};
static orion_session_t session = {
    .link = &link_of, .welcome = {.range_base = 0x300000000000ull, .arena_bytes = 1 << 30, .heap_bytes = 1 << 30}};

/* Nobody else can be given these addresses. */
static int is_reserved(uint64_t address)
{
    void *wanted = (void *)(uintptr_t)address;
    void *got = mmap(wanted, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(got, 4096);
    return got != wanted;
}

static void reserves_and_gives_back(void)
{
    CHECK(!is_reserved(FAR));
    CHECK(orion_guard_take(&session, FAR + 512, 1000));
    CHECK(orion_guard_take(&session, FAR + 4096, 100)); /* the same granule */
    CHECK(is_reserved(FAR));
    CHECK(!is_reserved(FAR + 2 * MIB));
    orion_guard_give(&session, FAR + 512, 1000);
    CHECK(is_reserved(FAR));
    orion_guard_give(&session, FAR + 4096, 100);
    CHECK(!is_reserved(FAR));
}

static void allocations_may_overlap_in_granules(void)
{
    CHECK(orion_guard_take(&session, FAR + 10 * MIB, MIB));
    CHECK(orion_guard_take(&session, FAR + MIB, 30 * MIB)); /* around the first one */
    for (uint64_t at = 0; at < 32 * MIB; at += 2 * MIB)
        CHECK(is_reserved(FAR + at));
    orion_guard_give(&session, FAR + 10 * MIB, MIB);
    CHECK(is_reserved(FAR + 10 * MIB));
    orion_guard_give(&session, FAR + MIB, 30 * MIB);
    for (uint64_t at = 0; at < 32 * MIB; at += 2 * MIB)
        CHECK(!is_reserved(FAR + at));
}

static void collisions_are_refused_and_leave_nothing(void)
{
    void *mine = mmap((void *)(uintptr_t)(FAR + 6 * MIB), 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST((uint64_t)(uintptr_t)mine == FAR + 6 * MIB);
    CHECK(orion_guard_take(&session, FAR, MIB));
    CHECK(!orion_guard_take(&session, FAR, 16 * MIB));
    CHECK(!orion_guard_take(&session, FAR + 7 * MIB, 100));
    CHECK(is_reserved(FAR));
    CHECK(!is_reserved(FAR + 2 * MIB));
    munmap(mine, 4096);
    CHECK(orion_guard_take(&session, FAR, 16 * MIB));
    orion_guard_clear();
    CHECK(!is_reserved(FAR));
    CHECK(!is_reserved(FAR + 14 * MIB));
}

static void common_range_and_twins_need_no_guard(void)
{
    CHECK(orion_guard_take(&session, 0x300000000000ull + 100, 4096));
    CHECK(!is_reserved(0x300000000000ull));
    link_of.ops = &local;
    CHECK(orion_guard_take(&session, FAR, 4096));
    CHECK(!is_reserved(FAR));
    link_of.ops = &remote;
}

CHECK_MAIN(CASE(reserves_and_gives_back), CASE(allocations_may_overlap_in_granules),
           CASE(collisions_are_refused_and_leave_nothing), CASE(common_range_and_twins_need_no_guard))
