// SPDX-License-Identifier: Apache-2.0
// The other half of linked.cu.
__device__ int twice(int x)
{
    return 2 * x;
}
