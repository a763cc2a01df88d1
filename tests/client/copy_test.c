/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of every size and direction, and what they say about bad addresses. */
#include "driver.h"

#define LEGACY CU_STREAM_LEGACY
#define HOST(p) ((CUdeviceptr)(uintptr_t)(p))

static uint8_t *pattern(size_t bytes, uint64_t seed)
{
    uint8_t *data = malloc(bytes + 8);
    MUST(data);
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t value = check_random(&seed);
        memcpy(data + i, &value, 8);
    }
    return data;
}

static void bytes_come_back_whatever_their_number(void)
{
    static const size_t sizes[] = {1, 63, 4032, 4033, 4096, 4097, 32768, 262144, 262145, 3000001, 9000000};
    driver_begin();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t bytes = sizes[i];
        uint8_t *in = pattern(bytes, i + 1), *out = calloc(1, bytes + 8);
        CUdeviceptr address;
        CHECK(orion_hand_cuMemAlloc_v2(&address, bytes + 3) == CUDA_SUCCESS);
        CHECK(orion_hand_cuMemcpyHtoD_v2(LEGACY, address + 3, in, bytes) == CUDA_SUCCESS);
        CHECK(orion_hand_cuMemcpyDtoH_v2(LEGACY, out, address + 3, bytes) == CUDA_SUCCESS);
        CHECK(memcmp(in, out, bytes) == 0);
        CHECK(orion_hand_cuMemFree_v2(address) == CUDA_SUCCESS);
        free(in);
        free(out);
    }
    driver_end();
}

static void source_may_change_when_the_call_returns(void)
{
    enum { BYTES = 1 << 20 };
    uint8_t *data = pattern(BYTES, 3), *kept = malloc(BYTES);
    CUdeviceptr address;
    driver_begin();
    memcpy(kept, data, BYTES);
    CHECK(orion_hand_cuMemAlloc_v2(&address, BYTES) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemcpyHtoDAsync_v2(LEGACY, address, data, BYTES, NULL) == CUDA_SUCCESS);
    memset(data, 0, BYTES);
    CHECK(orion_hand_cuMemcpyDtoH_v2(LEGACY, data, address, BYTES) == CUDA_SUCCESS);
    CHECK(memcmp(data, kept, BYTES) == 0);
    driver_end();
    free(data);
    free(kept);
}

static void bad_addresses_are_refused_and_leave_no_error(void)
{
    CUdeviceptr address;
    char text[64] = "";
    driver_begin();
    CHECK(orion_hand_cuMemAlloc_v2(&address, 32) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemcpyHtoD_v2(LEGACY, address, text, 33) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemcpyDtoH_v2(LEGACY, text, address + 1, 32) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemcpyHtoD_v2(LEGACY, HOST(text), text, 8) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemcpyHtoD_v2(LEGACY, 0, text, 8) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemcpyHtoD_v2(LEGACY, address, text, 0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemFree_v2(address + 1) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemFree_v2(0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemAlloc_v2(&address, 0) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemAlloc_v2(&address, (size_t)1 << 50) == CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
    driver_end();
}

static void pinned_and_managed_memory_have_one_address(void)
{
    enum { BYTES = 3 << 20 };
    uint32_t *pinned, *small;
    CUdeviceptr mapped, managed, device;
    driver_begin();
    CHECK(orion_hand_cuMemHostAlloc((void **)&pinned, BYTES, CU_MEMHOSTALLOC_DEVICEMAP) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemAllocHost_v2((void **)&small, 100) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemHostGetDevicePointer_v2(&mapped, pinned, 0) == CUDA_SUCCESS && mapped == HOST(pinned));
    CHECK(orion_hand_cuMemAllocManaged(&managed, BYTES, CU_MEM_ATTACH_GLOBAL) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemAlloc_v2(&device, BYTES) == CUDA_SUCCESS);
    for (uint32_t i = 0; i < BYTES / 4; i++)
        pinned[i] = i * 2654435761u;
    small[3] = 99;
    CHECK(orion_hand_cuMemcpy(LEGACY, device, mapped, BYTES) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemcpy(LEGACY, managed, device, BYTES) == CUDA_SUCCESS);
    CHECK(memcmp((void *)(uintptr_t)managed, pinned, BYTES) == 0 && small[3] == 99);
    CHECK(cuMemsetD8_v2(managed, 0x5a, 16) == CUDA_SUCCESS && cuCtxSynchronize() == CUDA_SUCCESS);
    CHECK(*(uint32_t *)(uintptr_t)managed == 0x5a5a5a5a);
    CHECK(orion_hand_cuMemFree_v2(managed) == CUDA_SUCCESS && orion_hand_cuMemFree_v2(device) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemFreeHost(pinned) == CUDA_SUCCESS && orion_hand_cuMemFreeHost(small) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemFreeHost(pinned) == CUDA_ERROR_INVALID_VALUE);
    driver_end();
}

static void arena_blocks_do_not_overlap(void)
{
    enum { COUNT = 300 };
    static struct {
        uint8_t *p;
        size_t bytes;
    } blocks[COUNT];
    uint64_t seed = 5;
    driver_begin();
    for (int step = 0; step < 3000; step++) {
        unsigned i = check_random(&seed) % COUNT;
        if (blocks[i].p) {
            for (size_t at = 0; at < blocks[i].bytes; at += 61)
                CHECK(blocks[i].p[at] == (uint8_t)i);
            CHECK(orion_hand_cuMemFreeHost(blocks[i].p) == CUDA_SUCCESS);
            blocks[i].p = NULL;
        } else {
            blocks[i].bytes = 1 + check_random(&seed) % (step % 50 ? 20000 : 2000000);
            CHECK(orion_hand_cuMemAllocHost_v2((void **)&blocks[i].p, blocks[i].bytes) == CUDA_SUCCESS);
            memset(blocks[i].p, (int)i, blocks[i].bytes);
        }
    }
    driver_end();
}

static void rows_are_copied_without_their_gaps(void)
{
    enum { WIDTH = 300, HEIGHT = 40, IN_PITCH = 311, OUT_PITCH = 305 };
    static const size_t pitches[] = {WIDTH, 512, 4096};
    uint8_t *in = pattern(IN_PITCH * HEIGHT, 9), *out = malloc(OUT_PITCH * HEIGHT);
    driver_begin();
    for (size_t i = 0; i < 3; i++) {
        CUdeviceptr device;
        CHECK(orion_hand_cuMemAlloc_v2(&device, pitches[i] * HEIGHT) == CUDA_SUCCESS);
        memset(out, 0xee, OUT_PITCH * HEIGHT);
        CUDA_MEMCPY2D c = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                           .srcHost = in,
                           .srcPitch = IN_PITCH,
                           .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                           .dstDevice = device,
                           .dstPitch = pitches[i],
                           .WidthInBytes = WIDTH,
                           .Height = HEIGHT};
        CHECK(orion_hand_cuMemcpy2D_v2(LEGACY, &c) == CUDA_SUCCESS);
        CUDA_MEMCPY2D back = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                              .srcDevice = device,
                              .srcPitch = pitches[i],
                              .dstMemoryType = CU_MEMORYTYPE_HOST,
                              .dstHost = out,
                              .dstPitch = OUT_PITCH,
                              .WidthInBytes = WIDTH,
                              .Height = HEIGHT};
        CHECK(orion_hand_cuMemcpy2D_v2(LEGACY, &back) == CUDA_SUCCESS);
        for (size_t row = 0; row < HEIGHT; row++) {
            CHECK(memcmp(in + row * IN_PITCH, out + row * OUT_PITCH, WIDTH) == 0);
            if (row + 1 < HEIGHT)
                CHECK(out[row * OUT_PITCH + WIDTH] == 0xee);
        }
        c.dstPitch = WIDTH - 1;
        CHECK(orion_hand_cuMemcpy2D_v2(LEGACY, &c) == CUDA_ERROR_INVALID_VALUE);
        CHECK(orion_hand_cuMemFree_v2(device) == CUDA_SUCCESS);
    }
    driver_end();
    free(in);
    free(out);
}

CUresult cuMemsetD32_v2(CUdeviceptr dstDevice, unsigned int ui, size_t N);
CUresult cuMemsetD2D16_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width, size_t Height);

static void bad_fills_are_refused_and_leave_no_error(void)
{
    CUdeviceptr device;
    uint32_t back[4];
    driver_begin();
    CHECK(orion_hand_cuMemAlloc_v2(&device, 64) == CUDA_SUCCESS);
    CHECK(cuMemsetD32_v2(device, 7, 17) == CUDA_ERROR_INVALID_VALUE);
    CHECK(cuMemsetD32_v2(device, 7, SIZE_MAX / 4 + 2) == CUDA_ERROR_INVALID_VALUE); /* its bytes wrap to 4 */
    CHECK(cuMemsetD32_v2(HOST(back), 7, 1) == CUDA_ERROR_INVALID_VALUE);
    CHECK(cuMemsetD2D16_v2(device, 16, 7, 8, 5) == CUDA_ERROR_INVALID_VALUE);
    CHECK(cuMemsetD2D16_v2(device, 15, 7, 8, 2) == CUDA_ERROR_INVALID_VALUE);
    CHECK(cuMemsetD2D16_v2(device, 16, 7, 8, 4) == CUDA_SUCCESS);
    CHECK(cuMemsetD32_v2(device, 9, 16) == CUDA_SUCCESS);
    CHECK(cuMemsetD32_v2(0, 9, 0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemcpyDtoH_v2(LEGACY, back, device + 48, sizeof back) == CUDA_SUCCESS);
    CHECK(back[0] == 9 && back[3] == 9);
    driver_end();
}

static void pointers_are_known_by_kind(void)
{
    enum { COUNT = 6 };
    CUpointer_attribute wanted[COUNT] = {CU_POINTER_ATTRIBUTE_CONTEXT,        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                         CU_POINTER_ATTRIBUTE_DEVICE_POINTER, CU_POINTER_ATTRIBUTE_HOST_POINTER,
                                         CU_POINTER_ATTRIBUTE_IS_MANAGED,     CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    CUcontext context = driver_begin(), owner;
    unsigned type, managed;
    uint64_t on_device, on_host;
    int ordinal;
    void *data[COUNT] = {&owner, &type, &on_device, &on_host, &managed, &ordinal};
    CUdeviceptr device, base;
    size_t bytes;
    int local;
    CHECK(orion_hand_cuMemAlloc_v2(&device, 100) == CUDA_SUCCESS);
    CHECK(orion_hand_cuPointerGetAttributes(COUNT, wanted, data, device + 50) == CUDA_SUCCESS);
    CHECK(owner == context && type == CU_MEMORYTYPE_DEVICE && on_device == device + 50 && !on_host && !managed &&
          !ordinal);
    CHECK(orion_hand_cuPointerGetAttributes(COUNT, wanted, data, HOST(&local)) == CUDA_SUCCESS);
    CHECK(!owner && !type && !on_device && !on_host && !managed && ordinal == -2);
    CHECK(orion_hand_cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, HOST(&local)) ==
          CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemHostRegister_v2(&local, sizeof local, 0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemHostRegister_v2(&local, 1, 0) == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    CHECK(orion_hand_cuPointerGetAttributes(COUNT, wanted, data, HOST(&local)) == CUDA_SUCCESS);
    CHECK(type == CU_MEMORYTYPE_HOST && on_host == HOST(&local));
    CHECK(orion_hand_cuMemHostUnregister(&local) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemHostUnregister(&local) == CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    CHECK(orion_hand_cuMemGetAddressRange_v2(&base, &bytes, device + 99) == CUDA_SUCCESS && base == device &&
          bytes == 100);
    CHECK(orion_hand_cuMemGetAddressRange_v2(&base, &bytes, HOST(&local)) == CUDA_ERROR_NOT_FOUND);
    driver_end();
}

/* A box within a larger one, from and to host and device memory, with gaps between rows and slices or without. */
static void boxes_are_copied_and_nothing_else(void)
{
    enum { PITCH = 48, ROWS = 7, SLICES = 6, BYTES = PITCH * ROWS * SLICES };
    static const struct {
        size_t x, y, z, width, height, depth;
    } boxes[] = {{0, 0, 0, PITCH, ROWS, SLICES}, {3, 2, 1, 20, 3, 4}, {0, 0, 2, PITCH, ROWS, 3}, {47, 6, 5, 1, 1, 1}};
    driver_begin();
    for (size_t i = 0; i < sizeof boxes / sizeof boxes[0]; i++) {
        uint8_t *in = pattern(BYTES, i + 11), *out = calloc(1, BYTES), expected[BYTES] = {0};
        CUdeviceptr a, b;
        CHECK(orion_hand_cuMemAlloc_v2(&a, BYTES) == CUDA_SUCCESS);
        CHECK(orion_hand_cuMemAlloc_v2(&b, BYTES) == CUDA_SUCCESS);
        CHECK(cuMemsetD8_v2(a, 0, BYTES) == CUDA_SUCCESS && cuMemsetD8_v2(b, 0, BYTES) == CUDA_SUCCESS);
        CUDA_MEMCPY3D c = {.srcXInBytes = boxes[i].x,
                           .srcY = boxes[i].y,
                           .srcZ = boxes[i].z,
                           .srcMemoryType = CU_MEMORYTYPE_HOST,
                           .srcHost = in,
                           .srcPitch = PITCH,
                           .srcHeight = ROWS,
                           .dstXInBytes = boxes[i].x,
                           .dstY = boxes[i].y,
                           .dstZ = boxes[i].z,
                           .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                           .dstDevice = a,
                           .dstPitch = PITCH,
                           .dstHeight = ROWS,
                           .WidthInBytes = boxes[i].width,
                           .Height = boxes[i].height,
                           .Depth = boxes[i].depth};
        CHECK(orion_hand_cuMemcpy3D_v2(LEGACY, &c) == CUDA_SUCCESS);
        c.srcMemoryType = CU_MEMORYTYPE_UNIFIED;
        c.srcDevice = a;
        c.dstDevice = b;
        CHECK(orion_hand_cuMemcpy3DAsync_v2(LEGACY, &c, NULL) == CUDA_SUCCESS);
        c.srcDevice = b;
        c.dstMemoryType = CU_MEMORYTYPE_HOST;
        c.dstHost = out;
        CHECK(orion_hand_cuMemcpy3D_v2(LEGACY, &c) == CUDA_SUCCESS);
        for (size_t z = boxes[i].z; z < boxes[i].z + boxes[i].depth; z++)
            for (size_t y = boxes[i].y; y < boxes[i].y + boxes[i].height; y++) {
                const size_t at = (z * ROWS + y) * PITCH + boxes[i].x;
                memcpy(expected + at, in + at, boxes[i].width);
            }
        CHECK(memcmp(out, expected, BYTES) == 0);

        c.Depth = SLICES + 1 - boxes[i].z; /* one slice too many */
        CHECK(orion_hand_cuMemcpy3D_v2(LEGACY, &c) == CUDA_ERROR_INVALID_VALUE);
        c.Depth = SIZE_MAX;
        CHECK(orion_hand_cuMemcpy3D_v2(LEGACY, &c) == CUDA_ERROR_INVALID_VALUE);
        c.Depth = 1;
        c.srcHeight = c.srcY + c.Height - 1;
        CHECK(!c.srcHeight || orion_hand_cuMemcpy3D_v2(LEGACY, &c) == CUDA_ERROR_INVALID_VALUE);
        c.srcHeight = ROWS;
        c.dstMemoryType = CU_MEMORYTYPE_ARRAY;
        CHECK(orion_hand_cuMemcpy3D_v2(LEGACY, &c) == CUDA_ERROR_NOT_SUPPORTED);
        c.WidthInBytes = 0;
        CHECK(orion_hand_cuMemcpy3D_v2(LEGACY, &c) == CUDA_SUCCESS);
        CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
        CHECK(orion_hand_cuMemFree_v2(a) == CUDA_SUCCESS && orion_hand_cuMemFree_v2(b) == CUDA_SUCCESS);
        free(in);
        free(out);
    }
    driver_end();
}

CHECK_MAIN(CASE(bytes_come_back_whatever_their_number), CASE(source_may_change_when_the_call_returns),
           CASE(bad_addresses_are_refused_and_leave_no_error), CASE(pinned_and_managed_memory_have_one_address),
           CASE(arena_blocks_do_not_overlap), CASE(rows_are_copied_without_their_gaps),
           CASE(bad_fills_are_refused_and_leave_no_error), CASE(pointers_are_known_by_kind),
           CASE(boxes_are_copied_and_nothing_else))
