/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a libFuzzer-style target without libFuzzer: each file named on the command line, then, from those as seeds,
 * random and mutated inputs. ORION_FUZZ_SECONDS: how long (default 1), or ORION_FUZZ_RUNS: how many,
 * ORION_SEED: which. Directories are read one level deep. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INPUT_MAX 65536u
#define SEEDS_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct input {
    uint8_t *data;
    size_t size;
} input_t;

static input_t seeds[SEEDS_MAX];
static size_t seed_count;
static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dULL;
}

static uint64_t setting(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    uint64_t value = 0;
    if (text == NULL || *text == '\0')
        return otherwise;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return value;
}

/* A buffer of exactly that size, so that the sanitizer sees a read behind its end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (exact == NULL)
        exit(1);
    if (size > 0)
        memcpy(exact, data, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static void read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return;
    uint8_t *data = malloc(INPUT_MAX);
    if (data == NULL)
        exit(1);
    size_t size = fread(data, 1, INPUT_MAX, f);
    (void)fclose(f);
    run(data, size);
    if (seed_count < SEEDS_MAX) {
        seeds[seed_count++] = (input_t){data, size};
    } else {
        free(data);
    }
}

static void read_path(const char *path)
{
    char name[4096];
    DIR *d = opendir(path);
    if (d == NULL) {
        read_file(path);
        return;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        read_file(name);
    }
    (void)closedir(d);
}

static size_t make_input(uint8_t *to)
{
    size_t size;
    if (seed_count == 0 || next_random() % 8 == 0) {
        size = next_random() % 1024;
        for (size_t i = 0; i < size; i++)
            to[i] = (uint8_t)(next_random() >> 56);
        return size;
    }
    const input_t *seed = &seeds[next_random() % seed_count];
    size = seed->size;
    memcpy(to, seed->data, size);
    for (uint64_t edits = 1 + next_random() % 6; edits > 0 && size > 0; edits--) {
        uint64_t r = next_random();
        size_t at = (r >> 8) % size;
        switch (r % 6) {
        case 0:
            to[at] ^= (uint8_t)(1u << (r >> 40) % 8);
            break;
        case 1:
            to[at] = (uint8_t)(r >> 40);
            break;
        case 2:
            size = at;
            break;
        case 3:
            memset(to + at, (r >> 40) & 1 ? 0xff : 0, (r >> 48) % 8 < size - at ? (r >> 48) % 8 : size - at);
            break;
        case 4: { /* a number that decoders fear */
            static const uint32_t numbers[] = {0, 1, 7, 8, 15, 16, 0x7fffffff, 0x80000000u, 0xffffffffu, 0xfffffff8u};
            if (size - at >= 4)
                memcpy(to + at, &numbers[(r >> 40) % 10], 4);
            break;
        }
        default: { /* a piece of it once more */
            size_t n = (r >> 40) % 64;
            if (at + n <= size && size + n <= INPUT_MAX) {
                memmove(to + at + n, to + at, size - at);
                size += n;
            }
        }
        }
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t input[INPUT_MAX];
    state = setting("ORION_SEED", 20261123) | 1;
    for (int i = 1; i < argc; i++)
        read_path(argv[i]);
    uint64_t seconds = setting("ORION_FUZZ_SECONDS", getenv("ORION_FUZZ_RUNS") != NULL ? 0 : 1);
    uint64_t runs = setting("ORION_FUZZ_RUNS", seconds != 0 ? UINT64_MAX : 0), done = 0;
    time_t end = time(NULL) + (time_t)seconds;
    for (; done < runs; done++) {
        if (seconds != 0 && (done & 1023) == 0 && time(NULL) >= end)
            break;
        run(input, make_input(input));
    }
    printf("%zu seeds, %llu inputs\n", seed_count, (unsigned long long)done);
    for (size_t i = 0; i < seed_count; i++)
        free(seeds[i].data);
    return 0;
}
