// SPDX-License-Identifier: Apache-2.0
// What all end-to-end programs share: stop at the first CUDA error, and say where it was.
#pragma once

#include <cstdio>
#include <cstdlib>

#include <cuda_runtime.h>

#define CHECK(call)                                                                                            \
    do {                                                                                                       \
        cudaError_t check_error = (call);                                                                      \
        if (check_error != cudaSuccess) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorName(check_error)); \
            std::exit(EXIT_FAILURE);                                                                           \
        }                                                                                                      \
    } while (0)

#define EXPECT(condition)                                                                \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(EXIT_FAILURE);                                                     \
        }                                                                                \
    } while (0)
