/* SPDX-License-Identifier: Apache-2.0 */
/* Allocates the same two segments, loads the worker library and lets it start its threads on them. See local.h. */
#define _GNU_SOURCE
#include "transport/local.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/log.h"
#include "shm/range.h"
#include "transport/memory.h"
#include "transport/twin.h"

typedef struct local_worker {
    void *library;
    void *worker;
    void (*stop)(void *worker);
} local_worker_t;

static int local_notice(void *self, const orion_notice_t *notice, int fd)
{
    orion_memory_notice(self, notice, fd);
    return 0;
}

static void local_stop(orion_memory_link_t *link)
{
    local_worker_t *local = link->transport;
    if (local == NULL)
        return;
    if (local->stop != NULL)
        local->stop(local->worker);
    /* the library stays loaded: its thread-local destructors may still have to run */
    free(local);
}

static bool anonymous_segment(orion_segment_t *segment, size_t bytes)
{
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED)
        return false;
    segment->address = address;
    segment->bytes = bytes;
    return true;
}

/* "local:LIBRARY?options" -> library path, options */
static bool split_address(const char *address, char *library, size_t library_bytes, const char **options_p)
{
    const char *path = address + strlen("local:");
    const char *question = strchr(path, '?');
    size_t length = question != NULL ? (size_t)(question - path) : strlen(path);
    if (length == 0 || length >= library_bytes)
        return false;
    memcpy(library, path, length);
    library[length] = '\0';
    *options_p = question != NULL ? question + 1 : "";
    return true;
}

orion_status_t orion_local_open(const char *address, const orion_hello_t *wishes, orion_welcome_t *welcome_p,
                                orion_link_t **link_p, char *why, size_t why_bytes)
{
    char path[1024];
    const char *options;
    orion_welcome_t welcome;
    orion_hello_t hello = *wishes;
    if (!split_address(address, path, sizeof(path), &options)) {
        orion_explain(why, why_bytes, "\"%s\" names no worker library; use local:LIBRARY?device=null", address);
        return ORION_INVALID;
    }
    orion_memory_link_t *link = orion_memory_create("local", address, why, why_bytes);
    if (link == NULL)
        return ORION_NO_MEMORY;
    orion_status_t status = ORION_NO_MEMORY;
    local_worker_t *local = calloc(1, sizeof(*local));
    if (local == NULL || !anonymous_segment(&link->command_segment, ORION_COMMAND_SEGMENT_BYTES) ||
        !anonymous_segment(&link->reply_segment, ORION_REPLY_SEGMENT_BYTES)) {
        orion_explain(why, why_bytes, "not enough memory for a session in this process");
        goto err_local;
    }
    status = ORION_SYSTEM;
    local->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (local->library == NULL) {
        orion_explain(why, why_bytes, "cannot load the worker library: %s", dlerror());
        goto err_local;
    }
    orion_twin_start_fn start;
    *(void **)&start = dlsym(local->library, "orion_twin_start"); /* POSIX's way round a cast of data to function */
    if (start == NULL) {
        orion_explain(why, why_bytes, "%s is no Orion worker library (it lacks orion_twin_start)", path);
        goto err_local;
    }
    orion_memory_propose(&hello);
    hello.transport = ORION_TRANSPORT_LOCAL;
    /* both ends are this process: the first range is the common one */
    uint64_t base = hello.candidates[0];
    orion_memory_settle(&hello, base);
    link->range_base = base;
    link->range_bytes = hello.range_bytes;
    orion_welcome_init(&welcome);
    orion_twin_t twin = {.abi = ORION_TWIN_ABI,
                         .bytes = sizeof(twin),
                         .command = link->command_segment.address,
                         .reply = link->reply_segment.address,
                         .hello = &hello,
                         .options = options,
                         .range_base = base,
                         .range_bytes = hello.range_bytes,
                         .welcome = &welcome,
                         .worker_p = &local->worker,
                         .stop_p = &local->stop,
                         .notice = local_notice,
                         .self = link,
                         .why = why,
                         .why_bytes = why_bytes};
    if (start(&twin) != 0) {
        status = ORION_REFUSED;
        *welcome_p = welcome;
        goto err_local;
    }
    link->transport = local;
    link->stop = local_stop;
    status = orion_memory_start(link, &welcome, why, why_bytes);
    link->range_base = base; /* also where the worker wants none: it is released at close */
    if (status != ORION_OK)
        goto err_close;
    *welcome_p = welcome;
    *link_p = &link->base;
    return ORION_OK;
err_local:
    free(local);
err_close:
    orion_memory_close(&link->base);
    return status;
}
