/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets of channels do with a message that came out: all of it has to be readable. */
#ifndef ORION_FUZZ_MESSAGE_H
#define ORION_FUZZ_MESSAGE_H

#include <stdlib.h>

#include "channel/channel.h"

static inline void touch(const void *data, size_t bytes)
{
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)data)[i]);
}

static inline void use(orion_message_t *m)
{
    if (m->kind < ORION_MESSAGE_SEND || m->kind > ORION_MESSAGE_ERROR || m->tag > ORION_CHANNEL_TAG_MAX)
        abort();
    touch(m->data, m->bytes);
    touch(m->bulk.data, m->bulk.bytes);
    orion_message_release(m);
}

#endif
