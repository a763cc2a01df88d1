/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The twin: the same worker as threads of the client's own process, for tests and for measuring what the process
 * boundary costs. It has no cage and no supervisor; what the supervisor would send goes through the notice hook.
 */
#include "transport/twin.h"

#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_DEFAULT (4ull << 30)

typedef struct {
    orion_worker_t *worker;
    orion_stats_t stats;
    pthread_t thread;
    int (*notice)(void *self, const orion_notice_t *notice, int fd);
    void *self;
} twin_t;

static void *serve(void *arg)
{
    twin_t *twin = arg;
    if (orion_worker_serve(twin->worker) != ORION_OK) {
        orion_notice_t epitaph;
        orion_notice_init(&epitaph, ORION_NOTICE_EPITAPH);
        epitaph.cuda_result = CUDA_ERROR_UNKNOWN;
        orion_field_set(epitaph.message, sizeof epitaph.message, twin->worker->last_words);
        twin->notice(twin->self, &epitaph, -1);
    }
    return NULL;
}

static void stop(void *arg)
{
    twin_t *twin = arg;
    orion_worker_stop(twin->worker);
    pthread_join(twin->thread, NULL);
    orion_worker_close(twin->worker);
    free(twin);
}

/* "device=null&memory=512": one value of the address's options, "" when it is not there. */
static void option(const char *options, const char *name, char *value, size_t value_bytes)
{
    const size_t length = strlen(name);
    value[0] = '\0';
    for (const char *at = options; at && *at; at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL)
        if (strncmp(at, name, length) == 0 && at[length] == '=') {
            const size_t bytes = strcspn(at + length + 1, "&");
            snprintf(value, value_bytes, "%.*s", (int)bytes, at + length + 1);
            return;
        }
}

static void welcome(const orion_twin_t *request, const orion_worker_config_t *config, const orion_worker_t *w)
{
    orion_welcome_t *out = request->welcome;
    orion_welcome_init(out);
    orion_port_describe(config->port, out);
    out->status = ORION_OK;
    out->session_id = 1;
    out->range_base = config->range_base;
    out->arena_bytes = config->arena_bytes;
    out->heap_bytes = config->heap_bytes;
    out->memory_limit = config->memory_limit;
    out->worker_pid = (uint32_t)getpid();
    orion_field_set(out->device, sizeof out->device, w->info.name);
}

__attribute__((visibility("default"))) int orion_twin_start(const orion_twin_t *request)
{
    char device[16], memory[24];
    if (request->abi != ORION_TWIN_ABI || request->bytes != sizeof *request) {
        snprintf(request->why, request->why_bytes,
                 "the worker library speaks version %u of the twin interface, the client version %u: install both "
                 "from one release",
                 ORION_TWIN_ABI, request->abi);
        return -1;
    }
    twin_t *twin = calloc(1, sizeof *twin);
    if (!twin) {
        snprintf(request->why, request->why_bytes, "no memory for a worker");
        return -1;
    }
    option(request->options, "device", device, sizeof device);
    option(request->options, "memory", memory, sizeof memory); /* MiB */
    const uint64_t wish = request->hello->wish_gmem_mib;
    const uint64_t room = memory[0] ? strtoull(memory, NULL, 10) << 20 : MEMORY_DEFAULT;
    orion_worker_config_t config = {
        .device = device[0] ? device : "null",
        .memory_limit = wish && wish < room >> 20 ? wish << 20 : room,
        .range_base = request->range_base,
        .arena_bytes = request->range_base ? request->range_bytes / 2 : 0,
        .heap_base = request->range_base ? request->range_base + request->range_bytes / 2 : 0,
        .heap_bytes = request->range_base ? request->range_bytes / 2 : 0,
        .notice = request->notice,
        .notice_self = request->self,
        .stats = &twin->stats,
    };
    const orion_port_config_t port = {.epoch = 1, .flags = request->hello->flags, .witness_fd = -1};
    twin->notice = request->notice;
    twin->self = request->self;
    if (orion_port_attach(&port, request->command, request->reply, &config.port, request->why, request->why_bytes))
        goto err_free;
    if (orion_worker_open(&config, &twin->worker, request->why, request->why_bytes) != CUDA_SUCCESS) {
        orion_port_close(config.port);
        goto err_free;
    }
    welcome(request, &config, twin->worker);
    *request->worker_p = twin;
    *request->stop_p = stop;
    if (pthread_create(&twin->thread, NULL, serve, twin) == 0)
        return 0;
    snprintf(request->why, request->why_bytes, "cannot start the worker's thread");
    orion_worker_close(twin->worker);

err_free:
    free(twin);
    return -1;
}
