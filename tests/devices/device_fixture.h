/* SPDX-License-Identifier: Apache-2.0 */
/* For the suite that every device passes; its programs are built once per device, DEVICE names the ops table. Host
 * gates hold streams, so the order of things is shown, not hoped for. */
#ifndef ORION_TESTS_DEVICE_FIXTURE_H
#define ORION_TESTS_DEVICE_FIXTURE_H

#include "devices.h"

#ifndef DEVICE
#define DEVICE orion_null_device
#endif

static const orion_device_ops_t *ops = &DEVICE;
static orion_device_t *device;

static inline void open_device(uint64_t limit, int threads)
{
    char why[256] = "";
    orion_device_config_t config = {
        .memory_limit = limit, .threads = threads, .compiler = &c_compiler, .host_id = "a test"};
    if (ops->open(&config, &device, why, sizeof why) != CUDA_SUCCESS) {
        fprintf(stderr, "open: %s\n", why);
        exit(1);
    }
}

static inline uint64_t alloc(uint64_t bytes)
{
    uint64_t address = 0;
    MUST(ops->mem_alloc(device, bytes, &address) == CUDA_SUCCESS);
    return address;
}

static inline orion_stream_t *stream_of(uint32_t flags)
{
    orion_stream_t *stream = NULL;
    MUST(ops->stream_create(device, flags, 0, &stream) == CUDA_SUCCESS);
    return stream;
}

static inline orion_event_t *event_of(uint32_t flags)
{
    orion_event_t *event = NULL;
    MUST(ops->event_create(device, flags, &event) == CUDA_SUCCESS);
    return event;
}

static inline orion_gate_t *gate_in(orion_stream_t *stream)
{
    orion_gate_t *gate = NULL;
    MUST(ops->host_gate(device, stream, NULL, NULL, &gate) == CUDA_SUCCESS);
    return gate;
}

static inline void set(orion_stream_t *stream, uint64_t address, uint32_t value)
{
    MUST(ops->fill(device, stream, address, value, 4, 0, 1, 1, NULL, NULL) == CUDA_SUCCESS);
}

static inline uint32_t get(uint64_t address)
{
    return __atomic_load_n((uint32_t *)host(address), __ATOMIC_ACQUIRE);
}

#endif
