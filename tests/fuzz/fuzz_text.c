/* SPDX-License-Identifier: Apache-2.0 */
/* Any text where the client reads some: the device plugin's allocation.json, a plan of faults, a list of visible devices.
 * What comes out ends, and nothing is written where it was refused. */
#include <stdlib.h>
#include <string.h>

#include "allocation.h"
#include "transport/faulty.h"
#include "wishes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    orion_allocation_t allocation, before;
    orion_fault_plan_t plan, untouched;
    char *text = malloc(size + 1); /* of exactly that size: the sanitizer watches its end */
    need(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    memset(&allocation, 'x', sizeof(allocation));
    before = allocation;
    if (orion_allocation_parse(text, &allocation)) {
        const size_t endpoint = strnlen(allocation.endpoint, sizeof(allocation.endpoint));
        const size_t token = strnlen(allocation.token, sizeof(allocation.token));
        need(endpoint > 0 && endpoint < sizeof(allocation.endpoint) && token > 0 && token < sizeof(allocation.token));
        need(strstr(text, allocation.endpoint) != NULL && strstr(text, allocation.token) != NULL);
    } else {
        need(memcmp(&allocation, &before, sizeof(before)) == 0);
    }
    memset(&plan, 'x', sizeof(plan));
    untouched = plan;
    if (orion_fault_plan_parse(text, &plan) != ORION_OK)
        need(memcmp(&plan, &untouched, sizeof(plan)) == 0);
    (void)orion_device_visible(text, (const unsigned char *)"0123456789abcdef");
    free(text);
    return 0;
}
