// SPDX-License-Identifier: Apache-2.0
// A shared library of kernels; pytest calls it through ctypes and checks the results with NumPy.
// Every function takes host arrays, copies them in, launches, copies out, and returns the CUDA error.
#include <cuda_runtime.h>

#define EXPORT extern "C" __attribute__((visibility("default")))
#define TRY(call)                       \
    do {                                \
        cudaError_t try_error = (call); \
        if (try_error != cudaSuccess) { \
            return try_error;           \
        }                               \
    } while (0)

namespace
{

// Device memory for the time of one call, filled from and copied back to the host.
template <typename T> class Buffer
{
  public:
    explicit Buffer(size_t count) : bytes(count * sizeof(T)) { error = cudaMalloc(&data, bytes); }
    Buffer(const T *host, size_t count) : Buffer(count)
    {
        if (error == cudaSuccess) {
            error = cudaMemcpy(data, host, bytes, cudaMemcpyHostToDevice);
        }
    }
    ~Buffer() { cudaFree(data); }
    cudaError_t fetch(T *host) { return cudaMemcpy(host, data, bytes, cudaMemcpyDeviceToHost); }
    cudaError_t clear() { return cudaMemset(data, 0, bytes); }

    T *data = nullptr;
    size_t bytes;
    cudaError_t error;
};

int blocks_for(int n, int threads)
{
    return (n + threads - 1) / threads;
}

__global__ void saxpy_kernel(int n, float a, const float *x, float *y)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = a * x[i] + y[i];
    }
}

template <int tile>
__global__ void matmul_kernel(const float *a, const float *b, float *c, int rows, int inner, int columns)
{
    __shared__ float tile_a[tile][tile], tile_b[tile][tile];
    int row = blockIdx.y * tile + threadIdx.y, column = blockIdx.x * tile + threadIdx.x;
    float sum = 0.0f;
    for (int start = 0; start < inner; start += tile) {
        int across = start + threadIdx.x, down = start + threadIdx.y;
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

// Dynamic shared memory; one partial sum a block.
__global__ void block_sum_kernel(const float *in, float *out, int n)
{
    extern __shared__ float partial[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    partial[threadIdx.x] = i < n ? in[i] : 0.0f;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half >>= 1) {
        if (threadIdx.x < half) {
            partial[threadIdx.x] += partial[threadIdx.x + half];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        out[blockIdx.x] = partial[0];
    }
}

// One sum a warp by shuffles, and what the other shuffles and votes make of the same values.
__global__ void warp_kernel(const int *in, int *sums, int *reversed, int *scanned, unsigned *odd)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x & 31;
    int value = in[i], sum = value, scan = value;
    for (int offset = 16; offset > 0; offset >>= 1) {
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    }
    for (int offset = 1; offset < 32; offset <<= 1) {
        int below = __shfl_up_sync(0xffffffffu, scan, offset);
        scan += lane >= offset ? below : 0;
    }
    reversed[i] = __shfl_sync(0xffffffffu, value, 31 - lane);
    scanned[i] = scan;
    unsigned ballot = __ballot_sync(0xffffffffu, value & 1);
    if (lane == 0) {
        sums[i / 32] = sum;
        odd[i / 32] = ballot;
    }
}

__global__ void atomics_kernel(const int *in, int n, int *results)
{
    __shared__ int block_sum, block_max;
    if (threadIdx.x == 0) {
        block_sum = 0;
        block_max = -0x7fffffff;
    }
    __syncthreads();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        atomicAdd(&block_sum, in[i]);
        atomicMax(&block_max, in[i]);
        atomicMin(&results[2], in[i]);
        atomicXor(&results[3], in[i]);
        atomicOr(&results[4], in[i]);
        int seen = results[5], assumed;
        do { // addition by compare-and-swap
            assumed = seen;
            seen = atomicCAS(&results[5], assumed, assumed + in[i]);
        } while (seen != assumed);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(&results[0], block_sum);
        atomicMax(&results[1], block_max);
    }
}

__global__ void float_atomics_kernel(const float *in, int n, float *sum, double *precise)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        atomicAdd(sum, in[i]);
        atomicAdd(precise, static_cast<double>(in[i]));
    }
}

__global__ void transpose_kernel(const float *in, float *out, int rows, int columns)
{
    __shared__ float tile[32][33];
    int x = blockIdx.x * 32 + threadIdx.x;
    for (int y = threadIdx.y; y < 32; y += blockDim.y) {
        int row = blockIdx.y * 32 + y;
        if (row < rows && x < columns) {
            tile[y][threadIdx.x] = in[row * columns + x];
        }
    }
    __syncthreads();
    int row = blockIdx.y * 32 + threadIdx.x;
    for (int y = threadIdx.y; y < 32; y += blockDim.y) {
        int column = blockIdx.x * 32 + y;
        if (column < columns && row < rows) {
            out[column * rows + row] = tile[threadIdx.x][y];
        }
    }
}

__global__ void histogram_kernel(const unsigned char *in, int n, unsigned *bins)
{
    __shared__ unsigned local[256];
    for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) {
        local[bin] = 0;
    }
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x) {
        atomicAdd(&local[in[i]], 1u);
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) {
        atomicAdd(&bins[bin], local[bin]);
    }
}

constexpr int math_functions = 12;

__global__ void math_kernel(const double *in, double *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        double x = in[i], magnitude = fabs(x) + 0.25;
        double *mine = out + static_cast<size_t>(i) * math_functions;
        mine[0] = sin(x);
        mine[1] = cos(x);
        mine[2] = tan(x);
        mine[3] = exp(x * 0.1);
        mine[4] = log(magnitude);
        mine[5] = sqrt(magnitude);
        mine[6] = pow(magnitude, 1.7);
        mine[7] = atan2(x, 2.0);
        mine[8] = erf(x * 0.2);
        mine[9] = cbrt(x);
        mine[10] = tanh(x * 0.3);
        mine[11] = fma(x, x, -magnitude);
    }
}

__device__ float twice(float x)
{
    return x + x;
}
__device__ float square(float x)
{
    return x * x;
}
__device__ float negated(float x)
{
    return -x;
}
typedef float (*unary_t)(float);
__device__ unary_t unary_table[3] = {twice, square, negated};

__global__ void pointers_kernel(const float *in, float *out, const int *which, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        out[i] = unary_table[which[i]](in[i]);
    }
}

} // namespace

EXPORT int kernels_saxpy(int n, float a, const float *x, float *y)
{
    Buffer<float> device_x(x, n), device_y(y, n);
    TRY(device_x.error);
    TRY(device_y.error);
    saxpy_kernel<<<blocks_for(n, 256), 256>>>(n, a, device_x.data, device_y.data);
    TRY(cudaGetLastError());
    return device_y.fetch(y);
}

EXPORT int kernels_matmul(const float *a, const float *b, float *c, int rows, int inner, int columns, int tile)
{
    Buffer<float> device_a(a, static_cast<size_t>(rows) * inner);
    Buffer<float> device_b(b, static_cast<size_t>(inner) * columns);
    Buffer<float> device_c(static_cast<size_t>(rows) * columns);
    TRY(device_a.error);
    TRY(device_b.error);
    TRY(device_c.error);
    dim3 threads(tile, tile), blocks(blocks_for(columns, tile), blocks_for(rows, tile));
    if (tile == 16) {
        matmul_kernel<16><<<blocks, threads>>>(device_a.data, device_b.data, device_c.data, rows, inner, columns);
    } else {
        matmul_kernel<32><<<blocks, threads>>>(device_a.data, device_b.data, device_c.data, rows, inner, columns);
    }
    TRY(cudaGetLastError());
    return device_c.fetch(c);
}

EXPORT int kernels_block_sum(const float *in, float *out, int n, int threads)
{
    int blocks = blocks_for(n, threads);
    Buffer<float> device_in(in, n), device_out(blocks);
    TRY(device_in.error);
    TRY(device_out.error);
    block_sum_kernel<<<blocks, threads, threads * sizeof(float)>>>(device_in.data, device_out.data, n);
    TRY(cudaGetLastError());
    return device_out.fetch(out);
}

// n must be a multiple of 128.
EXPORT int kernels_warp(const int *in, int n, int *sums, int *reversed, int *scanned, unsigned *odd)
{
    Buffer<int> device_in(in, n), device_sums(n / 32), device_reversed(n), device_scanned(n);
    Buffer<unsigned> device_odd(n / 32);
    TRY(device_in.error);
    TRY(device_odd.error);
    warp_kernel<<<n / 128, 128>>>(device_in.data, device_sums.data, device_reversed.data, device_scanned.data,
                                  device_odd.data);
    TRY(cudaGetLastError());
    TRY(device_sums.fetch(sums));
    TRY(device_reversed.fetch(reversed));
    TRY(device_scanned.fetch(scanned));
    return device_odd.fetch(odd);
}

// results: sum, maximum, minimum, xor, or, sum by compare-and-swap; the caller sets where they start.
EXPORT int kernels_atomics(const int *in, int n, int *results)
{
    Buffer<int> device_in(in, n), device_results(results, 6);
    TRY(device_in.error);
    TRY(device_results.error);
    atomics_kernel<<<blocks_for(n, 128), 128>>>(device_in.data, n, device_results.data);
    TRY(cudaGetLastError());
    return device_results.fetch(results);
}

EXPORT int kernels_float_atomics(const float *in, int n, float *sum, double *precise)
{
    Buffer<float> device_in(in, n), device_sum(1);
    Buffer<double> device_precise(1);
    TRY(device_in.error);
    TRY(device_sum.clear());
    TRY(device_precise.clear());
    float_atomics_kernel<<<blocks_for(n, 256), 256>>>(device_in.data, n, device_sum.data, device_precise.data);
    TRY(cudaGetLastError());
    TRY(device_sum.fetch(sum));
    return device_precise.fetch(precise);
}

EXPORT int kernels_transpose(const float *in, float *out, int rows, int columns)
{
    size_t count = static_cast<size_t>(rows) * columns;
    Buffer<float> device_in(in, count), device_out(count);
    TRY(device_in.error);
    TRY(device_out.error);
    dim3 threads(32, 8), blocks(blocks_for(columns, 32), blocks_for(rows, 32));
    transpose_kernel<<<blocks, threads>>>(device_in.data, device_out.data, rows, columns);
    TRY(cudaGetLastError());
    return device_out.fetch(out);
}

EXPORT int kernels_histogram(const unsigned char *in, int n, unsigned *bins)
{
    Buffer<unsigned char> device_in(in, n);
    Buffer<unsigned> device_bins(256);
    TRY(device_in.error);
    TRY(device_bins.clear());
    histogram_kernel<<<24, 192>>>(device_in.data, n, device_bins.data);
    TRY(cudaGetLastError());
    return device_bins.fetch(bins);
}

// out has n rows of 12 results.
EXPORT int kernels_math(const double *in, double *out, int n)
{
    Buffer<double> device_in(in, n), device_out(static_cast<size_t>(n) * math_functions);
    TRY(device_in.error);
    TRY(device_out.error);
    math_kernel<<<blocks_for(n, 64), 64>>>(device_in.data, device_out.data, n);
    TRY(cudaGetLastError());
    return device_out.fetch(out);
}

// which: 0 twice, 1 square, 2 negated.
EXPORT int kernels_pointers(const float *in, float *out, const int *which, int n)
{
    Buffer<float> device_in(in, n), device_out(n);
    Buffer<int> device_which(which, n);
    TRY(device_in.error);
    TRY(device_out.error);
    TRY(device_which.error);
    pointers_kernel<<<blocks_for(n, 128), 128>>>(device_in.data, device_out.data, device_which.data, n);
    TRY(cudaGetLastError());
    return device_out.fetch(out);
}
