/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads, streams, events and gates at random; made for ThreadSanitizer. Each stream counts its own operations
 * in plain, unlocked memory: only a correct order makes that race-free and complete.
 */
#include "devices.h"

#include <sched.h>

#define THREADS 4
#define STREAMS 6
#define EVENTS 8

static const orion_device_ops_t *ops;
static orion_device_t *device;
static orion_stream_t *streams[STREAMS]; /* [0] is the default stream, the last two are non-blocking */
static orion_event_t *events[EVENTS];
static orion_function_t *add;
static uint64_t counters; /* per stream 64 bytes, written by kernels or callbacks */
static uint32_t callbacks;

typedef struct client {
    pthread_t id;
    uint64_t seed;
    unsigned steps;
    uint32_t added[STREAMS], expected_callbacks;
} client_t;

static void count_callback(void *arg, CUresult result)
{
    (void)arg;
    if (result == CUDA_SUCCESS)
        __atomic_fetch_add(&callbacks, 1, __ATOMIC_RELAXED);
}

static void add_callback(void *arg, CUresult result)
{
    (void)result;
    *(uint32_t *)arg += 1; /* plain: stream order is the lock */
    __atomic_fetch_add(&callbacks, 1, __ATOMIC_RELAXED);
}

static void *client_main(void *arg)
{
    client_t *client = arg;
    orion_gate_t *gate = NULL;
    for (unsigned step = 0; step < client->steps; step++) {
        unsigned s = (unsigned)(check_random(&client->seed) % STREAMS);
        orion_event_t *event = events[check_random(&client->seed) % EVENTS];
        uint64_t counter = counters + s * 64;
        switch (check_random(&client->seed) % 8) {
        case 0:
        case 1: {
            kernel_params_t params = {counter, 1, 1};
            orion_launch_t launch = launch_of(add, 1, 1, &params);
            MUST(ops->launch(device, streams[s], &launch, NULL, NULL) == CUDA_SUCCESS);
            client->added[s]++;
            break;
        }
        case 2:
            MUST(ops->event_record(device, event, streams[s]) == CUDA_SUCCESS);
            break;
        case 3:
            MUST(ops->stream_wait_event(device, streams[s], event) == CUDA_SUCCESS);
            break;
        case 4:
            MUST(ops->stream_notify(device, streams[s], count_callback, NULL) == CUDA_SUCCESS);
            client->expected_callbacks++;
            break;
        case 5:
            MUST(ops->event_notify(device, event, count_callback, NULL) == CUDA_SUCCESS);
            client->expected_callbacks++;
            break;
        case 6:
            MUST(ops->fill(device, streams[s], counter + 32, step, 4, 0, 1, 1, add_callback, host(counter + 16)) ==
                 CUDA_SUCCESS);
            client->expected_callbacks++;
            break;
        default:
            if (gate) {
                ops->host_gate_open(device, gate);
                gate = NULL;
            } else if (step + 1 < client->steps) {
                MUST(ops->host_gate(device, streams[s], count_callback, NULL, &gate) == CUDA_SUCCESS);
                client->expected_callbacks++;
            }
        }
    }
    if (gate)
        ops->host_gate_open(device, gate);
    return NULL;
}

static void stress(const orion_device_ops_t *which)
{
    char why[256];
    ops = which;
    callbacks = 0;
    orion_device_config_t config = {.memory_limit = 64 * MIB, .threads = 3, .compiler = &c_compiler};
    MUST(ops->open(&config, &device, why, sizeof why) == CUDA_SUCCESS);
    orion_module_t *module;
    MUST(ops->module_load(device, "C! image", 8, &module, NULL, 0) == CUDA_SUCCESS);
    MUST(ops->module_function(device, module, "add", &add, NULL, NULL, 0) == CUDA_SUCCESS);
    MUST(ops->mem_alloc(device, STREAMS * 64, &counters) == CUDA_SUCCESS);
    for (int i = 1; i < STREAMS; i++)
        MUST(ops->stream_create(device, i >= STREAMS - 2 ? CU_STREAM_NON_BLOCKING : 0, 0, &streams[i]) == CUDA_SUCCESS);
    for (int i = 0; i < EVENTS; i++)
        MUST(ops->event_create(device, 0, &events[i]) == CUDA_SUCCESS);
    client_t clients[THREADS] = {{.seed = 0}};
    for (int i = 0; i < THREADS; i++) {
        clients[i].seed = check_number("ORION_TEST_SEED", 4711) + (uint64_t)i * 977;
        clients[i].steps = (unsigned)check_number("ORION_TEST_STEPS", 20000);
        MUST(pthread_create(&clients[i].id, NULL, client_main, &clients[i]) == 0);
    }
    uint32_t expected = 0, added[STREAMS] = {0};
    for (int i = 0; i < THREADS; i++) {
        pthread_join(clients[i].id, NULL);
        expected += clients[i].expected_callbacks;
        for (int s = 0; s < STREAMS; s++)
            added[s] += clients[i].added[s];
    }
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    /* A notification of an event may be called a moment after the work that made it ready has finished. */
    while (__atomic_load_n(&callbacks, __ATOMIC_RELAXED) < expected)
        sched_yield();
    CHECK_EQUAL(callbacks, expected);
    for (int s = 0; s < STREAMS && which == &orion_cpu_device; s++)
        CHECK_EQUAL(*(uint32_t *)host(counters + (unsigned)s * 64), added[s]);
    for (int i = 1; i < STREAMS; i++)
        ops->stream_destroy(device, streams[i]);
    for (int i = 0; i < EVENTS; i++)
        ops->event_destroy(device, events[i]);
    ops->close(device);
}

static void random_work_on_null(void)
{
    stress(&orion_null_device);
}

static void random_work_on_cpu(void)
{
    stress(&orion_cpu_device);
}

CHECK_MAIN(CASE(random_work_on_null), CASE(random_work_on_cpu))
