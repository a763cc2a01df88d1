/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a command ring: the first word is the write index, the rest what lies in the ring. Records that come out
 * are whole and within bounds, and there are no more of them than fit. */
#include <stdlib.h>
#include <string.h>

#include "channel/ring.h"

#define SIZE 4096u
#define RECORD_MAX 1024u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t head = 0, tail = 0, total = 0;
    uint8_t *ring = NULL, *copy = NULL; /* from malloc: the sanitizer watches their ends */
    orion_ring_consumer_t consumer;
    const orion_record_t *record;
    if (size < 4 || posix_memalign((void **)&ring, 64, SIZE) != 0 ||
        posix_memalign((void **)&copy, 64, RECORD_MAX) != 0) {
        free(ring);
        return 0;
    }
    memset(ring, 0, SIZE);
    memcpy(&head, data, 4);
    memcpy(ring, data + 4, size - 4 < SIZE ? size - 4 : SIZE);
    orion_ring_consumer_init(&consumer, ring, SIZE, &head, &tail, 7, copy, RECORD_MAX);
    while (orion_ring_next(&consumer, &record) == ORION_OK) {
        uint32_t bytes = record->bytes;
        volatile uint8_t last = ((const uint8_t *)record)[bytes - 1];
        (void)last;
        total += bytes;
        if (bytes < 16 || bytes > RECORD_MAX || bytes % 8 != 0 || total > SIZE)
            abort();
    }
    free(ring);
    free(copy);
    return 0;
}
