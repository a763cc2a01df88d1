/* SPDX-License-Identifier: Apache-2.0 */
/* Connects, says hello, maps what the welcome brings. See shm.h. */
#define _GNU_SOURCE
#include "transport/shm.h"

#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "transport/greet.h"
#include "transport/memory.h"

static orion_status_t map_segments(orion_memory_link_t *link, const orion_welcome_t *welcome, int fds[2], char *why,
                                   size_t why_bytes)
{
    int command_fd = fds[0], reply_fd = fds[1];
    fds[0] = fds[1] = -1;
    if (command_fd < 0 && welcome->command_name[0] != '\0') {
        orion_status_t status = orion_segment_open_devshm(&link->command_segment, ORION_DEVSHM_DIRECTORY,
                                                          welcome->command_name, ORION_COMMAND_SEGMENT_BYTES, true, why,
                                                          why_bytes);
        if (status != ORION_OK)
            return status;
        status = orion_segment_open_devshm(&link->reply_segment, ORION_DEVSHM_DIRECTORY, welcome->reply_name,
                                           ORION_REPLY_SEGMENT_BYTES, false, why, why_bytes);
        if (status != ORION_OK)
            return status;
        /* Both sides have them now: whoever comes first takes the names away. */
        orion_field_set(link->command_segment.name, sizeof(link->command_segment.name), welcome->command_name);
        orion_field_set(link->reply_segment.name, sizeof(link->reply_segment.name), welcome->reply_name);
        orion_segment_unlink(&link->command_segment, ORION_DEVSHM_DIRECTORY);
        orion_segment_unlink(&link->reply_segment, ORION_DEVSHM_DIRECTORY);
        return ORION_OK;
    }
    if (command_fd < 0 || reply_fd < 0) {
        orion_explain(why, why_bytes, "the Orion server at %s sent a welcome without shared memory", link->server);
        orion_fd_close(command_fd);
        return ORION_PROTOCOL;
    }
    orion_status_t status = orion_segment_map(&link->command_segment, command_fd, ORION_COMMAND_SEGMENT_BYTES, true,
                                              why, why_bytes);
    if (status != ORION_OK) {
        orion_fd_close(reply_fd);
        return status;
    }
    return orion_segment_map(&link->reply_segment, reply_fd, ORION_REPLY_SEGMENT_BYTES, false, why, why_bytes);
}

orion_status_t orion_shm_open_socket(int socket, const char *name, const orion_hello_t *wishes,
                                     orion_welcome_t *welcome_p, orion_link_t **link_p, char *why, size_t why_bytes)
{
    orion_welcome_t welcome;
    orion_hello_t hello = *wishes;
    int fds[2] = {-1, -1};
    orion_memory_link_t *link = orion_memory_create("shm", name, why, why_bytes);
    if (link == NULL) {
        orion_fd_close(socket);
        return ORION_NO_MEMORY;
    }
    link->socket = socket;
    orion_memory_propose(&hello);
    orion_status_t status = orion_greet(socket, name, &hello, &welcome, fds, NULL, why, why_bytes);
    if (status == ORION_REFUSED)
        *welcome_p = welcome;
    if (status != ORION_OK)
        goto err_settle;
    status = map_segments(link, &welcome, fds, why, why_bytes);
    if (status != ORION_OK)
        goto err_settle;
    link->range_bytes = hello.range_bytes;
    status = orion_memory_start(link, &welcome, why, why_bytes);
    if (status != ORION_OK)
        goto err_settle;
    orion_memory_settle(&hello, welcome.range_base);
    *welcome_p = welcome;
    *link_p = &link->base;
    /* The best there is: nothing to change, so nobody is told who does not ask. */
    orion_log(ORION_LOG_DEBUG, "transport shm to %s: %s", name,
              welcome.command_name[0] != '\0' ? "files in /dev/shm" : "memfds over its unix socket");
    return ORION_OK;
err_settle:
    orion_memory_settle(&hello, 0);
    orion_fd_close(fds[0]);
    orion_fd_close(fds[1]);
    link->range_base = 0;
    orion_memory_close(&link->base);
    return status;
}

orion_status_t orion_shm_open(const char *address, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                              orion_link_t **link_p, char *why, size_t why_bytes)
{
    int socket = orion_greet_connect(address, why, why_bytes);
    if (socket < 0)
        return ORION_SYSTEM;
    return orion_shm_open_socket(socket, address, hello, welcome_p, link_p, why, why_bytes);
}
