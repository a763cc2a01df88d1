// SPDX-License-Identifier: Apache-2.0
// Text that kernels print is on standard output, in order, when the call that waits for them returns.
#include <cstdio>

#include "check.h"

__global__ void say(int round)
{
    printf("kernel %d says %s %.2f\n", round, "hello", 0.5 * round);
}

int main()
{
    for (int round = 0; round < 20; round++) {
        say<<<1, 1>>>(round);
        CHECK(cudaDeviceSynchronize());
        std::printf("host %d\n", round);
        std::fflush(stdout);
    }
    return EXIT_SUCCESS;
}
