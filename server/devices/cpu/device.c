/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU device: kernels run on the host's cores. */
#include "launch.h"

static CUresult cpu_open(const orion_device_config_t *config, orion_device_t **device_p, char *why, size_t why_bytes)
{
    CUresult result = orion_host_open(config, "CPU", config->compiler, device_p, why, why_bytes);
    if (result == CUDA_SUCCESS)
        (*device_p)->info.runs_kernels = 1;
    return result;
}

const orion_device_ops_t orion_cpu_device = {
    .name = "cpu",
    .open = cpu_open,
    .launch = orion_cpu_launch,
    ORION_HOST_OPS,
};
