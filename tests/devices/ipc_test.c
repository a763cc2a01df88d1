/* SPDX-License-Identifier: Apache-2.0 */
/* Two devices of one process as if of two, with a broker between them: memory and events of the one in the other, and
 * boards on which somebody has scribbled. */
#include "device_fixture.h"

#include "board.h"
#include "heap_block.h"
#include "host.h"

#include <sys/mman.h>

#define RANGE (1ull << 30)
#define THINGS 16

/* What the supervisor and the worker do in earnest: a table, files, and mappings in two ranges. */
typedef struct thing {
    orion_shared_t shared;
    int fd, live, moved;
    uint32_t parties;
} thing_t;

static thing_t things[THINGS];
static int bell_fd, opened, refuse_unmove;
static orion_device_t *two;
static void *range[2]; /* of addresses, one for each heap */

static CUresult broker_share(void *self, orion_shared_t *shared, int *fd_p)
{
    (void)self;
    for (uint64_t id = 1; id < THINGS; id++) {
        thing_t *thing = &things[id];
        if (thing->live)
            continue;
        const int whole = shared->kind == ORION_IPC_MEMORY && shared->bytes > ORION_HEAP_EXTENT;
        shared->id = id;
        memset(&shared->handle, (int)id, sizeof shared->handle);
        if (shared->kind == ORION_IPC_EVENT)
            shared->bytes = ORION_BOARD_BYTES;
        *thing = (thing_t){.shared = *shared, .live = 1, .parties = 1, .moved = !whole, .fd = memfd_create("t", 0)};
        MUST(ftruncate(thing->fd, (off_t)shared->bytes) == 0);
        *fd_p = whole ? -1 : dup(thing->fd);
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult broker_move(void *self, const orion_shared_t *shared, int fd)
{
    (void)self;
    MUST(pwrite(fd, host(shared->address), shared->bytes, 0) == (ssize_t)shared->bytes);
    MUST(mmap(host(shared->address), shared->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
         MAP_FAILED);
    close(fd);
    return CUDA_SUCCESS;
}

static CUresult broker_unmove(void *self, uint64_t id, uint64_t address, uint64_t bytes)
{
    (void)self;
    if (refuse_unmove)
        return CUDA_ERROR_UNKNOWN;
    MUST(mmap(host(address), bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
         MAP_FAILED);
    things[id].live = 0;
    close(things[id].fd);
    return CUDA_SUCCESS;
}

static void broker_unshare(void *self, uint64_t id)
{
    (void)self;
    things[id].live = 0;
    close(things[id].fd);
}

static CUresult broker_open(void *self, orion_shared_t *shared, int *fd_p)
{
    (void)self;
    thing_t *thing = &things[shared->handle.bytes[0] % THINGS];
    if (!thing->live || thing->shared.kind != shared->kind)
        return CUDA_ERROR_INVALID_HANDLE;
    const orion_ipc_handle_t handle = shared->handle;
    *shared = thing->shared;
    shared->handle = handle;
    shared->party = thing->parties++;
    *fd_p = dup(thing->fd);
    opened++;
    return CUDA_SUCCESS;
}

static void broker_close(void *self, uint64_t id, uint32_t party)
{
    (void)self;
    MUST(id < THINGS && party);
    opened--;
}

static void *broker_bell(void *self)
{
    (void)self;
    void *page = mmap(NULL, ORION_BELL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, bell_fd, 0);
    return page == MAP_FAILED ? NULL : page;
}

static const orion_broker_t broker = {.share = broker_share,
                                      .move = broker_move,
                                      .unmove = broker_unmove,
                                      .unshare = broker_unshare,
                                      .open = broker_open,
                                      .close = broker_close,
                                      .bell = broker_bell};

static orion_device_t *open_one(void **range_p)
{
    char why[256] = "";
    orion_device_t *made = NULL;
    *range_p = mmap(NULL, RANGE + ORION_HEAP_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(*range_p != MAP_FAILED);
    const uint64_t base = ((uint64_t)(uintptr_t)*range_p | (ORION_HEAP_PAGE - 1)) + 1;
    const orion_device_config_t config = {.memory_limit = 256 * MIB,
                                          .threads = 2,
                                          .heap_base = base,
                                          .heap_bytes = RANGE,
                                          .broker = broker,
                                          .compiler = &c_compiler,
                                          .host_id = "a test"};
    MUST(ops->open(&config, &made, why, sizeof why) == CUDA_SUCCESS);
    return made;
}

static void begin(void)
{
    memset(things, 0, sizeof things);
    opened = refuse_unmove = 0;
    bell_fd = memfd_create("bell", 0);
    MUST(ftruncate(bell_fd, ORION_BELL_BYTES) == 0);
    device = open_one(&range[0]);
    two = open_one(&range[1]);
}

static void end(void)
{
    const char *why;
    CHECK(orion_heap_check(&device->heap, &why));
    CHECK(orion_heap_check(&two->heap, &why));
    ops->close(two);
    ops->close(device);
    CHECK_EQUAL(opened, 0);
    munmap(range[0], RANGE + ORION_HEAP_PAGE);
    munmap(range[1], RANGE + ORION_HEAP_PAGE);
    close(bell_fd);
}

static void memory_is_the_same_and_neighbours_are_not_there(void)
{
    orion_ipc_handle_t handle, again;
    uint64_t there, bytes, base;
    begin();
    const uint64_t before = alloc(100), middle = alloc(5000), after = alloc(100);
    set(NULL, before, 1);
    set(NULL, middle, 2);
    set(NULL, after, 3);
    MUST(synchronize(ops, device) == CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_share(device, middle + 4999, &handle), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_share(device, middle, &again), CUDA_SUCCESS);
    CHECK(!memcmp(&handle, &again, sizeof handle));
    CHECK_EQUAL(ops->mem_share(device, middle + 5000, &again), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_open(two, &handle, &there, &bytes), CUDA_SUCCESS);
    CHECK(bytes == 5000 && get(there) == 2);
    CHECK_EQUAL(ops->mem_find(two, there + 4999, &base, &bytes), CUDA_SUCCESS);
    CHECK(base == there && bytes == 5000);
    *(uint32_t *)host(there + 4996) = 77;
    CHECK_EQUAL(get(middle + 4996), 77);
    CHECK_EQUAL(get(before), 1);
    CHECK_EQUAL(get(after), 3);
    CHECK_EQUAL(things[1].shared.bytes, 8192);
    CHECK_EQUAL(ops->mem_share(two, there, &again), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->mem_free(two, there, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    waiter_t closed = WAITER;
    CHECK_EQUAL(ops->mem_close(two, there, waiter_done, &closed), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&closed, 1), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_close(two, there, waiter_done, &closed), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&closed, 2), CUDA_ERROR_INVALID_VALUE);
    end();
}

static void freed_memory_is_not_given_out_while_it_is_shown(void)
{
    orion_ipc_handle_t handle;
    uint64_t there, bytes;
    waiter_t freed = WAITER;
    begin();
    const uint64_t shown = alloc(5000);
    set(NULL, shown, 5);
    MUST(synchronize(ops, device) == CUDA_SUCCESS);
    MUST(ops->mem_share(device, shown, &handle) == CUDA_SUCCESS);
    MUST(ops->mem_open(two, &handle, &there, &bytes) == CUDA_SUCCESS);
    orion_stream_t *a = stream_of(0);
    orion_gate_t *gate = gate_in(a);
    uint64_t reused;
    CHECK_EQUAL(ops->mem_free_async(device, a, shown, waiter_done, &freed), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_alloc_async(device, a, 5000, &reused), CUDA_SUCCESS);
    CHECK(reused != shown); /* the stream's order would allow it, the other device would see it */
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(waiter_wait(&freed, 1), CUDA_SUCCESS);
    const uint64_t again = alloc(5000);
    CHECK_EQUAL(again, shown);
    CHECK_EQUAL(get(again), 0);
    CHECK_EQUAL(get(there), 5);

    refuse_unmove = 1; /* the supervisor is gone: better lose the place than show what comes next */
    MUST(ops->mem_share(device, again, &handle) == CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_free(device, again, waiter_done, &freed), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&freed, 2), CUDA_SUCCESS);
    for (int i = 0; i < 100; i++)
        CHECK(alloc(5000) != again);
    end();
}

static void large_memory_is_shown_as_it_is(void)
{
    orion_ipc_handle_t handle;
    begin();
    const uint64_t large = alloc(ORION_HEAP_EXTENT + 1), small = alloc(1);
    CHECK(small / ORION_HEAP_EXTENT != large / ORION_HEAP_EXTENT ||
          small >= large + ORION_HEAP_EXTENT + ORION_HEAP_PAGE);
    CHECK_EQUAL(ops->mem_share(device, large, &handle), CUDA_SUCCESS);
    CHECK(!things[1].moved && things[1].shared.bytes == ORION_HEAP_EXTENT + ORION_HEAP_ALIGN);
    end();
}

static void reset_lets_go_of_all(void)
{
    orion_ipc_handle_t handle, shared;
    uint64_t there, bytes;
    orion_event_t *theirs;
    waiter_t done = WAITER;
    begin();
    MUST(ops->mem_share(device, alloc(100), &handle) == CUDA_SUCCESS);
    MUST(ops->mem_open(two, &handle, &there, &bytes) == CUDA_SUCCESS);
    MUST(ops->event_share(device, event_of(CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING), &shared) == CUDA_SUCCESS);
    MUST(ops->event_open(two, &shared, &theirs) == CUDA_SUCCESS);
    CHECK_EQUAL(opened, 2);
    MUST(ops->reset(two, waiter_done, &done) == CUDA_SUCCESS);
    waiter_wait(&done, 1);
    CHECK_EQUAL(opened, 0);
    CHECK_EQUAL(ops->mem_find(two, there, &there, &bytes), CUDA_ERROR_NOT_FOUND);
    end();
}

static void event_holds_streams_of_the_other_device(void)
{
    orion_ipc_handle_t shared;
    orion_event_t *theirs, *plain;
    waiter_t seen = WAITER, passed = WAITER;
    begin();
    orion_stream_t *a = stream_of(0);
    orion_event_t *ours = event_of(CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING);
    plain = event_of(CU_EVENT_DISABLE_TIMING);
    CHECK_EQUAL(ops->event_share(device, plain, &shared), CUDA_ERROR_INVALID_HANDLE);
    CHECK_EQUAL(ops->event_create(device, CU_EVENT_INTERPROCESS, &plain), CUDA_ERROR_INVALID_VALUE);
    orion_gate_t *gate = gate_in(a);
    MUST(ops->event_record(device, ours, a) == CUDA_SUCCESS); /* before anybody knows of it */
    MUST(ops->event_share(device, ours, &shared) == CUDA_SUCCESS);
    MUST(ops->event_open(two, &shared, &theirs) == CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_query(two, theirs), CUDA_ERROR_NOT_READY);
    MUST(ops->event_notify(two, theirs, waiter_done, &seen) == CUDA_SUCCESS);
    MUST(ops->stream_wait_event(two, NULL, theirs) == CUDA_SUCCESS);
    MUST(ops->stream_notify(two, NULL, waiter_done, &passed) == CUDA_SUCCESS);
    MUST(ops->event_record(device, ours, NULL) == CUDA_SUCCESS); /* waits for `a`; who waited before is not touched */
    usleep(20000);
    CHECK_EQUAL(waiter_calls(&seen) + waiter_calls(&passed), 0);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(waiter_wait(&seen, 1), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&passed, 1), CUDA_SUCCESS);
    MUST(synchronize(ops, device) == CUDA_SUCCESS);
    CHECK_EQUAL(ops->event_query(two, theirs), CUDA_SUCCESS);
    for (int turn = 0; turn < 200; turn++) { /* more records than a board has words for */
        MUST(ops->event_record(two, theirs, NULL) == CUDA_SUCCESS);
        CHECK_EQUAL(ops->event_query(device, ours), CUDA_SUCCESS);
    }
    ops->event_destroy(two, theirs);
    ops->event_destroy(device, ours);
    end();
}

static void scribbled_boards_delay_and_break_nothing(void)
{
    orion_ipc_handle_t shared;
    orion_event_t *theirs;
    uint64_t seed = check_number("ORION_TEST_SEED", 4711);
    begin();
    orion_event_t *ours = event_of(CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING);
    MUST(ops->event_share(device, ours, &shared) == CUDA_SUCCESS);
    MUST(ops->event_open(two, &shared, &theirs) == CUDA_SUCCESS);
    uint64_t *board = mmap(NULL, ORION_BOARD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, things[1].fd, 0);
    uint32_t *bell = mmap(NULL, ORION_BELL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, bell_fd, 0);
    MUST(board != MAP_FAILED && (void *)bell != MAP_FAILED);
    for (int turn = 0; turn < 20000; turn++) {
        const uint64_t word = check_random(&seed);
        board[word % 3 ? 0 : check_random(&seed) % (ORION_BOARD_BYTES / 8)] = word % 5 ? check_random(&seed)
                                                                                       : (check_random(&seed) % 64)
                                                                                                 << ORION_RECORD_PARTY |
                                                                                             word % 100;
        bell[word % 2] = (uint32_t)check_random(&seed);
        const CUresult result = ops->event_query(two, theirs);
        CHECK(result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY);
        if (turn % 1000 == 0)
            MUST(ops->stream_wait_event(two, NULL, theirs) == CUDA_SUCCESS);
    }
    orion_queue_lock(&two->queue);
    int listed = 0;
    for (const char *one = (const char *)two->queue.awaited; one; one = *(const char *const *)one)
        listed++;
    orion_queue_unlock(&two->queue);
    CHECK(listed <= 21); /* one for each wait, and one that was asked for last */
    munmap(board, ORION_BOARD_BYTES);
    munmap(bell, ORION_BELL_BYTES);
    end(); /* closing does not wait for records that will never happen */
}

CHECK_MAIN(CASE(memory_is_the_same_and_neighbours_are_not_there), CASE(freed_memory_is_not_given_out_while_it_is_shown),
           CASE(large_memory_is_shown_as_it_is), CASE(reset_lets_go_of_all),
           CASE(event_holds_streams_of_the_other_device), CASE(scribbled_boards_delay_and_break_nothing))
