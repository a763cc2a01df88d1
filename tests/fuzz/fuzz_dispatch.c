/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a hostile client's session with a worker: generated dispatch, handles, ledger, server/worker/hand and the
 * null device behind them. */
#include "../server/hostile_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static hostile_t h;
    if (size > 4096)
        return 0; /* a short program can do all that a long one can, and sooner */
    hostile_open(&h, NULL);
    hostile_run(&h, data, size);
    hostile_close(&h);
    return 0;
}
