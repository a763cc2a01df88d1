/* SPDX-License-Identifier: Apache-2.0 */
/* Asking a controller which server has a vGPU for this process. */
#ifndef ORION_CLIENT_PLACE_H
#define ORION_CLIENT_PLACE_H

#include "wishes.h"

#include "base/status.h"
#include "wire/hello.h"

/* Says `hello` to the controller and waits for a vGPU, as long as the wishes allow; one line on stderr says so. On
 * success the token of the lease is the one that this process names from now on (wire/token.h).
 * ORION_REFUSED: *cuda_result_p is what cuInit shall answer. */
orion_status_t orion_place_find(const char *controller, const orion_hello_t *hello, const orion_wishes_t *wishes,
                                orion_redirect_t *place_p, int32_t *cuda_result_p, char *why, size_t why_bytes);

#endif
