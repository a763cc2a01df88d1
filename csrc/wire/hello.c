/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and checked decoding of hello, welcome and notice. A decoder reads a private copy; strings are forced to
 * end within their field. */
#define _GNU_SOURCE
#include "wire/hello.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

void orion_field_set(char *field, size_t field_bytes, const char *text)
{
    size_t length = strnlen(text, field_bytes - 1);
    memcpy(field, text, length);
    memset(field + length, 0, field_bytes - length);
}

static void command_name(char *field, size_t field_bytes)
{
    char text[128] = "";
    int saved = errno;
    int fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof(text) - 1);
        if (n > 0)
            text[text[n - 1] == '\n' ? n - 1 : n] = '\0';
        orion_fd_close(fd);
    }
    errno = saved;
    orion_field_set(field, field_bytes, text);
}

void orion_hello_init(orion_hello_t *hello)
{
    memset(hello, 0, sizeof(*hello));
    hello->magic = ORION_HELLO_MAGIC;
    hello->version = ORION_WIRE_VERSION;
    hello->bytes = sizeof(*hello);
    hello->pid = (uint32_t)getpid();
    hello->uid = (uint32_t)getuid();
    command_name(hello->command, sizeof(hello->command));
}

void orion_welcome_init(orion_welcome_t *welcome)
{
    memset(welcome, 0, sizeof(*welcome));
    welcome->magic = ORION_WELCOME_MAGIC;
    welcome->version = ORION_WIRE_VERSION;
    welcome->bytes = sizeof(*welcome);
}

void orion_redirect_init(orion_redirect_t *redirect)
{
    memset(redirect, 0, sizeof(*redirect));
    redirect->magic = ORION_REDIRECT_MAGIC;
    redirect->version = ORION_WIRE_VERSION;
    redirect->bytes = sizeof(*redirect);
}

void orion_notice_init(orion_notice_t *notice, orion_notice_kind_t kind)
{
    memset(notice, 0, sizeof(*notice));
    notice->magic = ORION_NOTICE_MAGIC;
    notice->bytes = sizeof(*notice);
    notice->kind = (uint32_t)kind;
}

/* The prefix is the same in every version that will ever be: magic, then version and size where the message has them. */
static orion_status_t check_size(const char *what, size_t bytes, size_t wanted, char *why, size_t why_bytes)
{
    if (bytes == wanted)
        return ORION_OK;
    orion_explain(why, why_bytes, "the %s has %zu bytes instead of %zu", what, bytes, wanted);
    return ORION_PROTOCOL;
}

static orion_status_t check_magic(const char *what, uint64_t magic, uint64_t wanted, char *why, size_t why_bytes)
{
    if (magic == wanted)
        return ORION_OK;
    orion_explain(why, why_bytes, "what came is no Orion %s", what);
    return ORION_PROTOCOL;
}

static orion_status_t check_version(const char *who, uint32_t version, char *why, size_t why_bytes)
{
    if (version >= ORION_WIRE_VERSION_MIN && version <= ORION_WIRE_VERSION)
        return ORION_OK;
    orion_explain(why, why_bytes, "the %s speaks protocol version %u, this side %u to %u; install matching releases",
                  who, version, ORION_WIRE_VERSION_MIN, ORION_WIRE_VERSION);
    return ORION_VERSION;
}

/* Magic and version come before the size: a peer of another release gets told about the release. */
static orion_status_t check_prefix(const void *data, size_t bytes, const char *what, const char *who, uint64_t magic,
                                   size_t wanted, char *why, size_t why_bytes)
{
    struct {
        uint64_t magic;
        uint32_t version, bytes;
    } prefix;
    static_assert(sizeof(prefix) == 16, "wire layout");
    if (bytes < sizeof(prefix))
        return check_size(what, bytes, wanted, why, why_bytes);
    memcpy(&prefix, data, sizeof(prefix));
    orion_status_t status = check_magic(what, prefix.magic, magic, why, why_bytes);
    if (status == ORION_OK)
        status = check_version(who, prefix.version, why, why_bytes);
    if (status == ORION_OK)
        status = check_size(what, bytes, wanted, why, why_bytes);
    if (status == ORION_OK)
        status = check_size(what, prefix.bytes, wanted, why, why_bytes);
    return status;
}

orion_status_t orion_hello_decode(const void *data, size_t bytes, orion_hello_t *hello_p, char *why, size_t why_bytes)
{
    orion_hello_t hello;
    orion_status_t status = check_prefix(data, bytes, "hello", "client", ORION_HELLO_MAGIC, sizeof(hello), why,
                                         why_bytes);
    if (status != ORION_OK)
        return status;
    memcpy(&hello, data, sizeof(hello));
    hello.token[sizeof(hello.token) - 1] = '\0';
    hello.command[sizeof(hello.command) - 1] = '\0';
    if (hello.transport > ORION_TRANSPORT_UCX) {
        orion_explain(why, why_bytes, "the hello asks for transport %u, which does not exist", hello.transport);
        return ORION_PROTOCOL;
    }
    if ((hello.range_bytes & 8191) != 0 || hello.range_bytes > 1ULL << 46) {
        orion_explain(why, why_bytes, "the hello proposes address ranges of %llu bytes",
                      (unsigned long long)hello.range_bytes);
        return ORION_PROTOCOL;
    }
    if (hello.wish_ratio > 100) {
        orion_explain(why, why_bytes, "the hello wishes for %u percent of a device", hello.wish_ratio);
        return ORION_PROTOCOL;
    }
    *hello_p = hello;
    return ORION_OK;
}

orion_status_t orion_welcome_decode(const void *data, size_t bytes, orion_welcome_t *welcome_p, char *why,
                                    size_t why_bytes)
{
    orion_welcome_t welcome;
    orion_status_t status = check_prefix(data, bytes, "welcome", "server", ORION_WELCOME_MAGIC, sizeof(welcome), why,
                                         why_bytes);
    if (status != ORION_OK)
        return status;
    memcpy(&welcome, data, sizeof(welcome));
    welcome.command_name[sizeof(welcome.command_name) - 1] = '\0';
    welcome.reply_name[sizeof(welcome.reply_name) - 1] = '\0';
    welcome.device[sizeof(welcome.device) - 1] = '\0';
    welcome.message[sizeof(welcome.message) - 1] = '\0';
    if (welcome.status == ORION_OK && (welcome.epoch == 0 || welcome.slots == 0)) {
        orion_explain(why, why_bytes, "the welcome names no session");
        return ORION_PROTOCOL;
    }
    if (welcome.arena_bytes > 1ULL << 46 || welcome.heap_bytes > 1ULL << 46) {
        orion_explain(why, why_bytes, "the welcome names impossible sizes");
        return ORION_PROTOCOL;
    }
    *welcome_p = welcome;
    return ORION_OK;
}

orion_status_t orion_notice_decode(const void *data, size_t bytes, orion_notice_t *notice_p, char *why,
                                   size_t why_bytes)
{
    orion_notice_t notice;
    orion_status_t status = check_size("notice", bytes, sizeof(notice), why, why_bytes);
    if (status != ORION_OK)
        return status;
    memcpy(&notice, data, sizeof(notice));
    status = check_magic("notice", notice.magic, ORION_NOTICE_MAGIC, why, why_bytes);
    if (status == ORION_OK)
        status = check_size("notice", notice.bytes, sizeof(notice), why, why_bytes);
    if (status != ORION_OK)
        return status;
    notice.message[sizeof(notice.message) - 1] = '\0';
    if ((notice.kind < ORION_NOTICE_EXTENT || notice.kind > ORION_NOTICE_WAIT) &&
        notice.kind != ORION_NOTICE_CHALLENGE) {
        orion_explain(why, why_bytes, "the server sent a notice of unknown kind %u", notice.kind);
        return ORION_PROTOCOL;
    }
    *notice_p = notice;
    return ORION_OK;
}

orion_status_t orion_redirect_decode(const void *data, size_t bytes, orion_redirect_t *redirect_p, char *why,
                                     size_t why_bytes)
{
    orion_redirect_t redirect;
    orion_status_t status = check_prefix(data, bytes, "redirect", "controller", ORION_REDIRECT_MAGIC, sizeof(redirect),
                                         why, why_bytes);
    if (status != ORION_OK)
        return status;
    memcpy(&redirect, data, sizeof(redirect));
    redirect.token[sizeof(redirect.token) - 1] = '\0';
    redirect.address[sizeof(redirect.address) - 1] = '\0';
    redirect.local[sizeof(redirect.local) - 1] = '\0';
    if (redirect.address[0] == '\0' && redirect.local[0] == '\0') {
        orion_explain(why, why_bytes, "the redirect leads nowhere");
        return ORION_PROTOCOL;
    }
    if (redirect.local[0] != '\0' && redirect.local[0] != '/') {
        orion_explain(why, why_bytes, "the redirect names a socket that is no path");
        return ORION_PROTOCOL;
    }
    *redirect_p = redirect;
    return ORION_OK;
}
