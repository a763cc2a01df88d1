/* SPDX-License-Identifier: Apache-2.0 */
/* The heap against a model: random allocations and frees never overlap, are aligned, and leave nothing behind; what
 * kernels write over the whole of device memory does not matter to it. */
#include "devices.h"

#include "heap.h"

#include <sys/mman.h>

#define BASE 0x500000000000ull
#define SLOTS 400

typedef struct ledger {
    uint64_t granted, most, calls;
    uint64_t room; /* that there is; 0: enough */
    int refuse;    /* grants to refuse */
    int bad;
} ledger_t;

static CUresult grant(void *self, uint64_t address, uint64_t bytes)
{
    ledger_t *ledger = self;
    ledger->calls++;
    if (ledger->refuse > 0) {
        ledger->refuse--;
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    ledger->bad |= address % ORION_HEAP_PAGE || bytes % ORION_HEAP_ALIGN || !bytes;
    if (ledger->room && ledger->granted + bytes > ledger->room)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (mmap(host(address), bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    ledger->granted += bytes;
    ledger->most = ledger->granted > ledger->most ? ledger->granted : ledger->most;
    return CUDA_SUCCESS;
}

static void release(void *self, uint64_t address, uint64_t bytes)
{
    ((ledger_t *)self)->granted -= bytes;
    mmap(host(address), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static void open_heap(orion_heap_t *heap, ledger_t *ledger, uint64_t range, uint64_t limit)
{
    char why[256] = "";
    *ledger = (ledger_t){0};
    MUST(mmap(host(BASE), range, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) !=
         MAP_FAILED);
    orion_device_config_t config = {
        .heap_base = BASE, .heap_bytes = range, .memory_limit = limit, .granter = {ledger, grant, release}};
    MUST(orion_heap_init(heap, &config, why, sizeof why) == CUDA_SUCCESS);
}

static void close_heap(orion_heap_t *heap, const ledger_t *ledger, uint64_t range)
{
    orion_heap_fini(heap);
    munmap(host(BASE), range);
    MUST(ledger->granted == 0 && !ledger->bad);
}

static void random_use_agrees_with_a_model(void)
{
    const uint64_t range = 8ull << 30, limit = 1ull << 30;
    struct {
        uint64_t address, bytes;
    } live[SLOTS] = {{0, 0}};
    orion_heap_t heap;
    ledger_t ledger;
    const char *why;
    uint64_t seed = check_number("ORION_TEST_SEED", 12345), used = 0;
    open_heap(&heap, &ledger, range, limit);
    for (unsigned step = 0; step < 60000; step++) {
        unsigned slot = (unsigned)(check_random(&seed) % SLOTS);
        if (live[slot].address) {
            CHECK_EQUAL(orion_heap_doom(&heap, live[slot].address, ORION_BLOCK_MODULE), CUDA_ERROR_INVALID_VALUE);
            CHECK_EQUAL(orion_heap_doom(&heap, live[slot].address, ORION_BLOCK_MEMORY), CUDA_SUCCESS);
            CHECK_EQUAL(orion_heap_doom(&heap, live[slot].address, ORION_BLOCK_MEMORY), CUDA_ERROR_INVALID_VALUE);
            orion_heap_retire(&heap, live[slot].address);
            used -= (live[slot].bytes + 4095) / 4096 * 4096;
            live[slot].address = 0;
        } else {
            uint64_t bytes = check_random(&seed) % (1ull << (check_random(&seed) % 27)) + 1, address = 0;
            CUresult result = orion_heap_alloc(&heap, bytes, ORION_BLOCK_MEMORY, &address);
            if (result == CUDA_ERROR_OUT_OF_MEMORY) {
                CHECK(used + bytes > limit);
                continue;
            }
            CHECK_EQUAL(result, CUDA_SUCCESS);
            CHECK(address % 512 == 0 && address >= BASE && address + bytes <= BASE + range);
            for (unsigned i = 0; i < SLOTS; i++)
                CHECK(!live[i].address || address + bytes <= live[i].address ||
                      live[i].address + live[i].bytes <= address);
            live[slot].address = address;
            live[slot].bytes = bytes;
            used += (bytes + 4095) / 4096 * 4096;
            *(char *)host(address) = *(char *)host(address + bytes - 1) = (char)step;
        }
        CHECK_EQUAL(heap.used, used);
        if (step % 500 == 0) {
            int sound = orion_heap_check(&heap, &why);
            if (!sound)
                fprintf(stderr, "step %u: %s\n", step, why);
            CHECK(sound);
        }
    }
    uint64_t base, bytes;
    for (unsigned i = 0; i < SLOTS; i++) {
        if (!live[i].address)
            continue;
        CHECK_EQUAL(orion_heap_find(&heap, live[i].address + live[i].bytes - 1, &base, &bytes), CUDA_SUCCESS);
        CHECK(base == live[i].address && bytes == live[i].bytes);
        orion_heap_doom(&heap, live[i].address, ORION_BLOCK_MEMORY);
        orion_heap_retire(&heap, live[i].address);
    }
    CHECK_EQUAL(heap.used, 0);
    CHECK(ledger.granted <= ORION_HEAP_EXTENT); /* at most one spare */
    close_heap(&heap, &ledger, range);
}

static void empty_extents_go_back(void)
{
    const uint64_t range = 1ull << 30;
    orion_heap_t heap;
    ledger_t ledger;
    uint64_t large, small;
    open_heap(&heap, &ledger, range, range);
    CHECK_EQUAL(orion_heap_alloc(&heap, 100 * MIB, ORION_BLOCK_MEMORY, &large), CUDA_SUCCESS);
    CHECK_EQUAL(ledger.granted, 100 * MIB);
    CHECK_EQUAL(orion_heap_alloc(&heap, 512, ORION_BLOCK_MODULE, &small), CUDA_SUCCESS);
    CHECK_EQUAL(ledger.granted, 114 * MIB); /* a heap of that size asks for larger extents */
    orion_heap_doom(&heap, large, ORION_BLOCK_MEMORY);
    CHECK_EQUAL(ledger.granted, 114 * MIB);
    orion_heap_retire(&heap, large);
    CHECK_EQUAL(ledger.granted, 14 * MIB);
    for (int i = 0; i < 100; i++) { /* the spare is not given back and asked for again */
        orion_heap_doom(&heap, small, ORION_BLOCK_MODULE);
        orion_heap_retire(&heap, small);
        CHECK_EQUAL(orion_heap_alloc(&heap, 512, ORION_BLOCK_MODULE, &small), CUDA_SUCCESS);
    }
    CHECK_EQUAL(ledger.calls, 2);
    close_heap(&heap, &ledger, range);
}

static void granter_that_refuses_is_asked_for_less(void)
{
    const uint64_t range = 256 * MIB;
    orion_heap_t heap;
    ledger_t ledger;
    uint64_t a, b;
    open_heap(&heap, &ledger, range, range);
    CHECK_EQUAL(orion_heap_alloc(&heap, 160 * MIB, ORION_BLOCK_MEMORY, &b), CUDA_SUCCESS);
    ledger.refuse = 2; /* 20 and 10 */
    CHECK_EQUAL(orion_heap_alloc(&heap, MIB, ORION_BLOCK_MEMORY, &a), CUDA_SUCCESS);
    CHECK_EQUAL(ledger.granted, 165 * MIB);
    ledger.refuse = 100;
    CHECK_EQUAL(orion_heap_alloc(&heap, 5 * MIB, ORION_BLOCK_MEMORY, &b), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(ledger.refuse > 90); /* it has not asked without end */
    ledger.refuse = 0;
    CHECK_EQUAL(orion_heap_alloc(&heap, range, ORION_BLOCK_MEMORY, &b), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(orion_heap_alloc(&heap, range + 1, ORION_BLOCK_MEMORY, &b), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(orion_heap_alloc(&heap, UINT64_MAX, ORION_BLOCK_MEMORY, &b), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(heap.used, 161 * MIB);
    close_heap(&heap, &ledger, range);
}

static void small_heap_holds_little(void)
{
    const uint64_t range = 1ull << 30;
    orion_heap_t heap;
    ledger_t ledger;
    uint64_t a;
    open_heap(&heap, &ledger, range, range);
    CHECK_EQUAL(orion_heap_alloc(&heap, 512, ORION_BLOCK_MEMORY, &a), CUDA_SUCCESS);
    CHECK_EQUAL(ledger.granted, 4 * MIB);
    for (int i = 0; i < 2000; i++) {
        CHECK_EQUAL(orion_heap_alloc(&heap, 256 * 1024, ORION_BLOCK_MEMORY, &a), CUDA_SUCCESS);
        CHECK(ledger.granted <= 2 * heap.used + 4 * MIB && ledger.granted <= heap.used + 64 * MIB);
    }
    CHECK(ledger.calls < 64);
    close_heap(&heap, &ledger, range);
}

static void what_is_granted_can_be_used_to_the_last_page(void)
{
    static const uint64_t sizes[] = {1, 5000, 700 << 10, 3 * MIB, 5 * MIB + 1, 33 * MIB};
    const uint64_t range = 16ull << 30, room = 64 * MIB;
    orion_heap_t heap;
    ledger_t ledger;
    const char *why;
    uint64_t a;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const uint64_t takes = (sizes[i] + ORION_HEAP_ALIGN - 1) / ORION_HEAP_ALIGN * ORION_HEAP_ALIGN;
        open_heap(&heap, &ledger, range, range);
        ledger.room = room;
        for (uint64_t n = 0; n < room / takes; n++)
            CHECK_EQUAL(orion_heap_alloc(&heap, sizes[i], ORION_BLOCK_MEMORY, &a), CUDA_SUCCESS);
        CHECK_EQUAL(orion_heap_alloc(&heap, sizes[i], ORION_BLOCK_MEMORY, &a), CUDA_ERROR_OUT_OF_MEMORY);
        CHECK(orion_heap_check(&heap, &why));
        close_heap(&heap, &ledger, range);
    }
}

static void what_nobody_uses_is_given_up(void)
{
    const uint64_t range = 1ull << 30;
    orion_heap_t heap;
    ledger_t ledger;
    uint64_t a[16], large;
    const char *why;
    open_heap(&heap, &ledger, range, range);
    ledger.room = 64 * MIB;
    for (int i = 0; i < 16; i++) /* each in an extent of its own, but for the small ones */
        CHECK_EQUAL(orion_heap_alloc(&heap, i ? 4 * MIB : 4096, ORION_BLOCK_MEMORY, &a[i]), CUDA_SUCCESS);
    for (int i = 1; i < 16; i += 2) {
        orion_heap_doom(&heap, a[i], ORION_BLOCK_MEMORY);
        orion_heap_retire(&heap, a[i]);
    }
    CHECK_EQUAL(orion_heap_alloc(&heap, 32 * MIB, ORION_BLOCK_MEMORY, &large), CUDA_SUCCESS); /* in one piece again */
    CHECK_EQUAL(ledger.granted, 32 * MIB + 7 * 4 * MIB + 4096);
    CHECK_EQUAL(orion_heap_trim(&heap), 0);
    orion_heap_doom(&heap, large, ORION_BLOCK_MEMORY);
    orion_heap_retire(&heap, large);
    CHECK_EQUAL(orion_heap_trim(&heap), 1);
    CHECK_EQUAL(ledger.granted, 7 * 4 * MIB + 4096);
    CHECK(orion_heap_check(&heap, &why));
    close_heap(&heap, &ledger, range);
}

static void best_fit_keeps_large_blocks_whole(void)
{
    const uint64_t range = 256 * MIB;
    orion_heap_t heap;
    ledger_t ledger;
    uint64_t a[5], again;
    static const uint64_t sizes[5] = {8192, 512, 2048, 512, 4096};
    open_heap(&heap, &ledger, range, range);
    for (int i = 0; i < 5; i++)
        CHECK_EQUAL(orion_heap_alloc(&heap, sizes[i], ORION_BLOCK_MEMORY, &a[i]), CUDA_SUCCESS);
    for (int i = 0; i < 3; i += 2) {
        orion_heap_doom(&heap, a[i], ORION_BLOCK_MEMORY);
        orion_heap_retire(&heap, a[i]);
    }
    CHECK_EQUAL(orion_heap_alloc(&heap, 1500, ORION_BLOCK_MEMORY, &again), CUDA_SUCCESS);
    CHECK_EQUAL(again, a[2]);
    CHECK_EQUAL(orion_heap_alloc(&heap, 8192, ORION_BLOCK_MEMORY, &again), CUDA_SUCCESS);
    CHECK_EQUAL(again, a[0]);
    close_heap(&heap, &ledger, range);
}

static void memory_holds_no_bookkeeping(void)
{
    const uint64_t range = 256 * MIB;
    orion_heap_t heap;
    ledger_t ledger;
    uint64_t a[64], seed = 99;
    const char *why;
    open_heap(&heap, &ledger, range, range);
    for (int i = 0; i < 64; i++)
        CHECK_EQUAL(orion_heap_alloc(&heap, 10000, ORION_BLOCK_MEMORY, &a[i]), CUDA_SUCCESS);
    for (uint64_t i = 0; i < MIB / 8; i++)
        ((uint64_t *)host(BASE))[i] = check_random(&seed);
    for (int i = 0; i < 64; i += 2) {
        CHECK_EQUAL(orion_heap_doom(&heap, a[i], ORION_BLOCK_MEMORY), CUDA_SUCCESS);
        orion_heap_retire(&heap, a[i]);
    }
    CHECK(orion_heap_check(&heap, &why));
    close_heap(&heap, &ledger, range);
}

CHECK_MAIN(CASE(random_use_agrees_with_a_model), CASE(empty_extents_go_back),
           CASE(granter_that_refuses_is_asked_for_less), CASE(small_heap_holds_little),
           CASE(best_fit_keeps_large_blocks_whole), CASE(memory_holds_no_bookkeeping),
           CASE(what_is_granted_can_be_used_to_the_last_page), CASE(what_nobody_uses_is_given_up))
