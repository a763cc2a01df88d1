/* SPDX-License-Identifier: Apache-2.0 */
/* Decoders of the packets on a channel's socket, see greeting.h. */
#include "channel/greeting.h"

#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "channel/layout.h"

#define PAGE 4096u

static_assert(sizeof(orion_greeting_t) == 256, "wire layout");
static_assert(sizeof(orion_packet_t) == 16, "wire layout");

orion_status_t orion_greeting_decode(const void *data, size_t bytes, orion_greeting_t *greeting_p, char *why,
                                     size_t why_bytes)
{
    orion_greeting_t g;
    if (bytes != sizeof(g)) {
        orion_explain(why, why_bytes, "it sent %zu bytes instead of a greeting: not a channel of Orion", bytes);
        return ORION_PROTOCOL;
    }
    memcpy(&g, data, sizeof(g));
    if (g.magic != ORION_GREETING_MAGIC) {
        orion_explain(why, why_bytes, "its greeting is not that of a channel of Orion");
        return ORION_PROTOCOL;
    }
    if (g.version != ORION_CHANNEL_VERSION) {
        orion_explain(why, why_bytes, "it speaks version %u of the channel protocol, this process version %u",
                      g.version, ORION_CHANNEL_VERSION);
        return ORION_VERSION;
    }
    if (g.kind == ORION_PACKET_REFUSAL) {
        g.message[sizeof(g.message) - 1] = '\0';
        orion_printable(g.message);
        orion_explain(why, why_bytes, "it said no: %s", g.message);
        return ORION_REFUSED;
    }
    if (g.kind != ORION_PACKET_HELLO || g.segment_bytes != ORION_CHANNEL_SEGMENT_BYTES || g.epoch == 0) {
        orion_explain(why, why_bytes, "its greeting makes no sense");
        return ORION_PROTOCOL;
    }
    *greeting_p = g;
    return ORION_OK;
}

orion_status_t orion_packet_decode(const void *data, size_t bytes, uint32_t extents, uint64_t room,
                                   orion_packet_t *packet_p, char *why, size_t why_bytes)
{
    orion_packet_t p;
    if (bytes != sizeof(p)) {
        orion_explain(why, why_bytes, "it sent a packet of %zu bytes", bytes);
        return ORION_PROTOCOL;
    }
    memcpy(&p, data, sizeof(p));
    if (p.kind == ORION_PACKET_EXTENT) {
        if (p.index != extents || extents >= ORION_CHANNEL_EXTENTS || p.bytes == 0 || p.bytes % PAGE != 0 ||
            p.bytes > room) {
            orion_explain(why, why_bytes, "it offered extent %u of %llu bytes, which was not to be expected", p.index,
                          (unsigned long long)p.bytes);
            return ORION_PROTOCOL;
        }
    } else if (p.kind != ORION_PACKET_BELL) {
        orion_explain(why, why_bytes, "it sent a packet of unknown kind %u", p.kind);
        return ORION_PROTOCOL;
    }
    *packet_p = p;
    return ORION_OK;
}
