/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes where TLS is expected, at either end and before or behind the handshake, in pieces: the first byte says which
 * of these. Nothing of them comes out as data, and arming after AGAIN always lets the receiver sleep. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream/libssl.h"
#include "stream/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[ORION_TLS_KEY_BYTES] = "a key that the bytes do not know";

static orion_status_t receive(orion_bytestream_t *s, size_t *n_p)
{
    static uint8_t to[1000];
    struct iovec room = {to, sizeof(to)};
    struct pollfd polled[ORION_BYTESTREAM_FDS];
    orion_status_t status = orion_bytestream_receive(s, &room, 1, false, n_p);
    if (status == ORION_AGAIN && orion_bytestream_arm(s, ORION_BYTESTREAM_READ, polled) == 0)
        abort();
    return status;
}

/* Both ends in turns, without threads. */
static void shake_hands(orion_bytestream_t *a, orion_bytestream_t *b)
{
    size_t n;
    for (int turn = 0; turn < 4; turn++) {
        if (receive(a, &n) != ORION_AGAIN || receive(b, &n) != ORION_AGAIN)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int sockets[2];
    orion_bytestream_t *s, *peer = NULL;
    uint8_t words[400];
    size_t n = 0, at = 1;
    if (size < 1 || orion_libssl(NULL, 0) == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0)
        return 0;
    int server = data[0] & 1, behind = data[0] & 2, spare = dup(sockets[1]);
    if (orion_bytestream_of_tls(sockets[0], server, key, &s, NULL, 0) != ORION_OK)
        abort();
    if (behind) {
        if (orion_bytestream_of_tls(sockets[1], !server, key, &peer, NULL, 0) != ORION_OK)
            abort();
        shake_hands(s, peer);
    } else {
        (void)close(sockets[1]);
    }
    orion_status_t status = ORION_AGAIN;
    while (at < size && status == ORION_AGAIN) {
        size_t piece = 1 + data[0] / 4u * 11u;
        if (piece > size - at)
            piece = size - at;
        if (send(spare, data + at, piece, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)piece)
            break;
        at += piece;
        status = receive(s, &n);
        if (status == ORION_OK)
            abort();
    }
    (void)shutdown(spare, SHUT_RDWR);
    (void)orion_bytestream_last_words(s, words, sizeof(words));
    (void)close(spare);
    orion_bytestream_close(peer);
    orion_bytestream_close(s);
    return 0;
}
