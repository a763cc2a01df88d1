// SPDX-License-Identifier: Apache-2.0
// Multiplies two matrices with tiles in shared memory (two __syncthreads a tile) and checks every
// element of the product against the same sum on the CPU. The sizes are no multiple of the tile.
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

constexpr int tile = 16;

// C (rows x columns) = A (rows x inner) * B (inner x columns), all row-major.
__global__ void matmul(const float *a, const float *b, float *c, int rows, int inner, int columns)
{
    __shared__ float tile_a[tile][tile];
    __shared__ float tile_b[tile][tile];

    const int row = blockIdx.y * tile + threadIdx.y;
    const int column = blockIdx.x * tile + threadIdx.x;
    float sum = 0.0f;
    for (int start = 0; start < inner; start += tile) {
        const int across = start + threadIdx.x;
        const int down = start + threadIdx.y;
        tile_a[threadIdx.y][threadIdx.x] = row < rows && across < inner ? a[row * inner + across] : 0.0f;
        tile_b[threadIdx.y][threadIdx.x] = column < columns && down < inner ? b[down * columns + column] : 0.0f;
        __syncthreads();
        for (int k = 0; k < tile; k++) {
            sum += tile_a[threadIdx.y][k] * tile_b[k][threadIdx.x];
        }
        __syncthreads();
    }
    if (row < rows && column < columns) {
        c[row * columns + column] = sum;
    }
}

int main()
{
    const int rows = 250, inner = 330, columns = 190;
    std::vector<float> host_a(rows * inner), host_b(inner * columns), host_c(rows * columns);
    for (size_t i = 0; i < host_a.size(); i++) {
        host_a[i] = std::rand() / static_cast<float>(RAND_MAX) - 0.5f;
    }
    for (size_t i = 0; i < host_b.size(); i++) {
        host_b[i] = std::rand() / static_cast<float>(RAND_MAX) - 0.5f;
    }

    float *a = nullptr, *b = nullptr, *c = nullptr;
    CHECK(cudaMalloc(&a, host_a.size() * sizeof(float)));
    CHECK(cudaMalloc(&b, host_b.size() * sizeof(float)));
    CHECK(cudaMalloc(&c, host_c.size() * sizeof(float)));
    CHECK(cudaMemcpy(a, host_a.data(), host_a.size() * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(b, host_b.data(), host_b.size() * sizeof(float), cudaMemcpyHostToDevice));

    cudaEvent_t before, after;
    CHECK(cudaEventCreate(&before));
    CHECK(cudaEventCreate(&after));
    const dim3 threads(tile, tile);
    const dim3 blocks((columns + tile - 1) / tile, (rows + tile - 1) / tile);
    CHECK(cudaEventRecord(before));
    matmul<<<blocks, threads>>>(a, b, c, rows, inner, columns);
    CHECK(cudaGetLastError());
    CHECK(cudaEventRecord(after));
    CHECK(cudaEventSynchronize(after));
    float milliseconds = 0.0f;
    CHECK(cudaEventElapsedTime(&milliseconds, before, after));
    CHECK(cudaMemcpy(host_c.data(), c, host_c.size() * sizeof(float), cudaMemcpyDeviceToHost));
    std::printf("(%d x %d) * (%d x %d) with %d x %d tiles: %.3f ms on the device\n", rows, inner, inner, columns, tile,
                tile, milliseconds);

    double worst = 0.0;
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
            double expected = 0.0;
            for (int k = 0; k < inner; k++) {
                expected += static_cast<double>(host_a[row * inner + k]) * host_b[k * columns + column];
            }
            const double error = std::fabs(host_c[row * columns + column] - expected);
            worst = error > worst || std::isnan(error) ? error : worst;
        }
    }
    std::printf("largest error %.3g\n", worst);

    CHECK(cudaEventDestroy(before));
    CHECK(cudaEventDestroy(after));
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
    CHECK(cudaFree(c));
    const bool passed = worst < 1e-4;
    std::printf("Test %s\n", passed ? "PASSED" : "FAILED");
    return passed ? EXIT_SUCCESS : EXIT_FAILURE;
}
