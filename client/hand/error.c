/* SPDX-License-Identifier: Apache-2.0 */
/* Names of results, and what they mean in our words. */
#include "orion_generated/hand.h"

#include <stddef.h>

static const struct {
    CUresult result;
    const char *name, *text;
} errors[] = {
#define ERROR(name, text) {name, #name, text}
    ERROR(CUDA_SUCCESS, "no error"),
    ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(CUDA_ERROR_NOT_INITIALIZED,
          "the driver is not initialized, or this process was forked from one that had initialized it"),
    ERROR(CUDA_ERROR_DEINITIALIZED, "the driver is shutting down"),
    ERROR(CUDA_ERROR_PROFILER_DISABLED, "profiler is disabled"),
    ERROR(CUDA_ERROR_PROFILER_NOT_INITIALIZED, "profiler is not initialized"),
    ERROR(CUDA_ERROR_PROFILER_ALREADY_STARTED, "profiler has started already"),
    ERROR(CUDA_ERROR_PROFILER_ALREADY_STOPPED, "profiler has stopped already"),
    ERROR(CUDA_ERROR_STUB_LIBRARY, "this is a stub library, no driver"),
    ERROR(CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER, "the call needs a newer driver"),
    ERROR(CUDA_ERROR_DEVICE_UNAVAILABLE, "the device is busy or no longer reachable"),
    ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA device was found"),
    ERROR(CUDA_ERROR_INVALID_DEVICE, "no device with this number"),
    ERROR(CUDA_ERROR_DEVICE_NOT_LICENSED, "the device has no valid license"),
    ERROR(CUDA_ERROR_INVALID_IMAGE, "the module image is not valid"),
    ERROR(CUDA_ERROR_INVALID_CONTEXT, "no valid context"),
    ERROR(CUDA_ERROR_CONTEXT_ALREADY_CURRENT, "the context is current already"),
    ERROR(CUDA_ERROR_MAP_FAILED, "mapping failed"),
    ERROR(CUDA_ERROR_UNMAP_FAILED, "unmapping failed"),
    ERROR(CUDA_ERROR_ARRAY_IS_MAPPED, "the array is mapped and cannot be destroyed"),
    ERROR(CUDA_ERROR_ALREADY_MAPPED, "the resource is mapped already"),
    ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "the image has no code for this device"),
    ERROR(CUDA_ERROR_ALREADY_ACQUIRED, "the resource was acquired already"),
    ERROR(CUDA_ERROR_NOT_MAPPED, "the resource is not mapped"),
    ERROR(CUDA_ERROR_NOT_MAPPED_AS_ARRAY, "the resource is not mapped as an array"),
    ERROR(CUDA_ERROR_NOT_MAPPED_AS_POINTER, "the resource is not mapped as a pointer"),
    ERROR(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable memory error"),
    ERROR(CUDA_ERROR_UNSUPPORTED_LIMIT, "this limit is not supported by the device"),
    ERROR(CUDA_ERROR_CONTEXT_ALREADY_IN_USE, "another thread uses the context"),
    ERROR(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "the devices cannot access each other"),
    ERROR(CUDA_ERROR_INVALID_PTX, "compiling the PTX failed"),
    ERROR(CUDA_ERROR_INVALID_GRAPHICS_CONTEXT, "invalid graphics context"),
    ERROR(CUDA_ERROR_NVLINK_UNCORRECTABLE, "uncorrectable NVLink error"),
    ERROR(CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "no PTX compiler was found"),
    ERROR(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the PTX version is newer than the compiler"),
    ERROR(CUDA_ERROR_JIT_COMPILATION_DISABLED, "compiling PTX is disabled"),
    ERROR(CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY, "this execution affinity is not supported"),
    ERROR(CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC, "device-side synchronization is not supported"),
    ERROR(CUDA_ERROR_CONTAINED, "an error was contained to some processes"),
    ERROR(CUDA_ERROR_INVALID_SOURCE, "invalid source"),
    ERROR(CUDA_ERROR_FILE_NOT_FOUND, "file not found"),
    ERROR(CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND, "symbol of a shared object was not found"),
    ERROR(CUDA_ERROR_SHARED_OBJECT_INIT_FAILED, "a shared object could not be initialized"),
    ERROR(CUDA_ERROR_OPERATING_SYSTEM, "an operating system call failed"),
    ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid handle"),
    ERROR(CUDA_ERROR_ILLEGAL_STATE, "the object is in the wrong state for this"),
    ERROR(CUDA_ERROR_LOSSY_QUERY, "the query would lose information"),
    ERROR(CUDA_ERROR_NOT_FOUND, "the named symbol was not found"),
    ERROR(CUDA_ERROR_NOT_READY, "not ready yet"),
    ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "a kernel accessed an illegal address"),
    ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "the launch needs more resources than there are"),
    ERROR(CUDA_ERROR_LAUNCH_TIMEOUT, "the kernel ran too long"),
    ERROR(CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING, "incompatible texturing mode"),
    ERROR(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is enabled already"),
    ERROR(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "peer access is not enabled"),
    ERROR(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "the primary context is active already"),
    ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the context was destroyed"),
    ERROR(CUDA_ERROR_ASSERT, "an assertion in device code failed"),
    ERROR(CUDA_ERROR_TOO_MANY_PEERS, "no more peers are possible"),
    ERROR(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "the host memory is registered already"),
    ERROR(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "the host memory is not registered"),
    ERROR(CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error"),
    ERROR(CUDA_ERROR_ILLEGAL_INSTRUCTION, "illegal instruction"),
    ERROR(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    ERROR(CUDA_ERROR_INVALID_ADDRESS_SPACE, "operation in the wrong address space"),
    ERROR(CUDA_ERROR_INVALID_PC, "invalid program counter"),
    ERROR(CUDA_ERROR_LAUNCH_FAILED, "the launch failed"),
    ERROR(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "the cooperative launch has more blocks than can run at once"),
    ERROR(CUDA_ERROR_TENSOR_MEMORY_LEAK, "tensor memory was leaked"),
    ERROR(CUDA_ERROR_NOT_PERMITTED, "not permitted"),
    ERROR(CUDA_ERROR_NOT_SUPPORTED, "not supported"),
    ERROR(CUDA_ERROR_SYSTEM_NOT_READY, "the system is not ready"),
    ERROR(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "driver and libraries do not fit together"),
    ERROR(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, "forward compatibility is not supported on this device"),
    ERROR(CUDA_ERROR_MPS_CONNECTION_FAILED, "connecting to the MPS server failed"),
    ERROR(CUDA_ERROR_MPS_RPC_FAILURE, "a remote call to the MPS server failed"),
    ERROR(CUDA_ERROR_MPS_SERVER_NOT_READY, "the MPS server is not ready"),
    ERROR(CUDA_ERROR_MPS_MAX_CLIENTS_REACHED, "the MPS server has no room for another client"),
    ERROR(CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED, "the MPS server has no room for another connection"),
    ERROR(CUDA_ERROR_MPS_CLIENT_TERMINATED, "the MPS client was terminated"),
    ERROR(CUDA_ERROR_CDP_NOT_SUPPORTED, "dynamic parallelism is not supported"),
    ERROR(CUDA_ERROR_CDP_VERSION_MISMATCH, "dynamic parallelism versions do not match"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "not permitted while the stream is capturing"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was invalidated by an earlier error"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_MERGE, "captures of several streams would merge"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture was not begun in this stream"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "captured work was not joined to the first stream"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "a dependency would cross the boundary of a capture"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "an implicit dependency on the legacy stream during a capture"),
    ERROR(CUDA_ERROR_CAPTURED_EVENT, "not permitted on an event of a capturing stream"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture was begun by another thread"),
    ERROR(CUDA_ERROR_TIMEOUT, "timed out"),
    ERROR(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the graph cannot be updated in this way"),
    ERROR(CUDA_ERROR_EXTERNAL_DEVICE, "an external device failed"),
    ERROR(CUDA_ERROR_INVALID_CLUSTER_SIZE, "invalid cluster size"),
    ERROR(CUDA_ERROR_FUNCTION_NOT_LOADED, "the function is not loaded"),
    ERROR(CUDA_ERROR_INVALID_RESOURCE_TYPE, "invalid resource type"),
    ERROR(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "invalid resource configuration"),
    ERROR(CUDA_ERROR_KEY_ROTATION, "a key rotation is under way"),
    ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
#undef ERROR
};

static long find(CUresult result)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].result == result)
            return (long)i;
    return -1;
}

CUresult orion_hand_cuGetErrorName(CUresult error, const char **pStr)
{
    long i = find(error);
    if (!pStr)
        return CUDA_ERROR_INVALID_VALUE;
    *pStr = i < 0 ? NULL : errors[i].name;
    return i < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult orion_hand_cuGetErrorString(CUresult error, const char **pStr)
{
    long i = find(error);
    if (!pStr)
        return CUDA_ERROR_INVALID_VALUE;
    *pStr = i < 0 ? NULL : errors[i].text;
    return i < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
