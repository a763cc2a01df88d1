/* SPDX-License-Identifier: Apache-2.0 */
/* Connects and says hello, see greet.h. */
#define _GNU_SOURCE
#include "transport/greet.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "shm/layout.h"
#include "stream/socket.h"

#define PREFIX_BYTES 16

static int connect_unix(const char *path, char *why, size_t why_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof(address.sun_path)) {
        orion_explain(why, why_bytes, "the socket path \"%s\" is empty or longer than %zu characters", path,
                      sizeof(address.sun_path) - 1);
        return -1;
    }
    memcpy(address.sun_path, path, length + 1);
    socklen_t size = sizeof(address);
    if (path[0] == '@') { /* an abstract name */
        address.sun_path[0] = '\0';
        size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0)
        return fd;
    orion_explain_errno(why, why_bytes, errno,
                        "cannot connect to an Orion server at unix:%s (start one with `orion up --listen unix:%s`, or "
                        "mount its socket here)",
                        path, path);
    orion_fd_close(fd);
    return -1;
}

/* One message before the session: a welcome, or a notice that it takes longer or will not come. The first 16 bytes say
 * which, and how long it is: that depends on the server's version. ORION_AGAIN: wait on. */
static orion_status_t receive_answer(int socket, orion_welcome_t *welcome_p, int fds[2], char *why, size_t why_bytes)
{
    union {
        uint8_t bytes[sizeof(orion_welcome_t)];
        struct {
            uint64_t magic;
            uint32_t words[2]; /* welcome: version, bytes; notice: bytes, kind */
        } prefix;
    } m;
    orion_notice_t notice;
    int64_t deadline = orion_clock_ns() + ORION_HELLO_SILENCE_NS;
    orion_status_t status = orion_fd_receive(socket, m.bytes, PREFIX_BYTES, fds, 2, deadline);
    if (status != ORION_OK)
        return status;
    bool is_notice = m.prefix.magic == ORION_NOTICE_MAGIC;
    size_t size = is_notice ? m.prefix.words[0] : m.prefix.words[1];
    size_t wanted = is_notice ? sizeof(notice) : sizeof(*welcome_p);
    if (size == wanted) {
        status = orion_fd_receive(socket, m.bytes + PREFIX_BYTES, size - PREFIX_BYTES, NULL, 0, deadline);
        if (status != ORION_OK)
            return status;
    } else {
        size = PREFIX_BYTES; /* another version's: enough for the decoder to name it */
    }
    if (!is_notice)
        return orion_welcome_decode(m.bytes, size, welcome_p, why, why_bytes);
    status = orion_notice_decode(m.bytes, size, &notice, why, why_bytes);
    if (status != ORION_OK)
        return status;
    if (notice.kind == ORION_NOTICE_WAIT)
        return ORION_AGAIN;
    orion_explain(why, why_bytes, "%s", notice.kind == ORION_NOTICE_EPITAPH ? notice.message : "an extent came first");
    return ORION_PROTOCOL;
}

static orion_status_t receive_welcome(int socket, const char *name, orion_welcome_t *welcome_p, int fds[2], char *why,
                                      size_t why_bytes)
{
    char what[256] = "";
    int64_t limit = orion_clock_ns() + ORION_HELLO_LIMIT_NS;
    orion_status_t status;
    for (;;) {
        status = receive_answer(socket, welcome_p, fds, what, sizeof(what));
        if (status == ORION_OK)
            return ORION_OK;
        orion_fd_close(fds[0]);
        orion_fd_close(fds[1]);
        fds[0] = fds[1] = -1;
        if (status != ORION_AGAIN)
            break;
        if (orion_clock_ns() >= limit) {
            status = ORION_TIMEOUT;
            break;
        }
    }
    if (status == ORION_PEER_GONE) {
        orion_explain(why, why_bytes,
                      "the Orion server at %s closed the connection without a welcome; its log says why", name);
    } else if (status == ORION_TIMEOUT) {
        orion_explain(
            why, why_bytes,
            "what listens at %s did not answer the hello within %d s; is it an Orion server, and not stopped?", name,
            (int)(ORION_HELLO_SILENCE_NS / ORION_NS_PER_S));
    } else if (what[0] != '\0') {
        orion_explain(why, why_bytes, "cannot use the server at %s: %s", name, what);
    } else {
        orion_explain_errno(why, why_bytes, errno, "cannot read from the Orion server at %s", name);
    }
    return status;
}

int orion_greet_connect(const char *address, char *why, size_t why_bytes)
{
    if (strncmp(address, "unix:", 5) == 0)
        return connect_unix(address + 5, why, why_bytes);
    return orion_socket_connect(address, why, why_bytes);
}

orion_status_t orion_greet(int socket, const char *name, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                           int fds[2], char *why, size_t why_bytes)
{
    bool proposed = false;
    orion_status_t status = orion_fd_send(socket, hello, sizeof(*hello), NULL, 0);
    if (status != ORION_OK) {
        orion_explain(why, why_bytes, "the Orion server at %s closed the connection at once", name);
        return status;
    }
    status = receive_welcome(socket, name, welcome_p, fds, why, why_bytes);
    if (status != ORION_OK)
        return status;
    if (welcome_p->status != ORION_OK) {
        orion_explain(why, why_bytes, "the Orion server at %s refused: %s", name, welcome_p->message);
        return ORION_REFUSED;
    }
    for (uint32_t i = 0; i < ORION_CANDIDATES; i++)
        proposed |= hello->candidates[i] == welcome_p->range_base;
    if ((welcome_p->range_base != 0 && !proposed) || welcome_p->slots > ORION_REPLY_SLOTS ||
        welcome_p->arena_bytes > hello->range_bytes) {
        orion_explain(why, why_bytes, "the Orion server at %s answered with an address range or slots nobody proposed",
                      name);
        return ORION_PROTOCOL;
    }
    return ORION_OK;
}
