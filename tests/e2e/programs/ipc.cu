// SPDX-License-Identifier: Apache-2.0
// Two processes and one piece of memory. `ipc give COUNT` shares COUNT integers and an event and prints both handles;
// `ipc take MEMORY EVENT COUNT` opens them. Lines on standard input say how to go on.
#include <cstring>
#include <string>

#include "check.h"

__global__ void add(int *values, size_t count, int by)
{
    size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    if (i < count)
        values[i] += by;
}

__global__ void count_up(unsigned *values, unsigned words, unsigned turns)
{
    for (unsigned turn = 0; turn < turns; turn++)
        for (unsigned i = threadIdx.x; i < words; i += blockDim.x)
            atomicAdd(&values[i], 1u);
}

// Keeps its stream busy until the host says so.
__global__ void spin(volatile int *stop)
{
    while (!*stop) {
    }
}

static unsigned blocks_for(size_t count)
{
    return static_cast<unsigned>((count + 255) / 256);
}

static std::string line()
{
    char text[64] = "";
    if (!std::fgets(text, sizeof text, stdin))
        std::exit(EXIT_FAILURE);
    return std::string(text, std::strcspn(text, "\n"));
}

static void say(const char *text)
{
    std::printf("%s\n", text);
    std::fflush(stdout);
}

static int report(const char *what, cudaError_t error)
{
    std::printf("%s: %s\n", what, cudaGetErrorName(error));
    return error == cudaSuccess ? EXIT_SUCCESS : EXIT_FAILURE;
}

template <typename Handle> static void print_handle(const Handle &handle)
{
    std::printf(" ");
    for (unsigned char byte : handle.reserved)
        std::printf("%02x", byte);
}

template <typename Handle> static Handle read_handle(const char *text)
{
    Handle handle;
    EXPECT(std::strlen(text) == 2 * sizeof handle);
    for (size_t i = 0; i < sizeof handle; i++) {
        unsigned byte;
        EXPECT(std::sscanf(text + 2 * i, "%2x", &byte) == 1);
        reinterpret_cast<unsigned char *>(&handle)[i] = static_cast<unsigned char>(byte);
    }
    return handle;
}

static void expect_all(const int *values, size_t count, int wanted)
{
    int *copy = static_cast<int *>(std::malloc(count * sizeof(int)));
    CHECK(cudaMemcpy(copy, values, count * sizeof(int), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < count; i++)
        EXPECT(copy[i] == wanted);
    std::free(copy);
}

static int give(size_t count)
{
    int *values, *stop, supported;
    cudaEvent_t event;
    cudaIpcMemHandle_t memory;
    cudaIpcEventHandle_t shared;
    CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrIpcEventSupport, 0));
    EXPECT(supported == 1);
    CHECK(cudaMalloc(&values, count * sizeof(int)));
    CHECK(cudaMemset(values, 0, count * sizeof(int)));
    CHECK(cudaHostAlloc(&stop, sizeof(int), cudaHostAllocMapped));
    CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventInterprocess));
    CHECK(cudaIpcGetMemHandle(&memory, values));
    CHECK(cudaIpcGetEventHandle(&shared, event));
    std::printf("handles");
    print_handle(memory);
    print_handle(shared);
    say("");
    for (int expected = 0;;) {
        const std::string what = line();
        if (what == "hold") { // its next work waits until "go"
            *reinterpret_cast<volatile int *>(stop) = 0;
            spin<<<1, 1>>>(stop);
        } else if (what == "add") {
            add<<<blocks_for(count), 256>>>(values, count, 1);
            CHECK(cudaEventRecord(event));
            expected++;
        } else if (what == "go") {
            *reinterpret_cast<volatile int *>(stop) = 1;
        } else if (what == "expect") {
            expected += 10;
            CHECK(cudaStreamWaitEvent(nullptr, event));
            expect_all(values, count, expected);
        } else if (what == "free") {
            CHECK(cudaFree(values));
            CHECK(cudaDeviceSynchronize());
        } else {
            break;
        }
        say("done");
    }
    return EXIT_SUCCESS;
}

static int take(const char *memory, const char *shared, size_t count)
{
    int *values;
    cudaEvent_t event;
    CHECK(cudaIpcOpenMemHandle(reinterpret_cast<void **>(&values), read_handle<cudaIpcMemHandle_t>(memory),
                               cudaIpcMemLazyEnablePeerAccess));
    CHECK(cudaIpcOpenEventHandle(&event, read_handle<cudaIpcEventHandle_t>(shared)));
    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, values + count - 1));
    EXPECT(attributes.type == cudaMemoryTypeDevice);
    EXPECT(cudaFree(values) != cudaSuccess);
    cudaGetLastError();
    say("opened");
    for (int expected = 0;;) {
        const std::string what = line();
        if (what == "query") {
            const cudaError_t error = cudaEventQuery(event);
            std::printf("%s ", cudaGetErrorName(error));
        } else if (what == "add") { // after the other process's work
            CHECK(cudaStreamWaitEvent(nullptr, event));
            add<<<blocks_for(count), 256>>>(values, count, 10);
            CHECK(cudaEventRecord(event));
            CHECK(cudaEventSynchronize(event));
            expected += 11;
            expect_all(values, count, expected);
        } else if (what == "wait") {
            CHECK(cudaEventSynchronize(event));
        } else if (what == "read") {
            expect_all(values, count, expected);
        } else {
            break;
        }
        say("done");
    }
    CHECK(cudaIpcCloseMemHandle(values));
    CHECK(cudaEventDestroy(event));
    return EXIT_SUCCESS;
}

// Kernels add to every word all the time while the memory is shared for the first time: no addition is lost.
static int share_while_running(unsigned allocations)
{
    const unsigned words = 3000, turns = 3000;
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (unsigned i = 0; i < allocations; i++) {
        unsigned *values, copy[words];
        cudaIpcMemHandle_t handle;
        CHECK(cudaMalloc(&values, sizeof copy));
        CHECK(cudaMemset(values, 0, sizeof copy));
        CHECK(cudaDeviceSynchronize());
        count_up<<<1, 64, 0, stream>>>(values, words, turns);
        CHECK(cudaIpcGetMemHandle(&handle, values));
        const bool was_running = cudaStreamQuery(stream) == cudaErrorNotReady;
        CHECK(cudaStreamSynchronize(stream));
        CHECK(cudaMemcpy(copy, values, sizeof copy, cudaMemcpyDeviceToHost));
        for (unsigned word : copy)
            EXPECT(word == turns);
        say(was_running ? "running" : "late");
        CHECK(cudaFree(values));
    }
    return EXIT_SUCCESS;
}

static int misuse()
{
    int *values, *ordered;
    cudaIpcMemHandle_t handle, forged;
    cudaIpcEventHandle_t shared;
    cudaEvent_t timed, plain, event, opened;
    void *there;
    CHECK(cudaMalloc(&values, 1000));
    CHECK(cudaMallocAsync(&ordered, 1000, nullptr));
    CHECK(cudaIpcGetMemHandle(&handle, values));
    report("own memory", cudaIpcOpenMemHandle(&there, handle, cudaIpcMemLazyEnablePeerAccess));
    std::memset(&forged, 0x5a, sizeof forged);
    report("forged", cudaIpcOpenMemHandle(&there, forged, cudaIpcMemLazyEnablePeerAccess));
    report("flags", cudaIpcOpenMemHandle(&there, handle, 2));
    report("not device memory", cudaIpcGetMemHandle(&handle, &handle));
    report("stream-ordered memory", cudaIpcGetMemHandle(&handle, ordered));
    report("close", cudaIpcCloseMemHandle(values));
    report("timed event", cudaEventCreateWithFlags(&timed, cudaEventInterprocess));
    CHECK(cudaEventCreateWithFlags(&plain, cudaEventDisableTiming));
    report("plain event", cudaIpcGetEventHandle(&shared, plain));
    CHECK(cudaEventCreateWithFlags(&event, cudaEventInterprocess | cudaEventDisableTiming));
    CHECK(cudaIpcGetEventHandle(&shared, event));
    report("own event", cudaIpcOpenEventHandle(&opened, shared));
    std::memset(&shared, 0x5a, sizeof shared);
    report("forged event", cudaIpcOpenEventHandle(&opened, shared));
    cudaGetLastError();
    return report("afterwards", cudaDeviceSynchronize());
}

// A bad address is an error as ever, though the worker now tries some faulting accesses again.
static int fault_after_sharing()
{
    int *values;
    cudaIpcMemHandle_t handle;
    CHECK(cudaMalloc(&values, 1000));
    CHECK(cudaIpcGetMemHandle(&handle, values));
    add<<<1, 64>>>(values + (size_t(1) << 33), 64, 1); // reserved, and nothing is mapped there
    return report("synchronize", cudaDeviceSynchronize());
}

int main(int argc, char **argv)
{
    const std::string mode = argc > 1 ? argv[1] : "";
    if (mode == "give" && argc == 3)
        return give(std::strtoul(argv[2], nullptr, 10));
    if (mode == "take" && argc == 5)
        return take(argv[2], argv[3], std::strtoul(argv[4], nullptr, 10));
    if (mode == "running" && argc == 3)
        return share_while_running(static_cast<unsigned>(std::atoi(argv[2])));
    if (mode == "misuse")
        return misuse();
    if (mode == "fault")
        return fault_after_sharing();
    std::fprintf(stderr, "usage: %s give COUNT | take MEMORY EVENT COUNT | running ALLOCATIONS | misuse | fault\n",
                 argv[0]);
    return EXIT_FAILURE;
}
