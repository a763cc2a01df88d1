/* SPDX-License-Identifier: Apache-2.0 */
/* What every device promises about streams, events, host gates and callbacks. */
#include "device_fixture.h"

static void streams_keep_their_order_and_not_each_others(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *a = stream_of(CU_STREAM_NON_BLOCKING), *b = stream_of(CU_STREAM_NON_BLOCKING);
    uint64_t memory = alloc(4096);
    orion_gate_t *gate = gate_in(a);
    for (uint32_t i = 1; i <= 1000; i++)
        set(a, memory, i);
    set(b, memory + 4, 7);
    CHECK_EQUAL(synchronize_stream(ops, device, b), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory + 4), 7);
    CHECK_EQUAL(get(memory), 0);
    CHECK_EQUAL(ops->stream_query(device, a), CUDA_ERROR_NOT_READY);
    CHECK_EQUAL(ops->stream_query(device, b), CUDA_SUCCESS);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize_stream(ops, device, a), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 1000);
    CHECK_EQUAL(ops->stream_query(device, a), CUDA_SUCCESS);
    CHECK_EQUAL(ops->stream_create(device, 2, 0, &a), CUDA_ERROR_INVALID_VALUE);
    ops->close(device);
}

static void default_stream_waits_for_blocking_streams(void)
{
    open_device(64 * MIB, 2);
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
    CHECK_EQUAL(ops->stream_query(device, NULL), CUDA_ERROR_NOT_READY);
    CHECK_EQUAL(ops->stream_query(device, b), CUDA_ERROR_NOT_READY);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize_stream(ops, device, b), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 1);
    CHECK_EQUAL(get(memory + 4), 1);
    ops->close(device);
}

static void blocking_streams_wait_for_default_stream(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *a = stream_of(0), *free_runner = stream_of(CU_STREAM_NON_BLOCKING);
    uint64_t memory = alloc(4096);
    set(a, memory + 12, 9); /* earlier work does not wait */
    CHECK_EQUAL(get(memory + 12), 9);
    orion_gate_t *gate = gate_in(NULL);
    CHECK_EQUAL(ops->stream_query(device, a), CUDA_SUCCESS); /* it has been given nothing that waits */
    CHECK_EQUAL(synchronize_stream(ops, device, a), CUDA_SUCCESS);
    set(a, memory, 1);
    set(free_runner, memory + 4, 1);
    CHECK_EQUAL(synchronize_stream(ops, device, free_runner), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory + 4), 1);
    CHECK_EQUAL(get(memory), 0);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize_stream(ops, device, a), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 1);
    ops->close(device);
}

static void stream_waits_for_the_record_it_saw(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *a = stream_of(CU_STREAM_NON_BLOCKING), *b = stream_of(CU_STREAM_NON_BLOCKING),
                   *c = stream_of(CU_STREAM_NON_BLOCKING);
    orion_event_t *event = event_of(CU_EVENT_DISABLE_TIMING);
    uint64_t memory = alloc(4096);
    CHECK_EQUAL(ops->event_query(device, event), CUDA_SUCCESS); /* never recorded */
    CHECK_EQUAL(ops->stream_wait_event(device, b, event), CUDA_SUCCESS);
    orion_gate_t *gate = gate_in(a);
    CHECK_EQUAL(ops->event_record(device, event, a), CUDA_SUCCESS);
    CHECK_EQUAL(ops->stream_wait_event(device, b, event), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_query(device, event), CUDA_ERROR_NOT_READY);
    set(b, memory, 1);
    CHECK_EQUAL(ops->event_record(device, event, c), CUDA_SUCCESS); /* done at once; b still waits for the first */
    CHECK_EQUAL(ops->event_query(device, event), CUDA_SUCCESS);
    CHECK_EQUAL(ops->stream_query(device, b), CUDA_ERROR_NOT_READY);
    CHECK_EQUAL(get(memory), 0);
    ops->event_destroy(device, event);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize_stream(ops, device, b), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 1);
    ops->close(device);
}

static void events_measure_time_between_them(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *a = stream_of(0);
    orion_event_t *start = event_of(0), *end = event_of(0), *untimed = event_of(CU_EVENT_DISABLE_TIMING);
    waiter_t seen = WAITER;
    float ms = -1;
    CHECK_EQUAL(ops->event_elapsed(device, start, end, &ms), CUDA_ERROR_INVALID_HANDLE);
    CHECK_EQUAL(ops->event_record(device, start, a), CUDA_SUCCESS);
    orion_gate_t *gate = gate_in(a);
    CHECK_EQUAL(ops->event_record(device, end, a), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_notify(device, end, waiter_done, &seen), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_elapsed(device, start, end, &ms), CUDA_ERROR_NOT_READY);
    usleep(20000);
    CHECK_EQUAL(waiter_calls(&seen), 0);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(waiter_wait(&seen, 1), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_elapsed(device, start, end, &ms), CUDA_SUCCESS);
    CHECK(ms >= 19.9f);
    CHECK_EQUAL(ops->event_elapsed(device, end, start, &ms), CUDA_SUCCESS);
    CHECK(ms <= -19.9f);
    CHECK_EQUAL(ops->event_record(device, untimed, a), CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_elapsed(device, start, untimed, &ms), CUDA_ERROR_INVALID_HANDLE);
    CHECK_EQUAL(ops->event_notify(device, end, waiter_done, &seen), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_calls(&seen), 2);
    CHECK_EQUAL(ops->event_create(device, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING, &end),
                CUDA_ERROR_NOT_SUPPORTED);
    ops->close(device);
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
    open_device(64 * MIB, 4);
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
    ops->close(device);
}

static void open_own_gate(void *arg, CUresult result)
{
    (void)result;
    ops->host_gate_open(device, *(orion_gate_t **)arg);
}

static void gates_hold_and_let_go(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *stream = stream_of(0);
    uint64_t memory = alloc(4096);
    waiter_t reached = WAITER;
    orion_gate_t *gate, *second;
    orion_device_counters_t counters;
    CHECK_EQUAL(ops->host_gate(device, stream, waiter_done, &reached, &gate), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_calls(&reached), 1);
    CHECK_EQUAL(ops->host_gate(device, stream, waiter_done, &reached, &second), CUDA_SUCCESS);
    set(stream, memory, 1);
    CHECK_EQUAL(waiter_calls(&reached), 1);
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.closed_gates, 2);
    CHECK_EQUAL(counters.pending, 3);
    ops->host_gate_open(device, second); /* before its turn */
    CHECK_EQUAL(get(memory), 0);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_calls(&reached), 2);
    CHECK_EQUAL(get(memory), 1);
    CHECK_EQUAL(ops->host_gate(device, stream, open_own_gate, &gate, &gate), CUDA_SUCCESS); /* from its callback */
    CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
    CHECK_EQUAL(ops->stream_query(device, stream), CUDA_SUCCESS);
    ops->close(device);
}

static void query_self(void *arg, CUresult result)
{
    *(CUresult *)arg = result ? result : ops->stream_query(device, NULL);
}

static void query_after_a_callback_says_done(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *stream = stream_of(0);
    uint64_t a = alloc(4 * MIB);
    CUresult seen[2] = {CUDA_ERROR_UNKNOWN, CUDA_ERROR_UNKNOWN};
    orion_gate_t *gate = gate_in(stream);
    CHECK_EQUAL(ops->stream_notify(device, stream, query_self, &seen[0]), CUDA_SUCCESS);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(seen[0], CUDA_SUCCESS);
    CHECK_EQUAL(ops->fill(device, stream, a, 1, 1, 0, 4 * MIB, 1, query_self, &seen[1]), CUDA_SUCCESS);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    CHECK_EQUAL(seen[1], CUDA_SUCCESS);
    ops->close(device);
}

static void destroyed_streams_finish_their_work(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *stream = stream_of(0), *idle = stream_of(0);
    uint64_t memory = alloc(4096);
    orion_gate_t *gate = gate_in(stream);
    set(stream, memory, 3);
    ops->stream_destroy(device, stream);
    ops->stream_destroy(device, idle);
    CHECK_EQUAL(get(memory), 0);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    CHECK_EQUAL(get(memory), 3);
    ops->close(device);
}

static void synchronize_waits_for_all_streams(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *streams[8];
    orion_gate_t *gates[8];
    waiter_t all = WAITER, room = WAITER;
    for (int i = 0; i < 8; i++) {
        streams[i] = stream_of(i % 2 ? CU_STREAM_NON_BLOCKING : 0);
        gates[i] = gate_in(streams[i]);
    }
    CHECK_EQUAL(ops->synchronize_notify(device, waiter_done, &all), CUDA_SUCCESS);
    gate_in(streams[0]); /* later work is not waited for */
    CHECK_EQUAL(ops->room_notify(device, 1, waiter_done, &room), CUDA_SUCCESS);
    CHECK_EQUAL(ops->room_notify(device, 100, waiter_done, &room), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_calls(&room), 1);
    for (int i = 0; i < 8; i++) {
        CHECK_EQUAL(waiter_calls(&all), 0);
        ops->host_gate_open(device, gates[i]);
    }
    CHECK_EQUAL(waiter_wait(&all, 1), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_calls(&room), 2);
    ops->close(device); /* opens the last gate */
}

CHECK_MAIN(CASE(streams_keep_their_order_and_not_each_others), CASE(default_stream_waits_for_blocking_streams),
           CASE(blocking_streams_wait_for_default_stream), CASE(stream_waits_for_the_record_it_saw),
           CASE(events_measure_time_between_them), CASE(callbacks_come_in_stream_order), CASE(gates_hold_and_let_go),
           CASE(query_after_a_callback_says_done), CASE(destroyed_streams_finish_their_work),
           CASE(synchronize_waits_for_all_streams))
