/* SPDX-License-Identifier: Apache-2.0 */
/* What a client may say in any order, and with any handle, does not bring the worker down; run it under the sanitizers.
 * ORION_HOSTILE_WORDS: a twentieth of it is how many records are sent; ORION_SEED: which. */
#define _GNU_SOURCE
#include "hostile_client.h"

#include "devices/null/layout.h"
#include "orion_generated/wire.h"

#define PROGRAM_BYTES 600u

static hostile_t h;
static uint8_t payload[256];

#define SEND(slot, name, ...)                                                                                \
    do {                                                                                                     \
        memset(payload, 0, sizeof(payload));                                                                 \
        orion_encode_##name(payload, __VA_ARGS__);                                                           \
        hostile_send(&h, ORION_OP_##name, slot, payload, sizeof(orion_wire_##name##_t) + tail_bytes(#name)); \
    } while (0)

/* The names of kernels here are at most 7 bytes long. */
static uint32_t tail_bytes(const char *name)
{
    return strcmp(name, "orionModuleFunction") == 0 ? 8 : 0;
}

static const orion_reply_t *reply_of(uint32_t slot)
{
    return orion_reply_slot(h.reply, slot);
}

/* Whether the answer has come within so many ms: for what shall not come, and then a test that sees nothing passes. */
static int answered(uint32_t slot, uint32_t sequence, int ms)
{
    for (; orion_load_acquire(&reply_of(slot)->sequence) != sequence; ms--) {
        if (ms == 0)
            return 0;
        (void)usleep(1000);
    }
    return 1;
}

static void wait_answered(uint32_t slot, uint32_t sequence)
{
    while (!answered(slot, sequence, 1000)) {
    }
}

static void load_module(uint64_t module)
{
    SEND(ORION_SLOT_NONE, orionUploadBegin, 1, sizeof(hostile_ptx));
    SEND(ORION_SLOT_NONE, orionUploadChunk, 1, 0, 1, sizeof(hostile_ptx), 0);
    SEND(0, orionModuleLoad, 1, module);
    hostile_settle(&h);
    MUST(reply_of(0)->result == CUDA_SUCCESS);
}

/* One of each, for the records that follow to name. */
static void make_objects(void)
{
    load_module(1);
    SEND(0, orionModuleFunction, 1, 2, "mixed");
    SEND(ORION_SLOT_NONE, cuStreamCreate, 1, CU_STREAM_NON_BLOCKING);
    SEND(ORION_SLOT_NONE, cuEventCreate, 1, 0);
    SEND(ORION_SLOT_NONE, cuEventCreate, 2, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING);
    for (int i = 0; i < 4; i++)
        SEND(0, cuMemAlloc_v2, 4096);
    hostile_settle(&h);
}

static void records_of_any_content_are_answered_or_refused(void)
{
    uint64_t random = check_number("ORION_SEED", 20261129) | 1, records = 0, refused = 0, bytes = 0;
    const uint64_t wanted = check_number("ORION_HOSTILE_WORDS", 1000000) / 20;
    uint8_t program[PROGRAM_BYTES];
    while (records < wanted) {
        for (size_t i = 0; i < sizeof(program); i++)
            program[i] = (uint8_t)(check_random(&random) >> 56);
        hostile_open(&h, NULL);
        make_objects();
        hostile_run(&h, program, sizeof(program));
        hostile_close(&h);
        records += h.records;
        refused += h.refused;
        bytes += atomic_load(&h.stats.bytes);
    }
    CHECK(refused > records / 1000); /* some were none */
    CHECK(refused < records / 2);    /* and most were */
    CHECK(bytes > 0);
}

/* --- what threads share --- */

static uint32_t inside, go_on;

static CUresult slow_function(void *self, uint64_t id, const char *name, const struct orion_cpu_kernel **kernel_p,
                              orion_function_info_t *info_p, char *log, size_t log_bytes)
{
    orion_store_release(&inside, 1);
    while (orion_load_acquire(&go_on) == 0)
        (void)sched_yield();
    return orion_layout_reader.function(self, id, name, kernel_p, info_p, log, log_bytes);
}

static void a_module_outlives_the_compiling_of_its_kernels(void)
{
    orion_compiler_t slow = orion_layout_reader;
    slow.function = slow_function;
    inside = go_on = 0;
    hostile_open(&h, &slow);
    load_module(3);
    SEND(0, orionModuleFunction, 3, 5, "none");
    const uint32_t compiled = h.sequence;
    hostile_serve(&h);
    while (orion_load_acquire(&inside) == 0)
        (void)sched_yield();
    SEND(1, cuModuleUnload, 3);
    const uint32_t unloaded = h.sequence;
    hostile_serve(&h);
    CHECK(!answered(1, unloaded, 50)); /* what has gone would be written to now */
    orion_store_release(&go_on, 1);
    wait_answered(1, unloaded);
    wait_answered(0, compiled);
    CHECK_EQUAL(reply_of(1)->result, CUDA_SUCCESS);
    CHECK_EQUAL(reply_of(0)->result, CUDA_SUCCESS);
    SEND(ORION_SLOT_NONE, orionLaunch, 5, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, NULL); /* its kernels went with it */
    hostile_send(&h, ORION_OP_cuCtxSynchronize, 2, NULL, 0);
    hostile_settle(&h);
    CHECK_EQUAL(reply_of(2)->sticky, CUDA_ERROR_INVALID_HANDLE);
    hostile_close(&h);
}

/* Unloading runs beside the loop, which launches. */
static void a_kernel_outlives_the_launch_that_found_it(void)
{
    for (int round = 0; round < 200; round++) {
        hostile_open(&h, NULL);
        load_module(3);
        SEND(0, orionModuleFunction, 3, 5, "none");
        hostile_settle(&h);
        SEND(1, cuModuleUnload, 3);
        for (int i = 0; i < 500; i++)
            SEND(ORION_SLOT_NONE, orionLaunch, 5, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, NULL);
        hostile_close(&h);
        CHECK(h.refused == 0);
    }
}

static void an_event_outlives_its_sharing(void)
{
    hostile_open(&h, NULL);
    SEND(ORION_SLOT_NONE, cuEventCreate, 2, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING);
    hostile_serve(&h);
    h.asked = 0;
    orion_store_release(&h.held, 1); /* the supervisor takes its time */
    SEND(0, orionIpcShareEvent, 2);
    hostile_serve(&h);
    while (orion_load_acquire(&h.asked) == 0)
        (void)sched_yield();
    SEND(ORION_SLOT_NONE, cuEventDestroy_v2, 2);
    SEND(1, cuEventQuery, 2); /* for the client it has gone at once */
    hostile_serve(&h);
    wait_answered(1, h.sequence - 1);
    CHECK_EQUAL(reply_of(1)->result, CUDA_ERROR_INVALID_HANDLE);
    orion_store_release(&h.held, 0);
    hostile_settle(&h);
    CHECK_EQUAL(reply_of(0)->result, CUDA_SUCCESS);
    hostile_close(&h);
}

static void an_allocation_that_waits_needs_its_stream_no_more(void)
{
    hostile_open(&h, NULL);
    const uint64_t heap = h.base + HOSTILE_RANGE / 2;
    SEND(ORION_SLOT_NONE, cuStreamCreate, 1, CU_STREAM_NON_BLOCKING);
    SEND(0, cuMemAlloc_v2, HOSTILE_MEMORY);
    SEND(ORION_SLOT_NONE, orionHostFunc, 0, 77); /* holds the default stream, and the memory with it */
    SEND(ORION_SLOT_NONE, cuMemFree_v2, heap);
    SEND(1, cuMemAllocAsync, HOSTILE_MEMORY, 1);
    const uint32_t waiting = h.sequence;
    SEND(ORION_SLOT_NONE, cuStreamDestroy_v2, 1);
    hostile_settle(&h);
    CHECK_EQUAL(reply_of(0)->result, CUDA_SUCCESS);
    CHECK(!answered(1, waiting, 1));
    SEND(ORION_SLOT_NONE, orionHostFuncDone, 77);
    hostile_settle(&h);
    wait_answered(1, waiting);
    CHECK_EQUAL(reply_of(1)->result, CUDA_SUCCESS);
    hostile_close(&h);
}

CHECK_MAIN(CASE(records_of_any_content_are_answered_or_refused), CASE(a_module_outlives_the_compiling_of_its_kernels),
           CASE(a_kernel_outlives_the_launch_that_found_it), CASE(an_event_outlives_its_sharing),
           CASE(an_allocation_that_waits_needs_its_stream_no_more))
