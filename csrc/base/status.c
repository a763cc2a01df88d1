/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the status values, for messages. */
#include "base/status.h"

const char *orion_status_name(orion_status_t status)
{
    switch (status) {
    case ORION_OK:
        return "ok";
    case ORION_AGAIN:
        return "try again";
    case ORION_TIMEOUT:
        return "timed out";
    case ORION_PEER_GONE:
        return "peer gone";
    case ORION_PROTOCOL:
        return "protocol error";
    case ORION_NO_MEMORY:
        return "out of memory";
    case ORION_INVALID:
        return "invalid argument";
    case ORION_SYSTEM:
        return "system call failed";
    case ORION_REFUSED:
        return "refused";
    case ORION_VERSION:
        return "protocol version not served";
    case ORION_TOO_BIG:
        return "too big";
    }
    return "unknown status";
}
