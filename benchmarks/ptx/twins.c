/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark's kernels do, as plain C for one core: compiled with -O3 -march=native. */
#include <stddef.h>

void vector_add(const float *restrict a, const float *restrict b, float *restrict c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        c[i] = a[i] + b[i];
}

#define TILE 32

void matmul(const float *restrict a, const float *restrict b, float *restrict c, size_t n)
{
    for (size_t by = 0; by < n; by += TILE)
        for (size_t bx = 0; bx < n; bx += TILE) {
            float as[TILE][TILE], bs[TILE][TILE], sum[TILE][TILE] = {{0}};
            for (size_t t = 0; t < n; t += TILE) {
                for (size_t y = 0; y < TILE; y++)
                    for (size_t x = 0; x < TILE; x++) {
                        as[y][x] = a[(by + y) * n + t + x];
                        bs[y][x] = b[(t + y) * n + bx + x];
                    }
                for (size_t y = 0; y < TILE; y++)
                    for (size_t k = 0; k < TILE; k++)
                        for (size_t x = 0; x < TILE; x++)
                            sum[y][x] += as[y][k] * bs[k][x];
            }
            for (size_t y = 0; y < TILE; y++)
                for (size_t x = 0; x < TILE; x++)
                    c[(by + y) * n + bx + x] = sum[y][x];
        }
}

float reduce(const float *a, size_t n)
{
    float sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += a[i];
    return sum;
}

void histogram(const unsigned char *in, unsigned *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[in[i]]++;
}
