/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the suite of the other devices asks, of a device whose memory is not the host's and whose work is done later:
 * order, waiting, gates, callbacks, memory, copies, modules, launches, reset. It runs on whatever driver there is: a
 * real one, or (the cascade) ours in front of an in-process twin or of a server. No driver: exit status 77.
 */
#include "devices.h"

static const orion_device_ops_t *const ops = &orion_cuda_device;
static orion_device_t *device;
static orion_stream_t *reader; /* reads memory past streams that are held */
static int runs_kernels;
static uint32_t turn;
static orion_usage_t usage;

static void no_print(void *self, const char *text, size_t bytes)
{
    (void)self, (void)text, (void)bytes;
}

static CUresult try_open(uint64_t limit, char *why, size_t why_bytes)
{
    turn = ORION_TURN_ALONE;
    usage = (orion_usage_t){0};
    orion_device_config_t config = {.memory_limit = limit, .print = no_print, .turn = &turn, .usage = &usage};
    return ops->open(&config, &device, why, why_bytes);
}

static void begin(void)
{
    char why[512] = "";
    orion_device_info_t info;
    if (try_open(256 * MIB, why, sizeof why) != CUDA_SUCCESS) {
        fprintf(stderr, "open: %s\n", why);
        exit(1);
    }
    MUST(ops->stream_create(device, CU_STREAM_NON_BLOCKING, 0, &reader) == CUDA_SUCCESS);
    ops->describe(device, &info);
    runs_kernels = strstr(info.name, "null device") == NULL;
}

static void end(void)
{
    ops->close(device);
}

static uint64_t alloc(uint64_t bytes)
{
    uint64_t address = 0;
    MUST(ops->mem_alloc(device, bytes, &address) == CUDA_SUCCESS);
    return address;
}

static orion_stream_t *stream_of(uint32_t flags)
{
    orion_stream_t *stream = NULL;
    MUST(ops->stream_create(device, flags, 0, &stream) == CUDA_SUCCESS);
    return stream;
}

static orion_event_t *event_of(uint32_t flags)
{
    orion_event_t *event = NULL;
    MUST(ops->event_create(device, flags, &event) == CUDA_SUCCESS);
    return event;
}

static orion_gate_t *gate_in(orion_stream_t *stream)
{
    orion_gate_t *gate = NULL;
    MUST(ops->host_gate(device, stream, NULL, NULL, &gate) == CUDA_SUCCESS);
    return gate;
}

static void set(orion_stream_t *stream, uint64_t address, uint32_t value)
{
    MUST(ops->fill(device, stream, address, value, 4, 0, 1, 1, NULL, NULL) == CUDA_SUCCESS);
}

static void fetch(uint64_t address, void *to, uint64_t bytes)
{
    waiter_t done = WAITER;
    MUST(ops->copy(device, reader, (uint64_t)(uintptr_t)to, address, bytes, waiter_done, &done) == CUDA_SUCCESS);
    MUST(waiter_wait(&done, 1) == CUDA_SUCCESS);
}

static uint32_t get(uint64_t address)
{
    uint32_t value;
    fetch(address, &value, sizeof value);
    return value;
}

/* ---- streams, events, gates */

static void streams_keep_their_order_and_not_each_others(void)
{
    begin();
    orion_stream_t *a = stream_of(CU_STREAM_NON_BLOCKING), *b = stream_of(CU_STREAM_NON_BLOCKING);
    uint64_t memory = alloc(4096);
    orion_gate_t *gate = gate_in(a);
    for (uint32_t i = 1; i <= 1000; i++) /* more than the driver is given at a time */
        set(a, memory, i);
    CHECK_EQUAL(ops->stream_query(device, a), CUDA_ERROR_NOT_READY);
    set(b, memory + 4, 7); /* goes through the backlog as well */
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize_stream(ops, device, b), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory + 4), 7);
    CHECK_EQUAL(synchronize_stream(ops, device, a), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 1000);
    gate = gate_in(a);
    set(a, memory, 1);
    set(b, memory + 4, 8);
    CHECK_EQUAL(synchronize_stream(ops, device, b), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory + 4), 8);
    CHECK_EQUAL(get(memory), 1000);
    CHECK_EQUAL(ops->stream_query(device, b), CUDA_SUCCESS);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize_stream(ops, device, a), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 1);
    CHECK_EQUAL(ops->stream_create(device, 2, 0, &a), CUDA_ERROR_INVALID_VALUE);
    end();
}

static void default_stream_and_blocking_streams_wait_for_each_other(void)
{
    begin();
    orion_stream_t *a = stream_of(0), *b = stream_of(0), *free_runner = stream_of(CU_STREAM_NON_BLOCKING);
    uint64_t memory = alloc(4096);
    orion_gate_t *gate = gate_in(a);
    set(NULL, memory, 1);  /* waits for a */
    set(b, memory + 4, 1); /* waits for the default stream */
    set(free_runner, memory + 8, 1);
    CHECK_EQUAL(synchronize_stream(ops, device, free_runner), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory + 8), 1);
    CHECK_EQUAL(get(memory), 0);
    CHECK_EQUAL(get(memory + 4), 0);
    CHECK_EQUAL(ops->stream_query(device, b), CUDA_ERROR_NOT_READY);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize_stream(ops, device, b), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 1);
    CHECK_EQUAL(get(memory + 4), 1);
    end();
}

/* The watcher's own marks must not tie the default stream to what came later. */
static void default_stream_is_done_whatever_comes_later(void)
{
    begin();
    orion_stream_t *a = stream_of(0);
    uint64_t memory = alloc(4096);
    waiter_t done = WAITER;
    for (int i = 0; i < 50; i++) {
        CHECK_EQUAL(ops->fill(device, NULL, memory, 1, 4, 0, 1, 1, waiter_done, &done), CUDA_SUCCESS);
        orion_gate_t *gate = gate_in(a);
        CHECK_EQUAL(waiter_wait(&done, (unsigned)i + 1), CUDA_SUCCESS);
        ops->host_gate_open(device, gate);
    }
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    end();
}

static void stream_waits_for_the_record_it_saw(void)
{
    begin();
    orion_stream_t *a = stream_of(CU_STREAM_NON_BLOCKING), *b = stream_of(CU_STREAM_NON_BLOCKING),
                   *c = stream_of(CU_STREAM_NON_BLOCKING);
    orion_event_t *event = event_of(CU_EVENT_DISABLE_TIMING);
    uint64_t memory = alloc(4096);
    waiter_t first = WAITER, second = WAITER;
    CHECK_EQUAL(ops->event_query(device, event), CUDA_SUCCESS); /* never recorded */
    CHECK_EQUAL(ops->stream_wait_event(device, b, event), CUDA_SUCCESS);
    orion_gate_t *gate = gate_in(a);
    CHECK_EQUAL(ops->event_record(device, event, a), CUDA_SUCCESS);
    CHECK_EQUAL(ops->stream_wait_event(device, b, event), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_query(device, event), CUDA_ERROR_NOT_READY);
    CHECK_EQUAL(ops->event_notify(device, event, waiter_done, &first), CUDA_SUCCESS);
    set(b, memory, 1);
    CHECK_EQUAL(ops->event_record(device, event, c), CUDA_SUCCESS); /* b still waits for the first record */
    CHECK_EQUAL(ops->event_notify(device, event, waiter_done, &second), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&second, 1), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_query(device, event), CUDA_SUCCESS);
    CHECK_EQUAL(ops->stream_query(device, b), CUDA_ERROR_NOT_READY);
    CHECK_EQUAL(get(memory), 0);
    CHECK_EQUAL(waiter_calls(&first), 0);
    ops->event_destroy(device, event);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(waiter_wait(&first, 1), CUDA_SUCCESS);
    CHECK_EQUAL(synchronize_stream(ops, device, b), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 1);
    end();
}

static void event_is_done_whatever_comes_later(void)
{
    begin();
    orion_stream_t *a = stream_of(CU_STREAM_NON_BLOCKING);
    orion_event_t *event = event_of(0);
    waiter_t seen = WAITER;
    orion_gate_t *first = gate_in(a);
    CHECK_EQUAL(ops->event_record(device, event, a), CUDA_SUCCESS);
    orion_gate_t *later = gate_in(a);
    CHECK_EQUAL(ops->event_notify(device, event, waiter_done, &seen), CUDA_SUCCESS);
    ops->host_gate_open(device, first);
    CHECK_EQUAL(waiter_wait(&seen, 1), CUDA_SUCCESS);
    CHECK_EQUAL(ops->stream_query(device, a), CUDA_ERROR_NOT_READY);
    ops->host_gate_open(device, later);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    end();
}

static void events_measure_time_between_them(void)
{
    begin();
    orion_stream_t *a = stream_of(0);
    orion_event_t *start = event_of(0), *stop = event_of(0), *untimed = event_of(CU_EVENT_DISABLE_TIMING);
    waiter_t seen = WAITER;
    float ms = -1;
    CHECK_EQUAL(ops->event_elapsed(device, start, stop, &ms), CUDA_ERROR_INVALID_HANDLE);
    CHECK_EQUAL(ops->event_record(device, start, a), CUDA_SUCCESS);
    orion_gate_t *gate = gate_in(a);
    CHECK_EQUAL(ops->event_record(device, stop, a), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_notify(device, stop, waiter_done, &seen), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_elapsed(device, start, stop, &ms), CUDA_ERROR_NOT_READY);
    usleep(20000);
    CHECK_EQUAL(waiter_calls(&seen), 0);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(waiter_wait(&seen, 1), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_elapsed(device, start, stop, &ms), CUDA_SUCCESS);
    CHECK(ms >= 15.0f);
    CHECK_EQUAL(ops->event_elapsed(device, start, untimed, &ms), CUDA_ERROR_INVALID_HANDLE);
    orion_event_t *none;
    CHECK_EQUAL(ops->event_create(device, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING, &none),
                CUDA_ERROR_NOT_SUPPORTED);
    end();
}

typedef struct order {
    uint32_t last, bad;
} order_t;

typedef struct expectation {
    order_t *order;
    uint32_t number;
} expectation_t;

static void in_order(void *arg, CUresult result)
{
    expectation_t *expected = arg;
    if (result != CUDA_SUCCESS || ++expected->order->last != expected->number)
        expected->order->bad++;
}

static void callbacks_come_in_stream_order(void)
{
    begin();
    orion_stream_t *stream = stream_of(0);
    static expectation_t expected[3000];
    order_t order = {0, 0};
    uint64_t a = alloc(4 * MIB), b = alloc(4 * MIB);
    orion_gate_t *gate = gate_in(stream);
    for (uint32_t i = 0; i < 3000; i++) {
        expected[i] = (expectation_t){&order, i + 1};
        CUresult result = i % 3 == 0   ? ops->stream_notify(device, stream, in_order, &expected[i])
                          : i % 3 == 1 ? ops->copy(device, stream, b, a, i % 5 ? 64 : 600 << 10, in_order, &expected[i])
                                       : ops->fill(device, stream, a, i, 4, 0, 16, 1, in_order, &expected[i]);
        CHECK_EQUAL(result, CUDA_SUCCESS);
        if (i == 1500)
            ops->host_gate_open(device, gate);
    }
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    CHECK_EQUAL(order.last, 3000);
    CHECK_EQUAL(order.bad, 0);
    end();
}

static void gates_hold_and_let_go(void)
{
    begin();
    orion_stream_t *stream = stream_of(0);
    uint64_t memory = alloc(4096);
    waiter_t reached = WAITER;
    orion_gate_t *gate, *second;
    orion_device_counters_t counters;
    CHECK_EQUAL(ops->host_gate(device, stream, waiter_done, &reached, &gate), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&reached, 1), CUDA_SUCCESS);
    CHECK_EQUAL(ops->host_gate(device, stream, waiter_done, &reached, &second), CUDA_SUCCESS);
    set(stream, memory, 1);
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.closed_gates, 2);
    CHECK(counters.pending >= 3);
    CHECK_EQUAL(waiter_calls(&reached), 1);
    ops->host_gate_open(device, second); /* before its turn */
    CHECK_EQUAL(get(memory), 0);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_calls(&reached), 2);
    CHECK_EQUAL(get(memory), 1);
    end();
}

static void destroyed_streams_finish_their_work(void)
{
    begin();
    orion_stream_t *stream = stream_of(0);
    uint64_t memory = alloc(4096);
    orion_gate_t *gate = gate_in(stream);
    set(stream, memory, 3);
    ops->stream_destroy(device, stream);
    ops->stream_destroy(device, stream_of(0));
    CHECK_EQUAL(get(memory), 0);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 3);
    end();
}

static void synchronize_waits_for_all_streams_and_for_no_more(void)
{
    begin();
    orion_stream_t *streams[4];
    orion_gate_t *gates[4];
    waiter_t all = WAITER, room = WAITER;
    for (int i = 0; i < 4; i++) {
        streams[i] = stream_of(CU_STREAM_NON_BLOCKING);
        gates[i] = gate_in(streams[i]);
    }
    CHECK_EQUAL(ops->synchronize_notify(device, waiter_done, &all), CUDA_SUCCESS);
    gate_in(streams[0]); /* later work is not waited for */
    CHECK_EQUAL(ops->room_notify(device, 1, waiter_done, &room), CUDA_SUCCESS);
    for (int i = 0; i < 4; i++) {
        CHECK_EQUAL(waiter_calls(&all), 0);
        ops->host_gate_open(device, gates[i]);
    }
    CHECK_EQUAL(waiter_wait(&all, 1), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&room, 1), CUDA_SUCCESS);
    end(); /* opens the last gate */
}

static void queue_refuses_more_than_its_bound(void)
{
    begin();
    orion_stream_t *stream = stream_of(0);
    uint64_t memory = alloc(64);
    orion_gate_t *gate = gate_in(stream);
    CUresult result = CUDA_SUCCESS;
    unsigned count = 0;
    while (count < 1u << 20 && !(result = ops->fill(device, stream, memory, 1, 1, 0, 8, 1, NULL, NULL)))
        count++;
    CHECK_EQUAL(result, CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(count >= (256 << 10) - 16 && count < 256 << 10);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    end();
}

/* ---- memory */

static void memory_is_zero_aligned_and_limited(void)
{
    begin();
    uint64_t free_bytes, total, base, bytes, a = alloc(1000), b = alloc(4 * MIB);
    unsigned char *seen = malloc(4 * MIB);
    CHECK(a % 256 == 0 && b % 256 == 0); /* what CUDA promises */
    fetch(b, seen, 4 * MIB);
    for (uint64_t i = 0; i < 4 * MIB; i++)
        CHECK_EQUAL(seen[i], 0);
    free(seen);
    CHECK_EQUAL(ops->mem_info(device, &free_bytes, &total), CUDA_SUCCESS);
    CHECK_EQUAL(total, 256 * MIB);
    CHECK_EQUAL(free_bytes, 252 * MIB - 1000);
    CHECK_EQUAL(ops->mem_alloc(device, 253 * MIB, &base), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(ops->mem_alloc(device, 0, &base), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_find(device, a + 999, &base, &bytes), CUDA_SUCCESS);
    CHECK(base == a && bytes == 1000);
    CHECK_EQUAL(ops->mem_find(device, a + 1000, &base, &bytes), CUDA_ERROR_NOT_FOUND);
    CHECK_EQUAL(ops->mem_free(device, a + 512, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_free(device, a, NULL, NULL), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_free(device, a, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_find(device, a, &base, &bytes), CUDA_ERROR_NOT_FOUND);
    end();
}

static void free_waits_for_work(void)
{
    begin();
    orion_stream_t *stream = stream_of(CU_STREAM_NON_BLOCKING);
    waiter_t freed = WAITER;
    uint64_t a = alloc(250 * MIB), b;
    orion_gate_t *gate = gate_in(stream);
    set(stream, a, 5);
    CHECK_EQUAL(ops->mem_free(device, a, waiter_done, &freed), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_alloc(device, 8 * MIB, &b), CUDA_ERROR_OUT_OF_MEMORY);
    orion_device_counters_t counters;
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.memory_dying, 250 * MIB);
    CHECK_EQUAL(waiter_calls(&freed), 0);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(waiter_wait(&freed, 1), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_alloc(device, 8 * MIB, &b), CUDA_SUCCESS);
    end();
}

static void stream_ordered_memory_comes_and_goes(void)
{
    begin();
    orion_stream_t *stream = stream_of(0);
    waiter_t freed = WAITER;
    uint64_t free_bytes, total, a;
    for (int round = 0; round < 20; round++) {
        CHECK_EQUAL(ops->mem_alloc_async(device, stream, 100 * MIB, &a), CUDA_SUCCESS);
        set(stream, a + 4096, 9);
        CHECK_EQUAL(ops->mem_free_async(device, stream, a, waiter_done, &freed), CUDA_SUCCESS);
        CHECK_EQUAL(ops->mem_free_async(device, stream, a, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    }
    CHECK_EQUAL(waiter_wait(&freed, 20), CUDA_SUCCESS);
    ops->mem_info(device, &free_bytes, &total);
    CHECK_EQUAL(free_bytes, total);
    end();
}

static void copies_and_fills_all_shapes(void)
{
    begin();
    orion_stream_t *stream = stream_of(0);
    static const uint64_t sizes[] = {1, 7, 512, 4096, 4097, 512 << 10, (512 << 10) + 1, 5 * MIB + 3, 33 * MIB};
    uint64_t a = alloc(40 * MIB), b = alloc(40 * MIB), seed = 1;
    unsigned char *from = malloc(40 * MIB), *to = malloc(40 * MIB);
    for (uint64_t i = 0; i < 40 * MIB / 8; i++)
        ((uint64_t *)from)[i] = check_random(&seed);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        /* host to device, device to device, device to host; the host's side is known to no driver */
        CHECK_EQUAL(ops->copy(device, stream, a + 1, (uint64_t)(uintptr_t)from, sizes[i], NULL, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(ops->fill(device, stream, b, 0xee, 1, 0, sizes[i] + 1, 1, NULL, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(ops->copy(device, stream, b, a + 1, sizes[i], NULL, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
        fetch(b, to, sizes[i] + 1);
        CHECK(memcmp(to, from, sizes[i]) == 0 && to[sizes[i]] == 0xee);
    }
    CHECK_EQUAL(ops->copy(device, stream, a, (uint64_t)(uintptr_t)from, 40 * MIB, NULL, NULL), CUDA_SUCCESS);
    static const uint64_t shapes[][2] = {{4, 5}, {100, 1000}, {4000, 4000}, {2 * MIB, 7}};
    for (size_t i = 0; i < 4; i++) {
        uint64_t width = shapes[i][0], height = shapes[i][1], pitch = width + 16, step = width + 8;
        CHECK_EQUAL(ops->fill(device, stream, b, 0xee, 1, 0, pitch * height, 1, NULL, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(ops->copy_2d(device, stream, b, pitch, a, step, width, height, NULL, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
        fetch(b, to, pitch * height);
        for (uint64_t row = 0; row < height; row++)
            CHECK(memcmp(to + row * pitch, from + row * step, width) == 0 && to[row * pitch + width] == 0xee);
        CHECK_EQUAL(ops->fill(device, stream, b, 0x1234, 2, pitch, width / 2, height, NULL, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
        fetch(b, to, pitch * height);
        for (uint64_t row = 0; row < height; row++)
            CHECK(to[row * pitch] == 0x34 && to[row * pitch + width - 1] == 0x12 && to[row * pitch + width] == 0xee);
    }
    CHECK_EQUAL(ops->copy_2d(device, stream, b, 4, a, 8, 8, 2, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->fill(device, stream, b + 1, 0, 4, 0, 1, 1, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->fill(device, stream, b, 0, 3, 0, 1, 1, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    free(from);
    free(to);
    end();
}

static void write_takes_its_bytes_along(void)
{
    begin();
    orion_stream_t *stream = stream_of(0);
    static const uint32_t sizes[] = {4, 240, 241, 4096, 5000, 32 << 10};
    uint64_t a = alloc(MIB);
    char *data = malloc(32 << 10), *seen = malloc(32 << 10);
    for (int held = 0; held < 2; held++) {
        for (size_t i = 0; i < 6; i++) {
            orion_gate_t *gate = held ? gate_in(stream) : NULL;
            memset(data, 'a' + (int)i, sizes[i]);
            for (int again = 0; again < 200; again++) /* more than there are bounces */
                CHECK_EQUAL(ops->write(device, stream, a + 4096 * (uint32_t)again % (MIB / 2), data, sizes[i]),
                            CUDA_SUCCESS);
            memset(data, 0, sizes[i]);
            if (gate)
                ops->host_gate_open(device, gate);
            CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
            fetch(a, seen, sizes[i]);
            CHECK_EQUAL(seen[sizes[i] - 1], 'a' + (int)i);
        }
    }
    CHECK_EQUAL(ops->write(device, stream, a, data, (32 << 10) + 1), CUDA_ERROR_INVALID_VALUE);
    free(data);
    free(seen);
    end();
}

/* ---- modules and launches */

static const char image[] =
    ".version 7.0\n.target sm_75\n.address_size 64\n"
    ".visible .global .align 8 .u32 table[4] = {5, 6, 7, 8};\n"
    ".visible .entry add(.param .u64 p_out, .param .u32 p_count, .param .u32 p_value)\n"
    "{\n"
    "    .reg .pred %p<2>;\n    .reg .b32 %r<8>;\n    .reg .b64 %rd<4>;\n"
    "    ld.param.u64 %rd1, [p_out];\n    ld.param.u32 %r1, [p_count];\n    ld.param.u32 %r2, [p_value];\n"
    "    mov.u32 %r3, %ctaid.x;\n    mov.u32 %r4, %ntid.x;\n    mov.u32 %r5, %tid.x;\n"
    "    mad.lo.s32 %r6, %r3, %r4, %r5;\n    setp.ge.u32 %p1, %r6, %r1;\n    @%p1 bra done;\n"
    "    mul.wide.u32 %rd2, %r6, 4;\n    add.s64 %rd3, %rd1, %rd2;\n"
    "    ld.global.u32 %r7, [%rd3];\n    add.s32 %r7, %r7, %r2;\n    st.global.u32 [%rd3], %r7;\n"
    "done:\n    ret;\n}\n";

static orion_module_t *load(void)
{
    orion_module_t *module = NULL;
    char log[1024] = "";
    if (ops->module_load(device, image, sizeof image, &module, log, sizeof log) != CUDA_SUCCESS) {
        fprintf(stderr, "module_load: %s\n", log);
        exit(1);
    }
    return module;
}

static orion_function_t *function_of(orion_module_t *module, const char *name)
{
    orion_function_t *function = NULL;
    MUST(ops->module_function(device, module, name, &function, NULL, NULL, 0) == CUDA_SUCCESS);
    return function;
}

static void modules_have_variables_and_functions(void)
{
    begin();
    char log[256] = "";
    orion_module_t *module;
    CHECK(ops->module_load(device, "????", 5, &module, log, sizeof log) != CUDA_SUCCESS || !runs_kernels);
    module = load();
    uint64_t table, bytes, base;
    uint32_t kernels, globals;
    const char *names[4];
    CHECK_EQUAL(ops->module_global(device, module, "table", &table, &bytes), CUDA_SUCCESS);
    CHECK_EQUAL(bytes, 16);
    if (runs_kernels)
        CHECK_EQUAL(get(table + 12), 8);
    CHECK_EQUAL(ops->module_global(device, module, "nothing", &base, &bytes), CUDA_ERROR_NOT_FOUND);
    CHECK_EQUAL(ops->mem_find(device, table + 4, &base, &bytes), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_free(device, base, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    ops->module_counts(device, module, &kernels, &globals);
    CHECK_EQUAL(kernels, 1);
    CHECK_EQUAL(ops->module_names(device, module, 0, names, 4), 1);
    CHECK(strcmp(names[0], "add") == 0);
    orion_function_t *f, *g;
    static orion_function_info_t info;
    CHECK_EQUAL(ops->module_function(device, module, "add", &f, &info, log, sizeof log), CUDA_SUCCESS);
    CHECK_EQUAL(info.param_count, 3);
    CHECK_EQUAL(info.param_bytes, 16);
    CHECK(info.params[2].offset == 12 && info.params[2].bytes == 4);
    CHECK_EQUAL(ops->module_function(device, module, "add", &g, NULL, NULL, 0), CUDA_SUCCESS);
    CHECK(f == g);
    CHECK_EQUAL(ops->module_function(device, module, "nothing", &g, NULL, log, sizeof log), CUDA_ERROR_NOT_FOUND);
    orion_stream_t *stream = stream_of(0);
    orion_gate_t *gate = gate_in(stream);
    kernel_params_t params = {alloc(64), 1, 1};
    orion_launch_t launch = launch_of(f, 1, 1, &params);
    waiter_t launched = WAITER;
    CHECK_EQUAL(ops->launch(device, stream, &launch, waiter_done, &launched), CUDA_SUCCESS);
    ops->module_unload(device, module); /* the launch still has its function */
    CHECK_EQUAL(ops->mem_find(device, table, &base, &bytes), CUDA_ERROR_NOT_FOUND);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(waiter_wait(&launched, 1), CUDA_SUCCESS);
    CHECK_EQUAL(get(params.out), (uint32_t)runs_kernels);
    end();
}

static void launches_are_checked_counted_and_run(void)
{
    begin();
    orion_module_t *module = load();
    orion_stream_t *stream = stream_of(0);
    waiter_t done = WAITER;
    kernel_params_t params = {alloc(4096), 100, 1};
    orion_launch_t launch = launch_of(function_of(module, "add"), 4, 32, &params), bad = launch;
    bad.block[0] = 1025;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    bad = launch;
    bad.grid[1] = 0;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    bad = launch;
    bad.grid[2] = 65536;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    bad = launch;
    bad.shared_bytes = 1 << 20;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    bad = launch;
    bad.param_bytes = 12;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    for (int i = 0; i < 1000; i++)
        CHECK_EQUAL(ops->launch(device, i % 2 ? stream : NULL, &launch, i == 999 ? waiter_done : NULL, &done),
                    CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
    launch.flags = ORION_LAUNCH_COOPERATIVE;
    CHECK_EQUAL(ops->launch(device, stream, &launch, NULL, NULL), CUDA_SUCCESS);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    orion_device_counters_t counters;
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.launches, 1001);
    CHECK_EQUAL(counters.closed_gates, 0);
    CHECK_EQUAL(get(params.out + 4 * 99), runs_kernels ? 1001u : 0u);
    CHECK_EQUAL(get(params.out + 4 * 100), 0);
    end();
}

static void launches_wait_for_their_turn(void)
{
    begin();
    orion_module_t *module = load();
    orion_stream_t *stream = stream_of(0);
    kernel_params_t params = {alloc(4096), 100, 1};
    orion_launch_t launch = launch_of(function_of(module, "add"), 4, 32, &params);
    waiter_t done = WAITER;
    orion_device_counters_t counters;
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    await_wanting(&usage, 0);
    give_turn(&turn, ORION_TURN_OVER);
    for (int i = 0; i < 100; i++)
        CHECK_EQUAL(ops->launch(device, stream, &launch, waiter_done, &done), CUDA_SUCCESS);
    await_wanting(&usage, 1);
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.launches, 0);
    CHECK_EQUAL(counters.pending, 100);
    CHECK_EQUAL(waiter_calls(&done), 0);
    give_turn(&turn, ORION_TURN_SHARED); /* few at a time, all in the end */
    CHECK_EQUAL(waiter_wait(&done, 100), CUDA_SUCCESS);
    CHECK_EQUAL(get(params.out), runs_kernels ? 100u : 0u);
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.launches, 100);
    CHECK(counters.busy_ns > 0);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    await_wanting(&usage, 0);
    end();
}

/* What lets a stream go on may be behind it: crowded or not, the queue does not stand still for ever. */
static void held_stream_does_not_hold_the_others_while_clients_share(void)
{
    begin();
    orion_module_t *module = load();
    orion_stream_t *held = stream_of(CU_STREAM_NON_BLOCKING), *free_one = stream_of(CU_STREAM_NON_BLOCKING);
    kernel_params_t params = {alloc(4096), 100, 1};
    orion_launch_t launch = launch_of(function_of(module, "add"), 4, 32, &params);
    waiter_t done = WAITER, submitted = WAITER;
    give_turn(&turn, ORION_TURN_OVER);
    orion_gate_t *gate = gate_in(held);
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(ops->launch(device, held, &launch, NULL, NULL), CUDA_SUCCESS);
    CHECK_EQUAL(ops->submitted_notify(device, waiter_done, &submitted), CUDA_SUCCESS);
    CHECK_EQUAL(ops->launch(device, free_one, &launch, waiter_done, &done), CUDA_SUCCESS);
    await_wanting(&usage, 1);
    CHECK_EQUAL(waiter_calls(&submitted), 0); /* the launches wait for their turn */
    give_turn(&turn, ORION_TURN_SHARED);
    CHECK_EQUAL(waiter_wait(&submitted, 1), CUDA_SUCCESS); /* now they are in the driver, behind the gate */
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
    CHECK_EQUAL(get(params.out), runs_kernels ? 1u : 0u);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    CHECK_EQUAL(get(params.out), runs_kernels ? 21u : 0u);
    end();
}

static void nothing_that_ends_waits_for_a_turn(void)
{
    begin();
    waiter_t reset = WAITER, dropped = WAITER;
    for (int round = 0; round < 2; round++) {
        orion_module_t *module = load();
        kernel_params_t params = {alloc(4096), 100, 1};
        orion_launch_t launch = launch_of(function_of(module, "add"), 4, 32, &params);
        give_turn(&turn, ORION_TURN_OVER);
        CHECK_EQUAL(ops->launch(device, NULL, &launch, waiter_done, &dropped), CUDA_SUCCESS);
        if (round == 0) {
            CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
            CHECK_EQUAL(waiter_wait(&reset, 1), CUDA_SUCCESS);
            CHECK_EQUAL(waiter_calls(&dropped), 1);
        }
    }
    end();
    CHECK_EQUAL(waiter_calls(&dropped), 2);
}

static void reset_drops_waiting_work_and_frees_all(void)
{
    begin();
    for (int round = 0; round < 3; round++) {
        orion_stream_t *stream = stream_of(0);
        orion_event_t *event = event_of(0);
        orion_module_t *module = load();
        waiter_t dropped = WAITER, reset = WAITER;
        orion_gate_t *gate;
        uint64_t memory = alloc(MIB), free_bytes, total;
        kernel_params_t params = {memory, 1, 1};
        orion_launch_t launch = launch_of(function_of(module, "add"), 1, 1, &params);
        CHECK_EQUAL(ops->host_gate(device, stream, NULL, NULL, &gate), CUDA_SUCCESS);
        CHECK_EQUAL(ops->launch(device, stream, &launch, waiter_done, &dropped), CUDA_SUCCESS);
        CHECK_EQUAL(ops->event_record(device, event, stream), CUDA_SUCCESS);
        CHECK_EQUAL(ops->event_notify(device, event, waiter_done, &dropped), CUDA_SUCCESS);
        CHECK_EQUAL(ops->mem_free(device, memory, waiter_done, &dropped), CUDA_SUCCESS);
        if (round == 2)
            for (int i = 0; i < 2000; i++) /* fills the backlog */
                set(stream, memory, 1);
        alloc(2 * MIB);
        CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
        CHECK_EQUAL(waiter_wait(&reset, 1), CUDA_SUCCESS);
        CHECK_EQUAL(waiter_calls(&dropped), 3);
        ops->mem_info(device, &free_bytes, &total);
        CHECK_EQUAL(free_bytes, total);
        orion_device_counters_t counters;
        ops->counters(device, &counters);
        CHECK_EQUAL(counters.pending, 0);
        CHECK_EQUAL(counters.closed_gates, 0);
    }
    reader = stream_of(CU_STREAM_NON_BLOCKING);
    CHECK_EQUAL(get(alloc(64)), 0);
    end();
}

static void close_with_work_waiting(void)
{
    begin();
    orion_stream_t *stream = stream_of(0);
    waiter_t dropped = WAITER;
    gate_in(stream);
    uint64_t memory = alloc(64);
    CHECK_EQUAL(ops->fill(device, stream, memory, 1, 1, 0, 8, 1, waiter_done, &dropped), CUDA_SUCCESS);
    end();
    CHECK_EQUAL(waiter_calls(&dropped), 1);
    CHECK_EQUAL(dropped.result, CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

static const check_case_t cases[] = {
    CASE(streams_keep_their_order_and_not_each_others),
    CASE(default_stream_and_blocking_streams_wait_for_each_other),
    CASE(default_stream_is_done_whatever_comes_later),
    CASE(stream_waits_for_the_record_it_saw),
    CASE(event_is_done_whatever_comes_later),
    CASE(events_measure_time_between_them),
    CASE(callbacks_come_in_stream_order),
    CASE(gates_hold_and_let_go),
    CASE(destroyed_streams_finish_their_work),
    CASE(synchronize_waits_for_all_streams_and_for_no_more),
    CASE(queue_refuses_more_than_its_bound),
    CASE(memory_is_zero_aligned_and_limited),
    CASE(free_waits_for_work),
    CASE(stream_ordered_memory_comes_and_goes),
    CASE(copies_and_fills_all_shapes),
    CASE(write_takes_its_bytes_along),
    CASE(modules_have_variables_and_functions),
    CASE(launches_are_checked_counted_and_run),
    CASE(launches_wait_for_their_turn),
    CASE(held_stream_does_not_hold_the_others_while_clients_share),
    CASE(nothing_that_ends_waits_for_a_turn),
    CASE(reset_drops_waiting_work_and_frees_all),
    CASE(close_with_work_waiting),
};

int main(int argc, char **argv)
{
    char why[512] = "";
    if (try_open(64 * MIB, why, sizeof why) != CUDA_SUCCESS) {
        printf("no driver to test: %s\n", why);
        return getenv("ORION_DRIVER") ? 1 : 77;
    }
    ops->close(device);
    return check_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
