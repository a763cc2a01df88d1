/* SPDX-License-Identifier: Apache-2.0 */
/* What every device promises about itself, its memory, and copies and fills. */
#include "device_fixture.h"

static void describes_itself_as_no_gpu(void)
{
    open_device(64 * MIB, 2);
    orion_device_info_t info, again;
    ops->describe(device, &info);
    CHECK(strncmp(info.name, "Orion ", 6) == 0);
    CHECK(strstr(info.name, " device (") != NULL);
    CHECK_EQUAL(info.attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR], 8);
    CHECK_EQUAL(info.attributes[CU_DEVICE_ATTRIBUTE_WARP_SIZE], 32);
    CHECK_EQUAL(info.attributes[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT], 2);
    CHECK_EQUAL(info.total_memory, 64 * MIB);
    ops->close(device);
    open_device(32 * MIB, 1);
    ops->describe(device, &again);
    CHECK(memcmp(info.uuid, again.uuid, 16) == 0);
    ops->close(device);
}

static void memory_is_zero_aligned_and_limited(void)
{
    open_device(8 * MIB, 2);
    uint64_t free_bytes, total, base, bytes, a = alloc(1000), b = alloc(4 * MIB);
    CHECK(a % 512 == 0 && b % 512 == 0);
    for (uint64_t i = 0; i < 4 * MIB; i += 4096)
        CHECK_EQUAL(((char *)host(b))[i], 0);
    CHECK_EQUAL(ops->mem_info(device, &free_bytes, &total), CUDA_SUCCESS);
    CHECK_EQUAL(total, 8 * MIB);
    CHECK_EQUAL(free_bytes, 4 * MIB - 4096);
    CHECK_EQUAL(ops->mem_alloc(device, 4 * MIB, &base), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(ops->mem_alloc(device, 0, &base), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_find(device, a + 999, &base, &bytes), CUDA_SUCCESS);
    CHECK(base == a && bytes == 1000);
    CHECK_EQUAL(ops->mem_find(device, a + 1000, &base, &bytes), CUDA_ERROR_NOT_FOUND);
    CHECK_EQUAL(ops->mem_free(device, a + 512, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_free(device, a, NULL, NULL), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_free(device, a, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_free(device, 0x1234, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_find(device, a, &base, &bytes), CUDA_ERROR_NOT_FOUND);
    ops->mem_info(device, &free_bytes, &total);
    CHECK_EQUAL(free_bytes, 4 * MIB);
    ops->close(device);
}

static void free_waits_for_work(void)
{
    open_device(8 * MIB, 2);
    orion_stream_t *stream = stream_of(CU_STREAM_NON_BLOCKING);
    waiter_t freed = WAITER;
    uint64_t a = alloc(8 * MIB), b;
    orion_gate_t *gate = gate_in(stream);
    set(stream, a, 5);
    CHECK_EQUAL(ops->mem_free(device, a, waiter_done, &freed), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_calls(&freed), 0);
    CHECK_EQUAL(ops->mem_free(device, a, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_alloc(device, 512, &b), CUDA_ERROR_OUT_OF_MEMORY);
    orion_device_counters_t counters;
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.memory_dying, 8 * MIB);
    ops->host_gate_open(device, gate);
    waiter_wait(&freed, 1);
    CHECK_EQUAL(ops->mem_alloc(device, 512, &b), CUDA_SUCCESS);
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.memory_dying, 0);
    ops->close(device);
}

static void stream_ordered_memory_is_reused(void)
{
    open_device(8 * MIB, 2);
    orion_stream_t *stream = stream_of(0), *other = stream_of(0);
    waiter_t freed = WAITER;
    uint64_t a, b, c;
    CHECK_EQUAL(ops->mem_alloc_async(device, stream, 6 * MIB, &a), CUDA_SUCCESS);
    orion_gate_t *gate = gate_in(stream);
    CHECK_EQUAL(ops->mem_free_async(device, stream, a, waiter_done, &freed), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_free_async(device, stream, a, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_alloc_async(device, other, 6 * MIB, &c), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(ops->mem_alloc_async(device, stream, 6 * MIB, &b), CUDA_SUCCESS);
    CHECK_EQUAL(b, a);
    CHECK_EQUAL(waiter_calls(&freed), 1);
    CHECK_EQUAL(ops->mem_free_async(device, stream, b, waiter_done, &freed), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_alloc_async(device, stream, 5 * MIB, &b), CUDA_SUCCESS); /* smaller: only when needed */
    CHECK_EQUAL(b, a);
    CHECK_EQUAL(ops->mem_free_async(device, stream, b, waiter_done, &freed), CUDA_SUCCESS);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_calls(&freed), 3);
    uint64_t free_bytes, total;
    ops->mem_info(device, &free_bytes, &total);
    CHECK_EQUAL(free_bytes, total);
    ops->close(device);
}

static void copies_and_fills_all_shapes(void)
{
    open_device(256 * MIB, 2);
    orion_stream_t *stream = stream_of(0);
    static const uint64_t sizes[] = {1, 7, 512, 4096, 4097, 512 << 10, (512 << 10) + 1, 5 * MIB + 3, 33 * MIB};
    uint64_t a = alloc(40 * MIB), b = alloc(40 * MIB), seed = 1;
    for (uint64_t i = 0; i < 40 * MIB / 8; i++)
        ((uint64_t *)host(a))[i] = check_random(&seed);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        waiter_t done = WAITER;
        memset(host(b), 0xee, sizes[i] + 1);
        CHECK_EQUAL(ops->copy(device, stream, b, a + 1, sizes[i], waiter_done, &done), CUDA_SUCCESS);
        CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
        CHECK(memcmp(host(b), host(a + 1), sizes[i]) == 0 && ((unsigned char *)host(b))[sizes[i]] == 0xee);
    }
    /* rows of every width class, with pitches */
    static const uint64_t shapes[][2] = {{3, 5}, {100, 1000}, {4000, 4000}, {2 * MIB, 7}};
    for (size_t i = 0; i < 4; i++) {
        uint64_t width = shapes[i][0], height = shapes[i][1], pitch = width + 16, from = width + 8;
        memset(host(b), 0xee, pitch * height);
        CHECK_EQUAL(ops->copy_2d(device, stream, b, pitch, a, from, width, height, NULL, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
        for (uint64_t row = 0; row < height; row++) {
            CHECK(memcmp(host(b + row * pitch), host(a + row * from), width) == 0);
            CHECK(((unsigned char *)host(b))[row * pitch + width] == 0xee);
        }
        CHECK_EQUAL(ops->fill(device, stream, b, 0x1234, 2, pitch & ~1ull, width / 2, height, NULL, NULL),
                    CUDA_SUCCESS);
        CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
        for (uint64_t row = 0; row < height && width >= 2; row++)
            CHECK_EQUAL(*(uint16_t *)host(b + row * (pitch & ~1ull) + width / 2 * 2 - 2), 0x1234);
    }
    CHECK_EQUAL(ops->copy_2d(device, stream, b, 4, a, 8, 8, 2, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->fill(device, stream, b + 1, 0, 4, 0, 1, 1, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->fill(device, stream, b, 0, 3, 0, 1, 1, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    /* overlapping */
    CHECK_EQUAL(ops->copy(device, NULL, a + 16, a, 30 * MIB, NULL, NULL), CUDA_SUCCESS);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    seed = 1;
    for (uint64_t i = 0; i < 30 * MIB / 8; i++)
        CHECK(((uint64_t *)host(a + 16))[i] == check_random(&seed));
    ops->close(device);
}

static void write_takes_its_bytes_along(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *stream = stream_of(0);
    static const uint32_t sizes[] = {4, 240, 241, 4096, 5000, 32 << 10};
    uint64_t a = alloc(MIB);
    char *data = malloc(32 << 10);
    for (int held = 0; held < 2; held++) {
        for (size_t i = 0; i < 6; i++) {
            orion_gate_t *gate = held ? gate_in(stream) : NULL;
            memset(data, 'a' + (int)i, sizes[i]);
            CHECK_EQUAL(ops->write(device, stream, a, data, sizes[i]), CUDA_SUCCESS);
            memset(data, 0, sizes[i]);
            if (gate)
                ops->host_gate_open(device, gate);
            CHECK_EQUAL(synchronize_stream(ops, device, stream), CUDA_SUCCESS);
            CHECK_EQUAL(((char *)host(a))[sizes[i] - 1], 'a' + (int)i);
        }
    }
    CHECK_EQUAL(ops->write(device, stream, a, data, (32 << 10) + 1), CUDA_ERROR_INVALID_VALUE);
    free(data);
    ops->close(device);
}

CHECK_MAIN(CASE(describes_itself_as_no_gpu), CASE(memory_is_zero_aligned_and_limited), CASE(free_waits_for_work),
           CASE(stream_ordered_memory_is_reused), CASE(copies_and_fills_all_shapes), CASE(write_takes_its_bytes_along))
