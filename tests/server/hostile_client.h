/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole worker in this process, with the null device, and a client of it that reads any bytes as a program: each byte
 * or so picks an operation, an object, an address, a number. Records have the shapes of the spec and get past the
 * decoder, or are no records at all; what they name is alive, gone, never made or somebody else's by turns. A thread
 * plays the supervisor. Build it with the sanitizers: they are what says whether the worker stood it.
 */
#ifndef ORION_TESTS_HOSTILE_CLIENT_H
#define ORION_TESTS_HOSTILE_CLIENT_H

#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "../csrc/check.h"
#include "base/fd.h"
#include "channel/ring.h"
#include "devices/board.h"
#include "orion_generated/shapes.h"
#include "shm/segment.h"
#include "worker/worker.h"

#define HOSTILE_EPOCH 7u
#define HOSTILE_MEMORY (8ull << 20)
#define HOSTILE_RANGE (1ull << 30) /* the arena, then the heap */
#define HOSTILE_GRANULE (2ull << 20)
#define HOSTILE_ADOPTED 0x200000000000ull /* where the supervisor lets memory be adopted */
#define HOSTILE_ADOPTED_BYTES (64ull << 20)
#define HOSTILE_RECORD_MOST 1024u
#define HOSTILE_SLOT 100u /* whose answers nobody reads; programs use 0 to 3 */

static const char hostile_ptx[] = ".version 7.0\n.target sm_80\n.address_size 64\n"
                                  ".visible .global .align 4 .u32 counter[4];\n"
                                  ".visible .entry none() { ret; }\n"
                                  ".visible .entry mixed(.param .u8 a, .param .u64 b, .param .u16 c)\n{ ret; }\n";

typedef struct hostile {
    uint8_t *command, *reply;
    uint64_t base; /* of the range */
    orion_ring_producer_t ring;
    orion_worker_t *worker;
    orion_stats_t stats;
    orion_control_line_t line;
    int supervisor; /* its end of the line */
    pthread_t thread;
    uint32_t held, asked; /* atomic: the supervisor shall answer nothing; it has a question */
    uint32_t sequence;
    uint64_t records, refused; /* sent; what the worker would have ended the session for */
    int over;                  /* it read something that is no record at all: nothing more is read */
    const uint8_t *at, *end;   /* the program */
} hostile_t;

/* --- the supervisor: says yes to whatever is sane --- */

static inline int hostile_file(uint64_t bytes)
{
    return bytes != 0 && bytes <= HOSTILE_RANGE ? orion_memfd_sized("hostile", bytes, NULL, 0) : -1;
}

static inline void hostile_answer(const hostile_t *h, orion_control_message_t *m)
{
    orion_share_text_t text;
    int fd = -1;
    memcpy(&text, m->text, sizeof(text));
    m->result = CUDA_SUCCESS;
    switch (m->kind) {
    case ORION_CONTROL_GRANT:
        fd = hostile_file(m->b);
        break;
    case ORION_CONTROL_EXPOSE:
        m->a &= ~(HOSTILE_GRANULE - 1);
        m->b = HOSTILE_GRANULE;
        break;
    case ORION_CONTROL_ADOPT:
        if (m->a >= HOSTILE_ADOPTED && m->a - HOSTILE_ADOPTED < HOSTILE_ADOPTED_BYTES && m->b <= HOSTILE_ADOPTED_BYTES)
            fd = hostile_file(m->b);
        m->result = fd < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
        break;
    case ORION_CONTROL_SHARE: /* the handle: what it is of, and its place */
        text.id = text.address ^ 1;
        memset(text.handle, 0, sizeof(text.handle));
        text.handle[0] = (uint8_t)text.kind;
        fd = hostile_file(text.kind == ORION_IPC_EVENT ? ORION_BOARD_BYTES : text.bytes);
        break;
    case ORION_CONTROL_UNMOVE:
        m->b = 0;
        fd = hostile_file(HOSTILE_RANGE);
        break;
    case ORION_CONTROL_OPEN:
        text.id = 99;
        text.party = 1;
        text.bytes = HOSTILE_GRANULE;
        text.asked = 4096;
        fd = text.handle[0] == text.kind ? hostile_file(text.kind == ORION_IPC_EVENT ? ORION_BOARD_BYTES : text.bytes)
                                         : -1;
        m->result = fd < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
        break;
    case ORION_CONTROL_BELL:
        fd = hostile_file(ORION_BELL_BYTES);
        break;
    default:
        return; /* it is only told */
    }
    if (m->kind == ORION_CONTROL_SHARE || m->kind == ORION_CONTROL_OPEN)
        memcpy(m->text, &text, sizeof(text));
    (void)orion_fd_send(h->supervisor, m, offsetof(orion_control_message_t, text) + m->text_bytes, &fd, fd >= 0);
    orion_fd_close(fd);
}

static inline void *hostile_supervise(void *arg)
{
    hostile_t *h = arg;
    orion_control_message_t m;
    while (recv(h->supervisor, &m, sizeof(m), 0) > 0) { /* until the line is shut down */
        orion_store_release(&h->asked, 1);
        while (orion_load_acquire(&h->held) != 0)
            (void)sched_yield();
        hostile_answer(h, &m);
    }
    return NULL;
}

/* --- a session --- */

static inline void hostile_open(hostile_t *h, const orion_compiler_t *compiler)
{
    static uint8_t *command, *reply;
    static uint64_t base;
    char why[200] = "";
    int sockets[2];
    if (command == NULL) { /* mapped once: a fuzz target opens thousands of sessions */
        const int flags = MAP_SHARED | MAP_ANONYMOUS;
        command = mmap(NULL, ORION_COMMAND_SEGMENT_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
        reply = mmap(NULL, ORION_REPLY_SEGMENT_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
        void *room = mmap(NULL, HOSTILE_RANGE + HOSTILE_GRANULE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                          -1, 0);
        MUST(command != MAP_FAILED && reply != MAP_FAILED && room != MAP_FAILED);
        base = ((uint64_t)(uintptr_t)room + HOSTILE_GRANULE - 1) & ~(HOSTILE_GRANULE - 1);
    }
    memset(h, 0, sizeof(*h));
    h->command = command;
    h->reply = reply;
    h->base = base;
    memset(command, 0, ORION_COMMAND_CONTROL_BYTES);
    memset(reply, 0, ORION_REPLY_CONTROL_BYTES);
    memcpy(orion_command_stage(command, 0), hostile_ptx, sizeof(hostile_ptx));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    h->supervisor = sockets[0];
    orion_control_init(&h->line, sockets[1]);
    MUST(pthread_create(&h->thread, NULL, hostile_supervise, h) == 0);
    orion_worker_config_t config = {.device = "null",
                                    .memory_limit = HOSTILE_MEMORY,
                                    .threads = 1,
                                    .compiler = compiler,
                                    .line = &h->line,
                                    .stats = &h->stats,
                                    .range_base = base,
                                    .arena_bytes = HOSTILE_RANGE / 2,
                                    .heap_base = base + HOSTILE_RANGE / 2,
                                    .heap_bytes = HOSTILE_RANGE / 2};
    const orion_port_config_t port = {.epoch = HOSTILE_EPOCH, .witness_fd = -1};
    MUST(orion_port_attach(&port, command, reply, &config.port, why, sizeof(why)) == ORION_OK);
    MUST(orion_worker_open(&config, &h->worker, why, sizeof(why)) == CUDA_SUCCESS);
    orion_ring_producer_init(&h->ring, orion_command_ring(command), ORION_RING_BYTES,
                             &((orion_command_control_t *)command)->head, &((orion_reply_control_t *)reply)->tail,
                             HOSTILE_EPOCH);
}

/* A client that reads its events: text for it would wait for room. */
static inline void hostile_hear(hostile_t *h)
{
    orion_store_relaxed(&((orion_command_control_t *)h->command)->event_tail,
                        orion_load_acquire(&((orion_reply_control_t *)h->reply)->event_head));
}

static inline void hostile_send(hostile_t *h, uint16_t opcode, uint16_t slot, const void *payload, uint32_t bytes)
{
    orion_record_t *record = orion_ring_claim(&h->ring, ORION_RECORD_HEADER + orion_record_round(bytes));
    MUST(record != NULL); /* hostile_serve() was called in time */
    record->opcode = opcode;
    record->slot = slot;
    record->sequence = ++h->sequence;
    memset(orion_record_payload(record), 0, orion_record_round(bytes));
    if (bytes != 0)
        memcpy(orion_record_payload(record), payload, bytes);
    orion_ring_commit(&h->ring);
    h->records++;
}

/* The worker's loop until all that was sent is served. An operation that is none would end the session; here the worker
 * has to stand the next one as well. */
static inline void hostile_serve(hostile_t *h)
{
    hostile_hear(h);
    hostile_send(h, ORION_OP_orionGoodbye, HOSTILE_SLOT, NULL, 0);
    while (!h->worker->said_goodbye && !h->over) {
        const uint64_t served = atomic_load(&h->stats.calls);
        const orion_status_t status = orion_worker_serve(h->worker);
        MUST(status == ORION_OK || status == ORION_PROTOCOL);
        if (status == ORION_PROTOCOL) {
            MUST(strlen(h->worker->last_words) > 10);
            h->refused++;
            h->over = atomic_load(&h->stats.calls) == served;
        }
    }
    h->worker->said_goodbye = false;
    MUST(orion_ring_refresh(&h->ring) == ORION_OK);
}

/* Until no executor job is left, either. */
static inline void hostile_settle(hostile_t *h)
{
    if (!h->over)
        hostile_serve(h);
    while (orion_executor_busy(h->worker->executor)) {
        hostile_hear(h);
        (void)sched_yield();
    }
}

static inline void hostile_close(hostile_t *h)
{
    hostile_settle(h);
    orion_worker_close(h->worker);
    (void)shutdown(h->line.fd, SHUT_RDWR);
    (void)pthread_join(h->thread, NULL);
    orion_control_fini(&h->line);
    orion_fd_close(h->supervisor);
    MUST(munmap((void *)(uintptr_t)HOSTILE_ADOPTED, 2 * HOSTILE_ADOPTED_BYTES) == 0);
    MUST(mmap((void *)(uintptr_t)h->base, HOSTILE_RANGE, PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED);
}

/* --- the program --- */

static inline uint8_t hostile_byte(hostile_t *h)
{
    return h->at < h->end ? *h->at++ : 0;
}

static inline uint64_t hostile_word(hostile_t *h)
{
    uint64_t word = 0;
    for (int i = 0; i < 64; i += 8)
        word |= (uint64_t)hostile_byte(h) << i;
    return word;
}

static inline uint64_t hostile_number(hostile_t *h)
{
    static const uint64_t numbers[] = {128,
                                       255,
                                       256,
                                       511,
                                       512,
                                       1024,
                                       4032,
                                       4096,
                                       65536,
                                       ORION_STAGE_BYTES,
                                       ORION_STAGE_BYTES + 1,
                                       HOSTILE_GRANULE,
                                       HOSTILE_MEMORY,
                                       sizeof(hostile_ptx),
                                       sizeof(hostile_ptx) - 1,
                                       HOSTILE_ADOPTED,
                                       HOSTILE_ADOPTED + HOSTILE_GRANULE,
                                       INT32_MAX,
                                       UINT32_MAX,
                                       1ull << 32,
                                       INT64_MAX,
                                       UINT64_MAX,
                                       UINT64_MAX - 4095};
    const uint8_t pick = hostile_byte(h);
    if (pick < 200)
        return pick % 100;
    return pick == 255 ? hostile_word(h) : numbers[pick % (sizeof(numbers) / sizeof(numbers[0]))];
}

/* Heap, arena, adopted memory, and a little beside them. */
static inline uint64_t hostile_address(hostile_t *h)
{
    const uint8_t pick = hostile_byte(h), offset = pick & 0x20 ? hostile_byte(h) : 0;
    const uint64_t places[] = {h->base + HOSTILE_RANGE / 2, h->base + HOSTILE_RANGE / 2, h->base, HOSTILE_ADOPTED};
    if (pick == 255)
        return hostile_word(h);
    return places[pick & 3] + (pick >> 2 & 7) * (pick & 0x40 ? HOSTILE_GRANULE : 512) + offset - (pick & 0x80 ? 16 : 0);
}

/* Few indices and generations, so that they meet. */
static inline uint64_t hostile_handle(hostile_t *h, orion_meaning_t meaning)
{
    const uint8_t pick = hostile_byte(h);
    if (pick == 255)
        return hostile_word(h);
    if (meaning == ORION_MEANING_STREAM && pick >= 192)
        return pick >= 224 ? ORION_WIRE_STREAM_LEGACY : ORION_WIRE_STREAM_THREAD | (pick & 3);
    return (uint64_t)(pick >> 7) << 32 | (pick & 3);
}

/* A record's payload of that shape; how long it is. */
static inline uint32_t hostile_payload(hostile_t *h, const orion_shape_t *shape, uint8_t payload[HOSTILE_RECORD_MOST])
{
    static const char *const names[] = {"none", "mixed", "counter", "", "no such name"};
    uint32_t bytes = shape->bytes;
    memset(payload, 0, HOSTILE_RECORD_MOST);
    for (uint16_t i = 0; i < shape->count; i++) {
        const orion_shape_field_t *field = &shape->fields[i];
        uint64_t value;
        switch (field->meaning) {
        case ORION_MEANING_NUMBER:
            value = hostile_number(h);
            break;
        case ORION_MEANING_ADDRESS:
            value = hostile_address(h);
            break;
        case ORION_MEANING_BYTES:
            value = hostile_byte(h);
            for (uint64_t n = 0; n < value; n++)
                payload[bytes + n] = n == 0 ? (uint8_t)(1 + hostile_byte(h) % 2) : 0;
            bytes += orion_record_round((uint32_t)value);
            break;
        case ORION_MEANING_TEXT: {
            const char *name = names[hostile_byte(h) % 5];
            value = strlen(name) + 1;
            memcpy(payload + bytes, name, value);
            bytes += orion_record_round((uint32_t)value);
            break;
        }
        default:
            value = hostile_handle(h, field->meaning);
        }
        memcpy(payload + field->offset, &value, field->bytes);
    }
    return bytes;
}

static inline void hostile_step(hostile_t *h)
{
    uint8_t payload[HOSTILE_RECORD_MOST];
    const uint32_t shapes = sizeof(orion_shapes) / sizeof(orion_shapes[0]);
    const uint8_t pick = hostile_byte(h), how = hostile_byte(h);
    uint16_t slot = how & 3;
    if (pick >= 250) { /* no record of ours, or one that is cut */
        uint32_t bytes = hostile_byte(h);
        for (uint32_t i = 0; i < bytes; i++)
            payload[i] = hostile_byte(h);
        hostile_send(h, (uint16_t)(pick == 255 ? hostile_word(h) : how), how & 4 ? slot : ORION_SLOT_NONE, payload,
                     bytes);
    } else {
        const orion_shape_t *shape = &orion_shapes[pick % shapes];
        const uint32_t bytes = hostile_payload(h, shape, payload);
        if (shape->opcode == ORION_OP_orionGoodbye)
            return; /* hostile_serve() says it */
        hostile_send(h, (uint16_t)shape->opcode, shape->waits != (how >= 250) ? slot : ORION_SLOT_NONE, payload, bytes);
    }
    if (how & 8)
        hostile_settle(h); /* what executor threads make is there */
    else if (h->ring.head - h->ring.tail > ORION_RING_BYTES / 2)
        hostile_serve(h);
}

static inline void hostile_run(hostile_t *h, const uint8_t *data, size_t size)
{
    h->at = data;
    h->end = data + size;
    while (h->at < h->end && !h->over)
        hostile_step(h);
}

#endif
