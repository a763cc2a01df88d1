// SPDX-License-Identifier: Apache-2.0
// Adds two vectors of 50,000 floats on the device and checks each sum on the CPU: C = A + B.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <cuda_runtime.h>

#define CHECK(call)                                                                                                  \
    do {                                                                                                             \
        cudaError_t check_error = (call);                                                                            \
        if (check_error != cudaSuccess) {                                                                            \
            std::fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #call, cudaGetErrorString(check_error), \
                         cudaGetErrorName(check_error));                                                             \
            std::printf("Test FAILED\n");                                                                            \
            std::exit(EXIT_FAILURE);                                                                                 \
        }                                                                                                            \
    } while (0)

__global__ void vector_add(const float *a, const float *b, float *c, int count)
{
    int i = blockDim.x * blockIdx.x + threadIdx.x;
    if (i < count) {
        c[i] = a[i] + b[i];
    }
}

int main()
{
    const int count = 50000;
    const size_t bytes = count * sizeof(float);

    cudaDeviceProp properties;
    int major = 0, minor = 0;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
    std::printf("Vector addition of %d elements on \"%s\" (compute capability %d.%d)\n", count, properties.name, major,
                minor);

    std::vector<float> host_a(count), host_b(count), host_c(count);
    for (int i = 0; i < count; i++) {
        host_a[i] = std::rand() / static_cast<float>(RAND_MAX);
        host_b[i] = std::rand() / static_cast<float>(RAND_MAX);
    }

    float *a = nullptr, *b = nullptr, *c = nullptr;
    CHECK(cudaMalloc(&a, bytes));
    CHECK(cudaMalloc(&b, bytes));
    CHECK(cudaMalloc(&c, bytes));
    CHECK(cudaMemcpy(a, host_a.data(), bytes, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(b, host_b.data(), bytes, cudaMemcpyHostToDevice));

    const int threads = 256;
    const int blocks = (count + threads - 1) / threads;
    std::printf("CUDA kernel launch with %d blocks of %d threads\n", blocks, threads);
    vector_add<<<blocks, threads>>>(a, b, c, count);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(host_c.data(), c, bytes, cudaMemcpyDeviceToHost));

    int wrong = 0;
    for (int i = 0; i < count; i++) {
        if (std::fabs(host_a[i] + host_b[i] - host_c[i]) > 1e-5f) {
            if (wrong++ == 0) {
                std::fprintf(stderr, "element %d is %g, expected %g\n", i, host_c[i], host_a[i] + host_b[i]);
            }
        }
    }
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
    CHECK(cudaFree(c));
    std::printf("Test %s\n", wrong == 0 ? "PASSED" : "FAILED");
    return wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
