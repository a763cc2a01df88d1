/* SPDX-License-Identifier: Apache-2.0 */
/* The floor of who sleeps: two words in shared memory and nothing but futex calls. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "twin.h"

typedef struct words {
    _Alignas(128) uint32_t ping;
    uint8_t there[64];
    _Alignas(128) uint32_t pong;
    uint8_t back[64];
} words_t;

static words_t *words;
static uint32_t count;

static void futex_open(int side)
{
    char path[256];
    twin_path(path, sizeof(path), "words");
    if (side == 1)
        (void)unlink(path);
    (void)twin_exchange("", 1, NULL);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    twin_must(fd >= 0 && ftruncate(fd, sizeof(*words)) == 0, "the file");
    words = mmap(NULL, sizeof(*words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    twin_must(words != MAP_FAILED, "mmap");
    (void)close(fd);
    count = 0;
    (void)twin_exchange("", 1, NULL);
}

static void futex_close(void)
{
    (void)munmap(words, sizeof(*words));
}

static void wait_for(const uint32_t *word, uint32_t value)
{
    for (uint32_t seen; (seen = orion_load_acquire(word)) != value;)
        (void)orion_futex_wait(word, seen, 1000000000);
}

static void futex_call(const void *out, void *in, size_t bytes)
{
    memcpy(words->there, out, bytes);
    orion_store_release(&words->ping, ++count);
    (void)orion_futex_wake(&words->ping, 1);
    wait_for(&words->pong, count);
    memcpy(in, words->back, bytes);
}

static void futex_answer(void *buffer, size_t bytes)
{
    wait_for(&words->ping, ++count);
    memcpy(buffer, words->there, bytes);
    memcpy(words->back, buffer, bytes);
    orion_store_release(&words->pong, count);
    (void)orion_futex_wake(&words->pong, 1);
}

const twin_t twin = {.name = "futex",
                     .call_max = 64,
                     .open = futex_open,
                     .close = futex_close,
                     .call = futex_call,
                     .answer = futex_answer};
