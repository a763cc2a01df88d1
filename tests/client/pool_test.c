/* SPDX-License-Identifier: Apache-2.0 */
/* Memory pools: what they count, and whose allocations are whose. */
#include "driver.h"

#define LEGACY CU_STREAM_LEGACY

static uint64_t attribute(CUmemoryPool pool, CUmemPool_attribute which)
{
    cuuint64_t value = 0;
    MUST(orion_hand_cuMemPoolGetAttribute(pool, which, &value) == CUDA_SUCCESS);
    return value;
}

/* Both pairs of counts at once. */
static int counts(CUmemoryPool pool, uint64_t current, uint64_t high)
{
    return attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == current &&
           attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == current &&
           attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == high &&
           attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) == high;
}

static CUmemoryPool default_pool(void)
{
    CUmemoryPool pool;
    MUST(orion_hand_cuDeviceGetDefaultMemPool(&pool, 0) == CUDA_SUCCESS);
    return pool;
}

static CUmemPoolProps props_of(size_t most)
{
    return (CUmemPoolProps){
        .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}, .maxSize = most};
}

static void pool_counts_what_is_allocated_from_it(void)
{
    CUdeviceptr a, b, other;
    cuuint64_t zero = 0, some = 5;
    driver_begin();
    CUmemoryPool pool = default_pool();
    CHECK(counts(pool, 0, 0));
    CHECK(orion_hand_cuMemAllocAsync(LEGACY, &a, 1000, NULL) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemAllocFromPoolAsync(LEGACY, &b, 500, pool, NULL) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemAlloc_v2(&other, 4096) == CUDA_SUCCESS); /* of no pool */
    CHECK(counts(pool, 1500, 1500));
    CHECK(orion_hand_cuMemFreeAsync(LEGACY, a, NULL) == CUDA_SUCCESS);
    CHECK(counts(pool, 500, 1500));
    CHECK(orion_hand_cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &some) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &zero) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &zero) == CUDA_SUCCESS);
    CHECK(attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 500);
    CHECK(attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) == 1500);
    CHECK(orion_hand_cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, &zero) == CUDA_SUCCESS);
    CHECK(counts(pool, 500, 500));
    CHECK(orion_hand_cuMemFree_v2(b) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemFree_v2(other) == CUDA_SUCCESS);
    CHECK(counts(pool, 0, 500));
    CHECK(orion_hand_cuMemAllocAsync(LEGACY, &a, (size_t)1 << 50, NULL) == CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(orion_hand_cuMemFreeAsync(LEGACY, a, NULL) == CUDA_ERROR_INVALID_VALUE);
    CHECK(attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0); /* what failed is not counted */
    CHECK(orion_hand_cuMemAllocAsync(LEGACY, &a, 64, NULL) == CUDA_SUCCESS);
    driver_end(); /* takes all memory along */
    driver_begin();
    CHECK(attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0);
    driver_end();
}

static void attributes_are_kept(void)
{
    int no = 0, yes = 1, reuse = -1;
    cuuint64_t threshold = UINT64_MAX;
    driver_begin();
    CUmemoryPool pool = default_pool();
    for (int which = CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES;
         which <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES; which++) {
        CHECK(orion_hand_cuMemPoolGetAttribute(pool, (CUmemPool_attribute)which, &reuse) == CUDA_SUCCESS && reuse == 1);
        CHECK(orion_hand_cuMemPoolSetAttribute(pool, (CUmemPool_attribute)which, &no) == CUDA_SUCCESS);
        CHECK(orion_hand_cuMemPoolGetAttribute(pool, (CUmemPool_attribute)which, &reuse) == CUDA_SUCCESS && reuse == 0);
        CHECK(orion_hand_cuMemPoolSetAttribute(pool, (CUmemPool_attribute)which, &yes) == CUDA_SUCCESS);
    }
    CHECK(orion_hand_cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold) == CUDA_SUCCESS);
    CHECK(attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) == UINT64_MAX);
    CHECK(orion_hand_cuMemPoolGetAttribute(pool, (CUmemPool_attribute)99, &threshold) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemPoolGetAttribute(NULL, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &threshold) ==
          CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemPoolTrimTo(pool, 0) == CUDA_SUCCESS);
    driver_end();
}

static void pools_are_apart_and_limited(void)
{
    CUmemoryPool pool, current, of_pointer;
    CUdeviceptr a, b;
    const CUmemPoolProps props = props_of(1 << 20);
    driver_begin();
    const uint64_t before = attribute(default_pool(), CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
    CHECK(orion_hand_cuMemPoolCreate(&pool, &props) == CUDA_SUCCESS);
    CHECK(pool != default_pool());
    CHECK(orion_hand_cuMemAllocFromPoolAsync(LEGACY, &a, 1 << 19, pool, NULL) == CUDA_SUCCESS);
    CHECK(orion_hand_cuMemAllocFromPoolAsync(LEGACY, &b, (1 << 19) + 1, pool, NULL) == CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(counts(pool, 1 << 19, 1 << 19));
    CHECK(attribute(default_pool(), CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == before);
    CHECK(orion_hand_cuPointerGetAttribute(&of_pointer, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, a + 5) == CUDA_SUCCESS);
    CHECK(of_pointer == pool);

    CHECK(orion_hand_cuDeviceSetMemPool(0, pool) == CUDA_SUCCESS);
    CHECK(orion_hand_cuDeviceGetMemPool(&current, 0) == CUDA_SUCCESS && current == pool);
    CHECK(orion_hand_cuMemAllocAsync(LEGACY, &b, 1 << 19, NULL) == CUDA_SUCCESS);
    CHECK(counts(pool, 1 << 20, 1 << 20));
    CHECK(orion_hand_cuMemFreeAsync(LEGACY, b, NULL) == CUDA_SUCCESS);

    CHECK(orion_hand_cuMemPoolDestroy(pool) == CUDA_SUCCESS);
    CHECK(orion_hand_cuDeviceGetMemPool(&current, 0) == CUDA_SUCCESS && current == default_pool());
    CHECK(orion_hand_cuMemAllocFromPoolAsync(LEGACY, &b, 64, pool, NULL) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemPoolDestroy(pool) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuDeviceSetMemPool(0, pool) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuPointerGetAttribute(&of_pointer, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, a) == CUDA_SUCCESS);
    CHECK(of_pointer == NULL);
    CHECK(cuMemsetD8_v2(a, 1, 1 << 19) == CUDA_SUCCESS); /* its allocation has stayed */
    CHECK(orion_hand_cuMemFreeAsync(LEGACY, a, NULL) == CUDA_SUCCESS);
    CHECK(attribute(default_pool(), CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == before);
    CHECK(orion_hand_cuMemPoolDestroy(default_pool()) == CUDA_ERROR_INVALID_VALUE);
    driver_end();
}

static void pools_of_other_kinds_are_refused(void)
{
    CUmemoryPool pool;
    CUmemPoolProps props = props_of(0);
    driver_begin();
    CHECK(orion_hand_cuMemPoolCreate(&pool, NULL) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuMemPoolCreate(NULL, &props) == CUDA_ERROR_INVALID_VALUE);
    props.location.id = 1;
    CHECK(orion_hand_cuMemPoolCreate(&pool, &props) == CUDA_ERROR_INVALID_DEVICE);
    props = props_of(0);
    props.location.type = CU_MEM_LOCATION_TYPE_HOST;
    CHECK(orion_hand_cuMemPoolCreate(&pool, &props) == CUDA_ERROR_NOT_SUPPORTED);
    props = props_of(0);
    props.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CHECK(orion_hand_cuMemPoolCreate(&pool, &props) == CUDA_ERROR_NOT_SUPPORTED);
    props = props_of(0);
    props.allocType = CU_MEM_ALLOCATION_TYPE_MANAGED;
    CHECK(orion_hand_cuMemPoolCreate(&pool, &props) == CUDA_ERROR_NOT_SUPPORTED);
    driver_end();
}

CHECK_MAIN(CASE(pool_counts_what_is_allocated_from_it), CASE(attributes_are_kept), CASE(pools_are_apart_and_limited),
           CASE(pools_of_other_kinds_are_refused))
