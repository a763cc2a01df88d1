/* SPDX-License-Identifier: Apache-2.0 */
/* Sharing through the supervisor; see broker.h. Handles are looked up there and nowhere else. */
#include "worker/broker.h"

#include "devices/board.h"
#include "worker/faults.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static CUresult ask(orion_control_line_t *line, uint16_t kind, uint64_t a, const void *text, size_t text_bytes,
                    orion_control_message_t *answer_p, int *fd_p)
{
    if (orion_control_ask(line, kind, a, 0, 0, text, text_bytes, answer_p, fd_p))
        return CUDA_ERROR_SYSTEM_NOT_READY;
    if (answer_p->result == CUDA_SUCCESS)
        return CUDA_SUCCESS;
    if (*fd_p >= 0)
        close(*fd_p);
    *fd_p = -1;
    return (CUresult)answer_p->result;
}

/* Tells the supervisor what is known and learns the rest. */
static CUresult exchange(orion_control_line_t *line, uint16_t kind, orion_shared_t *shared, int *fd_p)
{
    orion_control_message_t answer;
    orion_share_text_t text = {
        .kind = shared->kind,
        .is_opaque = shared->is_opaque != 0,
        .address = shared->address,
        .bytes = shared->bytes,
        .asked = shared->asked,
    };
    memcpy(text.handle, &shared->handle, sizeof text.handle);
    memcpy(text.opaque, &shared->opaque, sizeof text.opaque);
    const CUresult result = ask(line, kind, 0, &text, sizeof text, &answer, fd_p);
    if (result != CUDA_SUCCESS)
        return result;
    if (answer.text_bytes != sizeof text) {
        if (*fd_p >= 0)
            close(*fd_p);
        *fd_p = -1;
        return CUDA_ERROR_UNKNOWN;
    }
    memcpy(&text, answer.text, sizeof text);
    shared->id = text.id;
    shared->party = text.party;
    shared->first = text.first;
    shared->bytes = text.bytes;
    shared->asked = text.asked;
    shared->is_opaque = text.is_opaque != 0;
    memcpy(&shared->handle, text.handle, sizeof text.handle);
    memcpy(&shared->opaque, text.opaque, sizeof text.opaque);
    return CUDA_SUCCESS;
}

static CUresult share(void *self, orion_shared_t *shared, int *fd_p)
{
    return exchange(self, ORION_CONTROL_SHARE, shared, fd_p);
}

static CUresult open_shared(void *self, orion_shared_t *shared, int *fd_p)
{
    return exchange(self, ORION_CONTROL_OPEN, shared, fd_p);
}

/* Kernels may be running. Who writes there between the first step and the last gets a fault and waits in its handler
 * (faults.c); who reads finds the old bytes or the new ones, which are the same. */
static CUresult move(void *self, const orion_shared_t *shared, int fd)
{
    void *place = (void *)(uintptr_t)shared->address;
    const size_t bytes = shared->bytes;
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (copy == MAP_FAILED)
        goto out;
    orion_faults_hold();
    if (mprotect(place, bytes, PROT_READ) == 0) {
        memcpy(copy, place, bytes);
        if (mmap(place, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == place)
            result = CUDA_SUCCESS;
        else
            mprotect(place, bytes, PROT_READ | PROT_WRITE);
    }
    orion_faults_go();
    munmap(copy, bytes);
    if (result == CUDA_SUCCESS)
        orion_control_tell(self, ORION_CONTROL_MOVED, 0, shared->id, 0, NULL, 0);
out:
    close(fd);
    return result;
}

static CUresult unmove(void *self, uint64_t id, uint64_t address, uint64_t bytes)
{
    orion_control_message_t answer;
    int fd;
    void *place = (void *)(uintptr_t)address;
    CUresult result = ask(self, ORION_CONTROL_UNMOVE, id, NULL, 0, &answer, &fd);
    if (result != CUDA_SUCCESS || fd < 0)
        return result ? result : CUDA_ERROR_UNKNOWN;
    if (mmap(place, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)answer.b) != place)
        result = CUDA_ERROR_MAP_FAILED;
    close(fd);
    return result;
}

static void end_share(void *self, uint64_t id)
{
    orion_control_tell(self, ORION_CONTROL_UNSHARE, 0, id, 0, NULL, 0);
}

static void close_shared(void *self, uint64_t id, uint32_t party)
{
    orion_control_tell(self, ORION_CONTROL_CLOSE, 0, id, party, NULL, 0);
}

static void *bell(void *self)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static void *known; /* a worker has one line, and one user */
    orion_control_message_t answer;
    int fd;
    pthread_mutex_lock(&lock);
    if (!known && ask(self, ORION_CONTROL_BELL, 0, NULL, 0, &answer, &fd) == CUDA_SUCCESS && fd >= 0) {
        void *page = mmap(NULL, ORION_BELL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        known = page == MAP_FAILED ? NULL : page;
    }
    pthread_mutex_unlock(&lock);
    return known;
}

orion_broker_t orion_broker_of(orion_control_line_t *line)
{
    if (!line)
        return (orion_broker_t){0};
    return (orion_broker_t){.self = line,
                            .share = share,
                            .move = move,
                            .unmove = unmove,
                            .unshare = end_share,
                            .open = open_shared,
                            .close = close_shared,
                            .bell = bell};
}
