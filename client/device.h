/* SPDX-License-Identifier: Apache-2.0 */
/* The device as the server described it when the session opened. */
#ifndef ORION_CLIENT_DEVICE_H
#define ORION_CLIENT_DEVICE_H

#include "session.h"

#define ORION_DRIVER_VERSION 13000 /* the interface that the generated tables describe */

CUresult orion_device_describe(orion_session_t *session);
/* cuInit done and ordinal a device of ours? */
CUresult orion_device_check(CUdevice device, orion_session_t **session_p);

static inline int32_t orion_device_attribute(const orion_session_t *session, unsigned attribute)
{
    return attribute < session->device.attribute_count ? session->device.attributes[attribute] : 0;
}

#endif
