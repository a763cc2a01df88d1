/* SPDX-License-Identifier: Apache-2.0 */
/* The one result type of the C core, which is public too. */
#ifndef ORION_BASE_STATUS_H
#define ORION_BASE_STATUS_H

#include "orion/status.h"

#endif
