/* SPDX-License-Identifier: Apache-2.0 */
/* Events between processes; see board.h. A record of another process is a mark like ours, which the listener finishes:
 * queries, waits and notifications need to know nothing else. */
#include "board.h"

#include "base/atomic.h"
#include "base/futex.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define LISTEN_NS (50 * 1000 * 1000) /* a lost ring costs this much, never a hang */
#define NUMBER_MASK ((1ull << ORION_RECORD_PARTY) - 1)

/* A record of another process that somebody here waits for. */
struct orion_awaited {
    orion_awaited_t *next;
    orion_board_t *board;
    orion_op_t *mark;
    uint64_t record;
};

orion_board_t *orion_board_new(const orion_broker_t *broker, const orion_shared_t *shared, int fd)
{
    orion_board_t *board = fd >= 0 && shared->party < ORION_BOARD_PARTIES ? calloc(1, sizeof *board) : NULL;
    void *page = MAP_FAILED;
    if (board) {
        page = mmap(NULL, ORION_BOARD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        *board = (orion_board_t){.page = page,
                                 .bell = broker->bell(broker->self),
                                 .broker = *broker,
                                 .id = shared->id,
                                 .party = shared->party,
                                 .last = shared->first,
                                 .refs = 1,
                                 .handle = shared->handle};
    }
    if (fd >= 0)
        close(fd);
    if (board && page != MAP_FAILED && board->bell)
        return board;
    if (page != MAP_FAILED)
        munmap(page, ORION_BOARD_BYTES);
    free(board);
    return NULL;
}

void orion_board_unref(orion_board_t *board)
{
    if (!board || --board->refs)
        return;
    munmap(board->page, ORION_BOARD_BYTES);
    if (board->party)
        board->broker.close(board->broker.self, board->id, board->party);
    else
        board->broker.unshare(board->broker.self, board->id);
    free(board);
}

void orion_board_record(orion_board_t *board, orion_op_t *mark)
{
    mark->board = board;
    mark->u.record = ++board->last;
    board->refs++;
    /* release: pairs with the acquire in orion_board_refresh() */
    orion_store_release(&board->page->latest, (uint64_t)board->party << ORION_RECORD_PARTY | board->last);
}

void orion_board_publish(orion_op_t *mark)
{
    orion_board_t *board = mark->board;
    orion_board_party_t *party = &board->page->party[board->party];
    /* release: pairs with the acquire in orion_board_happened(); the work before the word */
    orion_store_release(&party->done[mark->u.record % ORION_BOARD_SLOTS], mark->u.record);
    /* sequentially consistent with the listener's, which counts itself and then looks: one of the two sees the other */
    __atomic_fetch_add(&board->bell->count, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&board->bell->listeners, __ATOMIC_SEQ_CST))
        orion_futex_wake(&board->bell->count, ORION_WAKE_ALL);
    mark->board = NULL;
    orion_board_unref(board);
}

int orion_board_happened(const orion_board_t *board, uint64_t record)
{
    const uint64_t party = record >> ORION_RECORD_PARTY, number = record & NUMBER_MASK;
    if (!number || party >= ORION_BOARD_PARTIES)
        return 1; /* none yet, or nonsense: there is nobody to wait for */
    const orion_board_party_t *of = &board->page->party[orion_index_nospec(party, ORION_BOARD_PARTIES)];
    /* acquire: pairs with the release in orion_board_publish(). A later record in the same place: ours is long past */
    return orion_load_acquire(&of->done[number % ORION_BOARD_SLOTS]) >= number ||
           orion_load_acquire(&of->gone_below) > number;
}

/* --- the listener: with the lock held, but while it sleeps --- */

static void strike(orion_queue_t *queue, orion_awaited_t **at)
{
    orion_awaited_t *one = *at;
    *at = one->next;
    orion_queue_finish_mark(queue, one->mark);
    orion_op_unref(queue, one->mark);
    orion_board_unref(one->board);
    free(one);
}

/* Nobody waits for the mark, and no event has it any more. */
static int is_stale(const orion_op_t *mark)
{
    return mark->refs == 1 && !mark->waiters;
}

static int look(orion_queue_t *queue)
{
    int found = 0;
    for (orion_awaited_t **at = &queue->awaited; *at;) {
        if (is_stale((*at)->mark) || orion_board_happened((*at)->board, (*at)->record)) {
            strike(queue, at);
            found = 1;
        } else
            at = &(*at)->next;
    }
    return found;
}

static void *listen(void *arg)
{
    orion_queue_t *queue = arg;
    orion_queue_lock(queue);
    while (!queue->listener_stops) {
        if (!queue->awaited) {
            pthread_cond_wait(&queue->listen, &queue->lock);
            continue;
        }
        orion_bell_t *bell = queue->awaited->board->bell; /* there is one for all */
        __atomic_fetch_add(&bell->listeners, 1, __ATOMIC_SEQ_CST);
        const uint32_t heard = __atomic_load_n(&bell->count, __ATOMIC_SEQ_CST);
        const int found = look(queue);
        if (found)
            orion_queue_advance(queue);
        orion_queue_unlock(queue);
        if (!found)
            orion_futex_wait(&bell->count, heard, LISTEN_NS);
        __atomic_fetch_sub(&bell->listeners, 1, __ATOMIC_SEQ_CST);
        orion_queue_lock(queue);
    }
    orion_queue_unlock(queue);
    return NULL;
}

void orion_board_abandon(orion_queue_t *queue)
{
    while (queue->awaited)
        strike(queue, &queue->awaited);
}

void orion_board_stop(orion_queue_t *queue)
{
    if (!queue->has_listener)
        return;
    orion_queue_lock(queue);
    queue->listener_stops = 1;
    pthread_cond_signal(&queue->listen);
    orion_queue_unlock(queue);
    pthread_join(queue->listener, NULL);
    queue->has_listener = 0;
}

static CUresult await(orion_queue_t *queue, orion_event_t *event, uint64_t record)
{
    orion_awaited_t *one = malloc(sizeof *one);
    orion_op_t *mark = one ? orion_op_new(queue, ORION_OP_RECORD, NULL, NULL) : NULL;
    if (mark && !queue->has_listener)
        queue->has_listener = pthread_create(&queue->listener, NULL, listen, queue) == 0;
    if (!mark || !queue->has_listener) {
        orion_op_unref(queue, mark);
        free(one);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    mark->refs++; /* the list's and the event's */
    event->board->refs++;
    *one = (orion_awaited_t){queue->awaited, event->board, mark, record};
    queue->awaited = one;
    event->mark = mark;
    pthread_cond_signal(&queue->listen);
    return CUDA_SUCCESS;
}

CUresult orion_board_refresh(orion_queue_t *queue, orion_event_t *event)
{
    orion_board_t *board = event->board;
    if (!board)
        return CUDA_SUCCESS;
    /* acquire: pairs with the release in orion_board_record(). Read once */
    const uint64_t latest = orion_load_acquire(&board->page->latest);
    if (latest == event->seen || latest >> ORION_RECORD_PARTY == board->party)
        return CUDA_SUCCESS; /* our own record has its mark */
    orion_op_t *before = event->mark;
    event->mark = NULL;
    const CUresult result = orion_board_happened(board, latest) ? CUDA_SUCCESS : await(queue, event, latest);
    if (result != CUDA_SUCCESS) {
        event->mark = before;
        return result;
    }
    event->seen = latest;
    if (!before)
        return CUDA_SUCCESS;
    orion_awaited_t **at = &queue->awaited;
    while (*at && (*at)->mark != before)
        at = &(*at)->next;
    orion_op_unref(queue, before); /* while it is on the list, that has a reference, too */
    if (*at && is_stale((*at)->mark))
        strike(queue, at); /* or a peer that changes the board all the time would make the list long */
    return CUDA_SUCCESS;
}

/* --- without the lock --- */

CUresult orion_event_share(orion_queue_t *queue, const orion_broker_t *broker, orion_event_t *event,
                           orion_ipc_handle_t *handle_p)
{
    orion_shared_t shared = {.kind = ORION_IPC_EVENT};
    int fd = -1;
    orion_queue_lock(queue);
    const int known = event->board != NULL;
    if (known)
        *handle_p = event->board->handle;
    orion_queue_unlock(queue);
    if (known)
        return CUDA_SUCCESS;
    if (!event->interprocess)
        return CUDA_ERROR_INVALID_HANDLE;
    const CUresult result = broker->share(broker->self, &shared, &fd);
    if (result != CUDA_SUCCESS)
        return result;
    orion_board_t *board = orion_board_new(broker, &shared, fd);
    if (!board) {
        broker->unshare(broker->self, shared.id);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    orion_queue_lock(queue);
    if (event->board) { /* another thread was quicker */
        orion_board_unref(board);
    } else {
        event->board = board;
        if (event->mark && !event->mark->finished)
            orion_board_record(board, event->mark);
        event->seen = board->page->latest;
    }
    *handle_p = event->board->handle;
    orion_queue_unlock(queue);
    return CUDA_SUCCESS;
}

CUresult orion_event_open(orion_queue_t *queue, const orion_broker_t *broker, const orion_ipc_handle_t *handle,
                          orion_event_t **event_p)
{
    orion_shared_t shared = {.kind = ORION_IPC_EVENT, .handle = *handle};
    int fd = -1;
    CUresult result = broker->open(broker->self, &shared, &fd);
    if (result != CUDA_SUCCESS)
        return result;
    orion_board_t *board = orion_board_new(broker, &shared, fd);
    if (!board) {
        broker->close(broker->self, shared.id, shared.party);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    result = orion_event_create(queue, CU_EVENT_DISABLE_TIMING, event_p);
    orion_queue_lock(queue);
    if (result == CUDA_SUCCESS)
        (*event_p)->board = board;
    else
        orion_board_unref(board);
    orion_queue_unlock(queue);
    return result;
}
