/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a worker process; see start.h. Its main thread runs all of this. */
#include "worker/start.h"

#include "shm/range.h"
#include "transport/stream_port.h"
#include "worker/faults.h"
#include "worker/worker.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RANGE_LEAST (1ull << 30)
#define RANGE_MOST (1ull << 42)
#define OWN_HEAP (256ull << 30) /* address space of the heap when there is no common range */
#define PROOF_TURNS 5000        /* of a millisecond */

static orion_control_line_t line = {.fd = -1}; /* the fault handler uses it as long as the process lives */

orion_control_line_t *orion_start_line(void)
{
    return &line;
}

static int failed(CUresult result, const char *why)
{
    orion_control_tell(&line, ORION_CONTROL_FAILED, (int32_t)result, 0, 0, why, strlen(why));
    return 1;
}

static orion_stats_t *map_stats(int fd)
{
    void *page = mmap(NULL, ORION_STATS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED)
        return NULL;
    orion_stats_t *stats = page;
    stats->magic = ORION_STATS_MAGIC;
    stats->version = ORION_STATS_VERSION;
    return stats;
}

static const orion_lease_t *map_lease(int fd)
{
    const orion_lease_t *lease = mmap(NULL, ORION_LEASE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (lease == MAP_FAILED)
        return NULL;
    return lease->magic == ORION_LEASE_MAGIC && lease->version == ORION_LEASE_VERSION ? lease : NULL;
}

/* The common range if there is one: first half arena, second half heap. Else addresses of our own for the heap. */
static void reserve(const orion_order_t *order, orion_worker_config_t *config)
{
    const uint64_t bytes = order->range_bytes;
    if (bytes >= RANGE_LEAST && bytes <= RANGE_MOST && bytes % (2 * ORION_EXTENT_GRANULE) == 0)
        config->range_base = orion_range_reserve_first(order->candidates, ORION_CANDIDATES, bytes);
    if (config->range_base) {
        /* a TCP socket carries no descriptors of extents */
        config->arena_bytes = order->devshm || order->stream ? 0 : bytes / 2;
        config->heap_base = config->range_base + bytes / 2;
        config->heap_bytes = bytes / 2;
        return;
    }
    void *own = mmap(NULL, OWN_HEAP + ORION_EXTENT_GRANULE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                     0);
    if (own == MAP_FAILED)
        return;
    config->heap_base = ((uint64_t)(uintptr_t)own + ORION_EXTENT_GRANULE - 1) & ~(ORION_EXTENT_GRANULE - 1);
    config->heap_bytes = OWN_HEAP;
}

static orion_status_t await_proof(orion_port_t *port)
{
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    orion_status_t status = ORION_AGAIN;
    for (int turn = 0; turn < PROOF_TURNS && status == ORION_AGAIN; turn++) {
        status = orion_port_prove(port);
        if (status == ORION_AGAIN)
            nanosleep(&pause, NULL);
    }
    if (status == ORION_OK)
        orion_control_tell(&line, ORION_CONTROL_PROVEN, 0, 0, 0, NULL, 0);
    return status == ORION_AGAIN ? ORION_TIMEOUT : status;
}

static orion_status_t announce(const orion_worker_t *w, const orion_worker_config_t *config)
{
    orion_welcome_t welcome;
    orion_ready_t ready = {0};
    int command_fd, reply_fd;
    orion_welcome_init(&welcome);
    orion_port_describe(config->port, &welcome);
    ready.nonce = welcome.nonce;
    ready.flags = welcome.flags;
    ready.slots = welcome.slots;
    orion_field_set(ready.device, sizeof ready.device, w->info.name);
    memcpy(ready.command_name, welcome.command_name, sizeof ready.command_name);
    memcpy(ready.reply_name, welcome.reply_name, sizeof ready.reply_name);
    orion_port_fds(config->port, &command_fd, &reply_fd);
    const orion_status_t status = orion_control_ready(config->line, &ready, config->range_base, config->arena_bytes,
                                                      config->heap_bytes, command_fd, reply_fd);
    orion_port_close_fds(config->port);
    return status;
}

/* *socket_p: the client's, if the session is on it; else -1. */
static orion_status_t await_order(orion_order_t *order, int *socket_p)
{
    orion_control_message_t message;
    orion_status_t status;
    int fd;
    do
        status = orion_control_receive(&line, 1000, &message, &fd);
    while (status == ORION_AGAIN);
    if (status == ORION_OK && (message.kind != ORION_CONTROL_START || message.text_bytes != sizeof *order))
        status = ORION_PROTOCOL;
    if (status == ORION_OK) {
        memcpy(order, message.text, sizeof *order);
        if (!order->stream == (fd < 0)) {
            *socket_p = fd;
            return ORION_OK;
        }
        status = ORION_PROTOCOL;
    }
    if (fd >= 0)
        close(fd);
    return status;
}

static orion_port_stream_t stream_of(const orion_order_t *order)
{
    if (!order)
        return ORION_PORT_PLAIN;
    return order->stream == ORION_ORDER_TLS   ? ORION_PORT_TLS
           : order->stream == ORION_ORDER_UCX ? ORION_PORT_UCX
                                              : ORION_PORT_PLAIN;
}

/* Segments take longest: they are made for the usual client before there is one, and anew for an unusual one. */
static orion_status_t open_port(const orion_start_t *start, const orion_order_t *order, int socket,
                                orion_port_t **port_p, char *why, size_t why_bytes)
{
    const uint32_t flags = order ? order->flags : ORION_FLAG_MEMBARRIER;
    const orion_port_config_t port = {.epoch = start->epoch,
                                      .flags = flags,
                                      .witness_fd = start->control_fd,
                                      .devshm = order && order->devshm,
                                      .stream = stream_of(order),
                                      .key = order && order->has_key ? order->key : NULL,
                                      .owner_uid = order ? order->owner_uid : 0};
    if (order && !order->devshm && !order->stream && (flags & ORION_FLAG_MEMBARRIER))
        return ORION_OK;
    if (order)
        orion_port_close(*port_p);
    *port_p = NULL;
    if (socket >= 0)
        return orion_port_create_stream(&port, socket, port_p, why, why_bytes);
    return orion_port_create(&port, port_p, why, why_bytes);
}

int orion_start_worker(const orion_start_t *start)
{
    char why[256] = "";
    orion_worker_t *w;
    orion_order_t order;
    int socket;
    orion_worker_config_t config = {
        .device = start->device, .threads = start->threads, .compiler = start->compiler, .line = &line};

    orion_control_init(&line, start->control_fd);
    if (!(config.stats = map_stats(start->stats_fd)) || !(config.lease = map_lease(start->lease_fd)))
        return failed(CUDA_ERROR_OUT_OF_MEMORY, "no memory");
    orion_status_t status = open_port(start, NULL, -1, &config.port, why, sizeof why);
    if (status != ORION_OK)
        return failed(CUDA_ERROR_OUT_OF_MEMORY, why);
    orion_worker_warm(start->device);
    if (await_order(&order, &socket) != ORION_OK)
        return 0; /* no client ever came */
    status = open_port(start, &order, socket, &config.port, why, sizeof why);
    if (status != ORION_OK)
        return failed(status == ORION_NO_MEMORY ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_SYSTEM_NOT_READY, why);
    config.memory_limit = order.memory_limit;
    reserve(&order, &config);
    const CUresult result = orion_worker_open(&config, &w, why, sizeof why);
    if (result != CUDA_SUCCESS)
        return failed(result, why);
    orion_faults_install(&line);
    orion_cage_t cage = start->cage;
    cage.driver = strcmp(start->device, "cuda") == 0;
    cage.ucx = order.stream == ORION_ORDER_UCX;
    if (orion_cage_enter(&cage, why, sizeof why))
        return failed(CUDA_ERROR_SYSTEM_NOT_READY, why);

    status = announce(w, &config);
    if (status == ORION_OK && order.devshm)
        status = await_proof(config.port);
    if (status == ORION_OK)
        status = orion_worker_serve(w);
    orion_port_drain(config.port);
    if (w->said_goodbye) {
        orion_control_tell(&line, ORION_CONTROL_GOODBYE, 0, 0, 0, NULL, 0);
        return 0;
    }
    if (status == ORION_PEER_GONE)
        return 0; /* nobody is left to tell */
    if (!w->last_words[0])
        snprintf(w->last_words, sizeof w->last_words, "the worker's loop ended: %s", orion_status_name(status));
    orion_control_tell(&line, ORION_CONTROL_FAULT, CUDA_ERROR_UNKNOWN, 0, 0, w->last_words, strlen(w->last_words));
    return 2;
}

CUresult orion_start_describe(const char *device, uint64_t memory, int threads, orion_device_info_t *info_p, char *why,
                              size_t why_bytes)
{
    orion_worker_t *w;
    orion_stats_t stats = {0};
    const orion_worker_config_t config = {
        .device = device, .memory_limit = memory, .threads = threads, .stats = &stats};
    const CUresult result = orion_worker_open(&config, &w, why, why_bytes);
    if (result != CUDA_SUCCESS)
        return result;
    *info_p = w->info;
    orion_worker_close(w);
    return CUDA_SUCCESS;
}
