/* SPDX-License-Identifier: Apache-2.0 */
/* The harness of the C tests: a program is a list of named claims. Exit 0 = all hold, 1 = one does not, 77 = skipped.
 * `program NAME` runs one claim. A watchdog ends a hung program (ORION_TEST_ALARM, default 120). */
#ifndef ORION_TESTS_CHECK_H
#define ORION_TESTS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct check_case {
    const char *name;
    void (*run)(void);
} check_case_t;

static int check_failed __attribute__((unused));
static const char *check_current __attribute__((unused)) = "start";

#define CHECK(condition)                                                                                 \
    do {                                                                                                 \
        if (!(condition)) {                                                                              \
            fprintf(stderr, "%s:%d: %s: not true: %s\n", __FILE__, __LINE__, check_current, #condition); \
            check_failed = 1;                                                                            \
            return;                                                                                      \
        }                                                                                                \
    } while (0)

/* In helpers and forked children: no way to go on. */
#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s: must be true: %s\n", __FILE__, __LINE__, check_current, #condition); \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_EQUAL(a, b)                                                                                             \
    do {                                                                                                              \
        long long check_a = (long long)(a), check_b = (long long)(b);                                                 \
        if (check_a != check_b) {                                                                                     \
            fprintf(stderr, "%s:%d: %s: %s is %lld, not %s = %lld\n", __FILE__, __LINE__, check_current, #a, check_a, \
                    #b, check_b);                                                                                     \
            check_failed = 1;                                                                                         \
            return;                                                                                                   \
        }                                                                                                             \
    } while (0)

/* The number from argv-free configuration: environment variable, or the default. */
static inline uint64_t check_number(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    uint64_t value = 0;
    if (text == NULL || *text == '\0')
        return otherwise;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return value;
}

static inline int64_t check_now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline uint64_t check_random(uint64_t *state)
{ /* xorshift64*; the state must not be zero */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

static inline int check_main(int argc, char **argv, const check_case_t *cases, size_t count)
{
    (void)alarm((unsigned)check_number("ORION_TEST_ALARM", 120));
    int failed = 0, ran = 0;
    for (size_t i = 0; i < count; i++) {
        if (argc > 1 && strcmp(argv[1], cases[i].name) != 0)
            continue;
        check_current = cases[i].name;
        check_failed = 0;
        cases[i].run();
        ran++;
        printf("%s %s\n", check_failed ? "FAIL" : "ok  ", cases[i].name);
        fflush(stdout);
        failed |= check_failed;
    }
    return failed || ran == 0;
}

#define CHECK_MAIN(...)                                                         \
    int main(int argc, char **argv)                                             \
    {                                                                           \
        static const check_case_t cases[] = {__VA_ARGS__};                      \
        return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0])); \
    }
#define CASE(name) {#name, name}

#endif
