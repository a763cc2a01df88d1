/* SPDX-License-Identifier: Apache-2.0 */
/* Launches. The parameter block is in the record and copied by the device before it returns. */
#include "worker/hand/hand.h"

CUresult orion_serve_orionLaunch(orion_worker_t *w, orion_function_t *function, orion_stream_t *stream,
                                 unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,
                                 unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,
                                 unsigned int flags, unsigned int params_bytes, const void *params)
{
    const orion_launch_t launch = {
        .function = function,
        .grid = {grid_x, grid_y, grid_z},
        .block = {block_x, block_y, block_z},
        .shared_bytes = shared_bytes,
        .flags = flags,
        .params = params,
        .param_bytes = params_bytes,
    };
    orion_stats_add(&w->stats->kernels, 1);
    return w->ops->launch(w->device, stream, &launch, orion_quiet_done, w);
}
