// SPDX-License-Identifier: Apache-2.0
// A __managed__ variable, which host and kernels both use by name.
#include "check.h"

__managed__ int managed_variable = 7;

__global__ void bump()
{
    managed_variable += 35;
}

int main()
{
    CHECK(cudaFree(nullptr));
    EXPECT(managed_variable == 7);
    bump<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    EXPECT(managed_variable == 42);
    std::printf("managed variable ok\n");
    return EXIT_SUCCESS;
}
