/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as what the other side of a channel wrote: the first byte says whether as its ring (and how much it claims to
 * have filled of a message that we copy along) or as its answer to our call. Messages that come out are whole, and their
 * bulk lies within the other side's extent. */
#include <stdlib.h>
#include <string.h>

#include "channel/channel.h"
#include "message.h"

#define EPOCH 7u
#define EXTENT_BYTES 600u /* from malloc: the sanitizer watches its ends */
#define ROOM_BYTES 300u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static orion_channel_control_t *own, *peer;
    static orion_channel_t *channel;
    static orion_message_t message;
    uint32_t state = ORION_CHANNEL_LIVE;
    if (size < 1)
        return 0;
    if (own == NULL && (posix_memalign((void **)&own, 4096, ORION_CHANNEL_SEGMENT_BYTES) != 0 ||
                        posix_memalign((void **)&peer, 4096, ORION_CHANNEL_SEGMENT_BYTES) != 0 ||
                        posix_memalign((void **)&channel, ORION_SPACING, sizeof(*channel)) != 0))
        return 0;
    memset(own, 0, sizeof(*own));
    memset(peer, 0, sizeof(*peer));
    memset(channel, 0, sizeof(*channel));
    uint8_t *extent = malloc(EXTENT_BYTES);
    if (extent == NULL)
        return 0;
    memset(extent, 1, EXTENT_BYTES);
    channel->state = &state;
    channel->own = own;
    channel->peer = peer;
    channel->socket = channel->pidfd = -1;
    channel->users = 1;
    channel->receive_max = 1 << 16;
    channel->peer_extents[0] = (orion_mapped_t){extent, EXTENT_BYTES};
    channel->peer_extent_count = 1;
    orion_ring_consumer_init(&channel->in, orion_channel_ring(peer), ORION_CHANNEL_RING_BYTES, &peer->head, &own->tail,
                             EPOCH, NULL, ORION_CHANNEL_RECORD_MAX);
    if (data[0] % 2 == 0) {
        uint32_t bytes = (uint32_t)(size - 1 < 65536 ? size - 1 : 65536) & ~7u;
        memcpy(orion_channel_ring(peer), data + 1, bytes);
        peer->head = bytes;
        peer->filled = data[0] >> 2;
        uint8_t *to = malloc(ROOM_BYTES);
        while ((data[0] & 2) != 0 ? orion_channel_receive_into(channel, 1000, to, ROOM_BYTES, &message) == ORION_OK
                                  : orion_channel_receive(channel, 0, &message) == ORION_OK)
            use(&message);
        free(to);
        memset(orion_channel_ring(peer), 0, bytes);
    } else {
        orion_reply_t *reply = orion_channel_slot(peer, 0);
        size_t bytes = size - 1 < sizeof(*reply) ? size - 1 : sizeof(*reply);
        memcpy(reply, data + 1, bytes);
        uint32_t sequence = reply->sequence;
        if (orion_channel_call_await(channel, orion_call_id(0, sequence), 0, &message) == ORION_OK)
            use(&message);
        memset(reply, 0, sizeof(*reply));
    }
    if (state == ORION_CHANNEL_GONE && channel->why[0] == '\0')
        abort();
    free(channel->pieces.data);
    free(extent);
    return 0;
}
