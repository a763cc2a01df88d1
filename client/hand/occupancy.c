/* SPDX-License-Identifier: Apache-2.0 */
/* Occupancy from the device's limits and the function's needs, by the public rules: threads, registers, shared memory. */
#include "context.h"
#include "device.h"
#include "objects.h"
#include "orion_generated/hand.h"

#define WARP 32
#define REGISTER_UNIT 256 /* registers are given to warps in these */
#define SHARED_UNIT 128

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int limit(const orion_session_t *session, CUdevice_attribute attribute, int otherwise)
{
    int value = orion_device_attribute(session, (unsigned)attribute);
    return value > 0 ? value : otherwise;
}

static CUresult enter(CUfunction handle, orion_session_t **session_p, orion_function_t **function_p)
{
    CUresult result = orion_enter(ORION_NEEDS_INIT, session_p);
    return result ? result : orion_function_resolve(*session_p, handle, function_p);
}

static int blocks_by_threads(const orion_session_t *session, const orion_function_t *function, int block_size)
{
    int warps = (block_size + WARP - 1) / WARP;
    int threads = limit(session, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048);
    int blocks = least(threads / (warps * WARP), limit(session, CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32));
    int registers = function->attributes[CU_FUNC_ATTRIBUTE_NUM_REGS];
    if (registers > 0) {
        int per_warp = (registers * WARP + REGISTER_UNIT - 1) / REGISTER_UNIT * REGISTER_UNIT;
        blocks = least(blocks, limit(session, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536) /
                                   (per_warp * warps));
    }
    return blocks;
}

static int active_blocks(const orion_session_t *session, const orion_function_t *function, int block_size,
                         size_t dynamic_shared)
{
    int most = least(function->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK],
                     limit(session, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024));
    if (block_size > most)
        return 0;
    int blocks = blocks_by_threads(session, function, block_size);
    size_t shared = (size_t)function->attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES] + dynamic_shared;
    if (shared) {
        size_t reserved = (size_t)orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK);
        size_t each = (shared + reserved + SHARED_UNIT - 1) / SHARED_UNIT * SHARED_UNIT;
        size_t room = (size_t)limit(session, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 102400);
        size_t fit = room / each;
        if (fit < (size_t)blocks)
            blocks = (int)fit;
    }
    return blocks;
}

CUresult orion_hand_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *numBlocks, CUfunction func, int blockSize,
                                                                         size_t dynamicSMemSize, unsigned int flags)
{
    orion_session_t *session;
    orion_function_t *function;
    CUresult result = enter(func, &session, &function);
    if (result)
        return result;
    if (!numBlocks || blockSize <= 0 || flags & ~(unsigned)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
        return CUDA_ERROR_INVALID_VALUE;
    *numBlocks = active_blocks(session, function, blockSize, dynamicSMemSize);
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, CUfunction func, int blockSize,
                                                                size_t dynamicSMemSize)
{
    return orion_hand_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(numBlocks, func, blockSize, dynamicSMemSize,
                                                                           0);
}

CUresult orion_hand_cuOccupancyMaxPotentialBlockSizeWithFlags(int *minGridSize, int *blockSize, CUfunction func,
                                                              CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                              size_t dynamicSMemSize, int blockSizeLimit,
                                                              unsigned int flags)
{
    orion_session_t *session;
    orion_function_t *function;
    CUresult result = enter(func, &session, &function);
    if (result)
        return result;
    if (!minGridSize || !blockSize || flags & ~(unsigned)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
        return CUDA_ERROR_INVALID_VALUE;
    int most = least(function->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK],
                     limit(session, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024));
    if (blockSizeLimit > 0)
        most = least(most, blockSizeLimit);
    int best_size = 0, best_blocks = 0;
    for (int size = (most + WARP - 1) / WARP * WARP; size > 0; size -= WARP) {
        int tried = least(size, most);
        size_t shared = blockSizeToDynamicSMemSize ? blockSizeToDynamicSMemSize(tried) : dynamicSMemSize;
        int blocks = active_blocks(session, function, tried, shared);
        if (blocks * tried > best_blocks * best_size) {
            best_size = tried;
            best_blocks = blocks;
        }
    }
    *blockSize = best_size;
    *minGridSize = best_blocks * limit(session, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1);
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuOccupancyMaxPotentialBlockSize(int *minGridSize, int *blockSize, CUfunction func,
                                                     CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                     size_t dynamicSMemSize, int blockSizeLimit)
{
    return orion_hand_cuOccupancyMaxPotentialBlockSizeWithFlags(
        minGridSize, blockSize, func, blockSizeToDynamicSMemSize, dynamicSMemSize, blockSizeLimit, 0);
}

CUresult orion_hand_cuOccupancyAvailableDynamicSMemPerBlock(size_t *dynamicSmemSize, CUfunction func, int numBlocks,
                                                            int blockSize)
{
    orion_session_t *session;
    orion_function_t *function;
    CUresult result = enter(func, &session, &function);
    if (result)
        return result;
    if (!dynamicSmemSize || numBlocks <= 0 || blockSize <= 0 ||
        numBlocks > blocks_by_threads(session, function, blockSize))
        return CUDA_ERROR_INVALID_VALUE;
    int room = limit(session, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 102400) / numBlocks /
               SHARED_UNIT * SHARED_UNIT;
    room -= orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK);
    room = least(room, limit(session, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 49152));
    room -= function->attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES];
    *dynamicSmemSize = room > 0 ? (size_t)room : 0;
    return CUDA_SUCCESS;
}

/* Without clusters (compute capability 8) a cluster is one block. */
CUresult orion_hand_cuOccupancyMaxPotentialClusterSize(int *clusterSize, CUfunction func, const CUlaunchConfig *config)
{
    orion_session_t *session;
    orion_function_t *function;
    CUresult result = enter(func, &session, &function);
    if (result)
        return result;
    if (!clusterSize || !config)
        return CUDA_ERROR_INVALID_VALUE;
    *clusterSize = 1;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuOccupancyMaxActiveClusters(int *numClusters, CUfunction func, const CUlaunchConfig *config)
{
    orion_session_t *session;
    orion_function_t *function;
    CUresult result = enter(func, &session, &function);
    if (result)
        return result;
    if (!numClusters || !config)
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t threads = (uint64_t)config->blockDimX * config->blockDimY * config->blockDimZ;
    if (!threads || threads > 1024)
        return CUDA_ERROR_INVALID_VALUE;
    *numClusters = active_blocks(session, function, (int)threads, config->sharedMemBytes) *
                   limit(session, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1);
    return CUDA_SUCCESS;
}
