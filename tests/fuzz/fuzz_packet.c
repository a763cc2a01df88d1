/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a greeting, as a packet on a channel's socket, and as an address. What is accepted keeps its promises,
 * what is not says why. */
#include <stdlib.h>
#include <string.h>

#include "channel/address.h"
#include "channel/greeting.h"
#include "channel/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[160] = "", text[300];
    orion_greeting_t greeting;
    orion_packet_t packet;
    orion_address_t address;
    orion_status_t status = orion_greeting_decode(data, size, &greeting, why, sizeof(why));
    if (status == ORION_OK ? greeting.segment_bytes != ORION_CHANNEL_SEGMENT_BYTES || greeting.epoch == 0
                           : why[0] == '\0')
        abort();
    for (const char *c = why; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~')
            abort(); /* it goes to a terminal */
    }
    uint32_t extents = size > 0 ? data[size - 1] % 70 : 0;
    why[0] = '\0';
    status = orion_packet_decode(data, size, extents, 1 << 20, &packet, why, sizeof(why));
    if (status != ORION_OK ? why[0] == '\0'
                           : packet.kind == ORION_PACKET_EXTENT && (packet.bytes == 0 || packet.bytes > 1 << 20))
        abort();
    size_t n = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
    memcpy(text, data, n);
    text[n] = '\0';
    why[0] = '\0';
    status = orion_address_parse(text, &address, why, sizeof(why));
    if (status == ORION_OK ? address.socket_bytes > sizeof(address.socket) : why[0] == '\0')
        abort();
    return 0;
}
