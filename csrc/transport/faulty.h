/* SPDX-License-Identifier: Apache-2.0 */
/* A link around another that loses, delays and garbles records and dies, as told. For tests of everything above. */
#ifndef ORION_TRANSPORT_FAULTY_H
#define ORION_TRANSPORT_FAULTY_H

#include <stdint.h>

#include "transport/link.h"

typedef struct orion_fault_plan {
    uint32_t drop_ppm;    /* of commits, in millionths: the record never arrives; awaiting it is ORION_TIMEOUT */
    uint32_t garbage_ppm; /* header and payload become random */
    uint32_t delay_ppm;   /* the commit comes late */
    uint64_t delay_us;
    uint64_t die_after;  /* commits until the other side is as good as dead; 0 = never */
    uint64_t timeout_ms; /* how long awaiting a dropped record takes */
    uint64_t seed;       /* the same seed gives the same faults */
} orion_fault_plan_t;

/* "drop=0.01,garbage=0.001,delay=0.1,delay_us=200,die_after=1000,timeout_ms=50,seed=1"; absent = none. ORION_INVALID on
 * an unreadable number. */
orion_status_t orion_fault_plan_parse(const char *text, orion_fault_plan_t *plan_p);

/* Takes over `inner`: closing the wrapper closes it. */
orion_status_t orion_faulty_wrap(orion_link_t *inner, const orion_fault_plan_t *plan, orion_link_t **link_p);

#endif
