/* SPDX-License-Identifier: Apache-2.0 */
/* Handles: dead ones stay dead, numbers fit the wire, values cannot be dereferenced. */
#include "handles.h"

#include "../csrc/check.h"

static void value_carries_kind_and_wire_number(void)
{
    void *handle;
    uint64_t wire, again;
    CHECK(!orion_handle_new(NULL, ORION_KIND_EVENT, &handle, &wire));
    CHECK(orion_handle_kind(handle) == ORION_KIND_EVENT);
    CHECK(wire != 0 && wire < (1ull << 48));
    CHECK(!orion_handle_wire(NULL, ORION_KIND_EVENT, handle, &again) && again == wire);
    CHECK((uint64_t)handle >> 62 == 1);
    orion_handle_drop(NULL, ORION_KIND_EVENT, handle);
}

static void wrong_kind_null_and_garbage_are_refused(void)
{
    void *handle;
    uint64_t wire;
    CHECK(!orion_handle_new(NULL, ORION_KIND_STREAM, &handle, &wire));
    CHECK(orion_handle_wire(NULL, ORION_KIND_EVENT, handle, &wire) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_handle_wire(NULL, ORION_KIND_EVENT, NULL, &wire) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_handle_wire(NULL, ORION_KIND_CONTEXT, &wire, &wire) == CUDA_ERROR_INVALID_CONTEXT);
    CHECK(orion_handle_wire(NULL, ORION_KIND_STREAM, (void *)UINTPTR_MAX, &wire) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_handle_wire(NULL, ORION_KIND_STREAM, (void *)((uintptr_t)handle + 1), &wire));
    orion_handle_drop(NULL, ORION_KIND_STREAM, handle);
}

static void dropped_handle_stays_dead_when_its_index_is_used_again(void)
{
    void *first, *handle;
    uint64_t wire, first_wire;
    int reused = 0;
    CHECK(!orion_handle_new(NULL, ORION_KIND_MODULE, &first, &first_wire));
    orion_handle_drop(NULL, ORION_KIND_MODULE, first);
    for (int i = 0; i < 1000; i++) {
        CHECK(!orion_handle_new(NULL, ORION_KIND_MODULE, &handle, &wire));
        CHECK(handle != first);
        reused |= (uint32_t)wire == (uint32_t)first_wire;
        CHECK(orion_handle_wire(NULL, ORION_KIND_MODULE, first, &wire) == CUDA_ERROR_INVALID_HANDLE);
        orion_handle_drop(NULL, ORION_KIND_MODULE, handle);
    }
    CHECK(reused);
    orion_handle_drop(NULL, ORION_KIND_MODULE, first); /* once more: nothing happens */
}

static void generation_wraps_without_zero(void)
{
    uint64_t wire;
    uint32_t highest = 0;
    void *handle;
    for (long i = 0; i < 65536L * 70; i++) {
        MUST(!orion_handle_new(NULL, ORION_KIND_LINK, &handle, &wire));
        MUST(wire >> 32 >= 1 && wire >> 32 <= 0xffff);
        if ((uint32_t)(wire >> 32) > highest)
            highest = (uint32_t)(wire >> 32);
        orion_handle_drop(NULL, ORION_KIND_LINK, handle);
    }
    CHECK(highest == 0xffff);
}

static void many_live_objects_keep_theirs(void)
{
    enum { COUNT = 5000 };
    static void *handles[COUNT];
    uint64_t wire;
    for (intptr_t i = 0; i < COUNT; i++) {
        CHECK(!orion_handle_new(NULL, ORION_KIND_FUNCTION, &handles[i], &wire));
        orion_handle_set_object(ORION_KIND_FUNCTION, handles[i], (void *)(i + 1));
    }
    for (intptr_t i = 0; i < COUNT; i += 2)
        orion_handle_drop(NULL, ORION_KIND_FUNCTION, handles[i]);
    for (intptr_t i = 0; i < COUNT; i++)
        CHECK(orion_handle_object(ORION_KIND_FUNCTION, handles[i]) == (i % 2 ? (void *)(i + 1) : NULL));
}

CHECK_MAIN(CASE(value_carries_kind_and_wire_number), CASE(wrong_kind_null_and_garbage_are_refused),
           CASE(dropped_handle_stays_dead_when_its_index_is_used_again), CASE(generation_wraps_without_zero),
           CASE(many_live_objects_keep_theirs))
