/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the transport by the form of the address. */
#define _GNU_SOURCE
#include "transport/link.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "transport/faulty.h"
#include "transport/local.h"
#include "transport/shm.h"
#include "transport/tcp.h"

static orion_status_t open_plain(const char *address, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                                 orion_link_t **link_p, char *why, size_t why_bytes)
{
    if (strncmp(address, "local:", 6) == 0)
        return orion_local_open(address, hello, welcome_p, link_p, why, why_bytes);
    if (strncmp(address, "unix:", 5) != 0)
        return orion_tcp_open(address, hello, welcome_p, link_p, why, why_bytes);
    if (hello->transport == ORION_TRANSPORT_TCP || hello->transport == ORION_TRANSPORT_UCX) {
        orion_explain(why, why_bytes, "transport %s needs a server at HOST:PORT, not at %s; set ORION_SERVER to one",
                      hello->transport == ORION_TRANSPORT_TCP ? "tcp" : "ucx", address);
        return ORION_INVALID;
    }
    return orion_shm_open(address, hello, welcome_p, link_p, why, why_bytes);
}

orion_status_t orion_link_open(const char *address, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                               orion_link_t **link_p, char *why, size_t why_bytes)
{
    orion_fault_plan_t plan;
    orion_link_t *link = NULL;
    const char *faults = getenv("ORION_FAULTS");
    bool wrap = faults != NULL && faults[0] != '\0';
    if (wrap && orion_fault_plan_parse(faults, &plan) != ORION_OK) {
        orion_explain(why, why_bytes, "ORION_FAULTS=\"%s\" is not understood; unset it", faults);
        return ORION_INVALID;
    }
    orion_status_t status = open_plain(address, hello, welcome_p, &link, why, why_bytes);
    if (status != ORION_OK)
        return status;
    if (wrap) {
        orion_log(ORION_LOG_INFO, "ORION_FAULTS is set: this session injects faults on purpose");
        orion_link_t *wrapped;
        status = orion_faulty_wrap(link, &plan, &wrapped);
        if (status != ORION_OK) {
            orion_explain(why, why_bytes, "not enough memory for the fault-injecting link");
            orion_link_close(link);
            return status;
        }
        link = wrapped;
    }
    *link_p = link;
    return ORION_OK;
}
