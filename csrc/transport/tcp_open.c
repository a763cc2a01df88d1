/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a session over a byte stream, see tcp.h and tcp_link.h. */
#define _GNU_SOURCE
#include "transport/tcp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "shm/range.h"
#include "stream/socket.h"
#include "transport/greet.h"
#include "transport/protect.h"
#include "transport/shm.h"
#include "transport/tcp_link.h"

#define PAGE 4096u
#define PATIENCE_S 10
#define PATIENCE_MOST_S 86400
#define CHUNKS_BYTES (ORION_STAGE_COUNT * (size_t)ORION_STAGE_BYTES)
#define REPLIES_BYTES (ORION_REPLY_SLOTS * (size_t)ORION_REPLY_BYTES)

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* Linux 4.14 */
#endif

static void *pages(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static orion_tcp_link_t *create(const char *name, char *why, size_t why_bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, ORION_SPACING, sizeof(orion_tcp_link_t)) != 0)
        goto err_memory;
    orion_tcp_link_t *link = memory;
    memset(link, 0, offsetof(orion_tcp_link_t, scratch));
    link->base.ops = &orion_tcp_ops;
    orion_field_set(link->server, sizeof(link->server), name);
    link->state = pages(PAGE);
    link->fill = malloc(2 * ORION_OUT_BYTES);
    uint8_t *shared = pages(REPLIES_BYTES + CHUNKS_BYTES);
    if (link->state == NULL || link->fill == NULL || shared == NULL)
        goto err_parts;
    link->wire = link->fill + ORION_OUT_BYTES;
    link->replies = (orion_reply_t *)(void *)shared;
    link->chunks = shared + REPLIES_BYTES;
    (void)madvise(link->state, PAGE, MADV_WIPEONFORK); /* older kernels: pthread_atfork alone has to do */
    *link->state = ORION_LINK_LIVE;
    (void)pthread_mutex_init(&link->filling, NULL);
    (void)pthread_mutex_init(&link->sending, NULL);
    (void)pthread_mutex_init(&link->role_lock, NULL);
    (void)pthread_mutex_init(&link->event_lock, NULL);
    (void)pthread_mutex_init(&link->end_lock, NULL);
    orion_spin_init(&link->spin);
    return link;
err_parts:
    if (link->state != NULL)
        (void)munmap(link->state, PAGE);
    if (shared != NULL)
        (void)munmap(shared, REPLIES_BYTES + CHUNKS_BYTES);
    free(link->fill);
    free(link);
err_memory:
    orion_explain(why, why_bytes, "not enough memory for a session");
    return NULL;
}

void orion_tcp_free(orion_tcp_link_t *link)
{
    if (orion_load_relaxed(link->state) != ORION_LINK_FORKED) { /* a forked child's locks may be held for ever */
        orion_range_release(link->range_base, link->range_bytes);
        (void)pthread_mutex_destroy(&link->filling);
        (void)pthread_mutex_destroy(&link->sending);
        (void)pthread_mutex_destroy(&link->role_lock);
        (void)pthread_mutex_destroy(&link->event_lock);
        (void)pthread_mutex_destroy(&link->end_lock);
    }
    orion_bytestream_close(link->stream);
    (void)munmap(link->replies, REPLIES_BYTES + CHUNKS_BYTES);
    (void)munmap(link->state, PAGE);
    free(link->fill < link->wire ? link->fill : link->wire); /* the halves of one block */
    free(link);
}

static bool read_patience(int64_t *ns_p, char *why, size_t why_bytes)
{
    const char *text = getenv("ORION_TCP_TIMEOUT");
    uint64_t seconds = PATIENCE_S;
    if (text != NULL && text[0] != '\0' &&
        (!orion_parse_u64(text, &seconds) || seconds > PATIENCE_MOST_S || (seconds > 0 && seconds < 3))) {
        orion_explain(why, why_bytes,
                      "ORION_TCP_TIMEOUT=%.32s is no number of seconds: 0 for never, or 3 to %d; or unset it", text,
                      PATIENCE_MOST_S);
        return false;
    }
    *ns_p = (int64_t)seconds * ORION_NS_PER_S;
    return true;
}

orion_status_t orion_tcp_open_socket(int socket, const char *name, const orion_hello_t *wishes,
                                     orion_welcome_t *welcome_p, orion_link_t **link_p, char *why, size_t why_bytes)
{
    orion_hello_t hello = *wishes;
    orion_welcome_t welcome;
    orion_greet_key_t key;
    orion_protection_t protection;
    int64_t patience;
    int fds[2];
    orion_tcp_link_t *link = NULL;
    orion_status_t status = ORION_INVALID;
    if (!read_patience(&patience, why, why_bytes))
        goto err_socket;
    status = orion_protection_of(socket, name, hello.transport == ORION_TRANSPORT_UCX, &protection, why, why_bytes);
    if (status != ORION_OK)
        goto err_socket;
    status = ORION_NO_MEMORY;
    link = create(name, why, why_bytes);
    if (link == NULL)
        goto err_socket;
    link->patience_ns = patience;
    orion_memory_propose(&hello); /* device addresses that no host pointer of this process can have */
    hello.transport = protection.ucx ? ORION_TRANSPORT_UCX : ORION_TRANSPORT_TCP;
    hello.flags |= protection.flags;
    status = orion_greet(socket, name, &hello, &welcome, fds, &key, why, why_bytes);
    orion_fd_close(fds[0]); /* nothing that we could use */
    orion_fd_close(fds[1]);
    if (status == ORION_REFUSED)
        *welcome_p = welcome;
    if (status != ORION_OK)
        goto err_link;
    if (welcome.arena_bytes != 0) {
        orion_explain(why, why_bytes, "the Orion server at %s promised shared memory over a socket that has none",
                      name);
        status = ORION_PROTOCOL;
        goto err_link;
    }
    orion_socket_keep_alive(socket, (int)(patience / ORION_NS_PER_S));
    status = orion_protection_stream(&protection, socket, name, &welcome, &key, &link->stream, why, why_bytes);
    socket = -1;
    if (status != ORION_OK)
        goto err_link;
    if (welcome.flags & ORION_FLAG_TLS || protection.ucx)
        link->key = key;
    orion_memory_settle(&hello, welcome.range_base);
    link->range_base = welcome.range_base;
    link->range_bytes = hello.range_bytes;
    link->epoch = welcome.epoch;
    link->heard_at = orion_clock_ns();
    link->direct = &orion_tcp_nothing;
    orion_frames_init(&link->frames, link->buffer, link->epoch, orion_tcp_place, link);
    *welcome_p = welcome;
    *link_p = &link->base;
    return ORION_OK;
err_link:
    orion_memory_settle(&hello, 0);
    orion_tcp_free(link);
err_socket:
    orion_fd_close(socket);
    return status;
}

orion_status_t orion_tcp_open(const char *address, const orion_hello_t *wishes, orion_welcome_t *welcome_p,
                              orion_link_t **link_p, char *why, size_t why_bytes)
{
    char unshared[256] = "";
    orion_hello_t hello = *wishes;
    uint32_t wanted = hello.transport;
    if (wanted == ORION_TRANSPORT_MEMFD) /* shared memory, and descriptors do not pass here: files do */
        wanted = hello.transport = ORION_TRANSPORT_DEVSHM;
    if (wanted == ORION_TRANSPORT_DEVSHM)
        return orion_shm_open(address, &hello, welcome_p, link_p, why, why_bytes);
    int socket = orion_greet_connect(address, why, why_bytes);
    if (socket < 0)
        return ORION_SYSTEM;
    bool here = orion_socket_is_local(socket);
    bool container = !here && orion_socket_is_gateway(socket); /* perhaps on this host, and /dev/shm will prove it */
    if ((here || container) && wanted == ORION_TRANSPORT_ANY) {
        hello.transport = ORION_TRANSPORT_DEVSHM;
        orion_status_t status = orion_shm_open_socket(socket, address, &hello, welcome_p, link_p, unshared,
                                                      sizeof(unshared));
        /* Only a server that answers, and cannot do this or whose files we cannot open, may do better otherwise. */
        if (status != ORION_SYSTEM && status != ORION_REFUSED && status != ORION_NO_MEMORY) {
            if (status != ORION_OK)
                orion_explain(why, why_bytes, "%s", unshared);
            return status;
        }
        socket = orion_greet_connect(address, why, why_bytes);
        if (socket < 0)
            return ORION_SYSTEM;
    }
    orion_status_t status = orion_tcp_open_socket(socket, address, &hello, welcome_p, link_p, why, why_bytes);
    if (status != ORION_OK)
        return status;
    if (wanted == ORION_TRANSPORT_UCX) {
        orion_log(ORION_LOG_INFO, "transport ucx to %s: ORION_TRANSPORT=ucx asks for it", address);
        return ORION_OK;
    }
    const char *how = welcome_p->flags & ORION_FLAG_TLS ? "tcp, encrypted," : "tcp";
    if (wanted == ORION_TRANSPORT_TCP) {
        orion_log(ORION_LOG_INFO, "transport %s to %s: ORION_TRANSPORT=tcp asks for it", how, address);
    } else if (here) {
        orion_log(ORION_LOG_INFO,
                  "transport %s to %s: the server is not reached through a unix socket; for shared memory set "
                  "ORION_SERVER=unix:PATH or share /dev/shm with it (%s)",
                  how, address, unshared);
    } else if (container) {
        orion_log(ORION_LOG_INFO,
                  "transport %s to %s: this container does not share memory with its host's server; for shared memory "
                  "mount its socket as /run/orion, or share /dev/shm (hostIPC: true) (%s)",
                  how, address, unshared);
    } else {
        orion_log(ORION_LOG_INFO, "transport %s to %s: the server is on another host", how, address);
    }
    return ORION_OK;
}
