/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: sealed, of the size they say, read-only where they should be; a shortage or a lie is an error. */
#define _GNU_SOURCE
#include "shm/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "../check.h"
#include "base/fd.h"
#include "base/sys.h"
#include "shm/range.h"

static char why[300];

static void a_memfd_segment_is_shared_and_sealed(void)
{
    orion_segment_t a, b;
    CHECK_EQUAL(orion_segment_create(&a, "test", 1 << 20, false, why, sizeof(why)), ORION_OK);
    CHECK(ftruncate(a.fd, 4096) != 0);
    CHECK(ftruncate(a.fd, 1 << 21) != 0);
    CHECK(orion_memfd_seal(a.fd, ORION_SEAL_FUTURE_WRITE) != 0); /* the seals are sealed */
    CHECK_EQUAL(orion_segment_map(&b, dup(a.fd), 1 << 20, true, why, sizeof(why)), ORION_OK);
    ((char *)a.address)[70000] = 'x';
    CHECK_EQUAL(((char *)b.address)[70000], 'x');
    orion_segment_close(&a);
    orion_segment_close(&b);
    orion_segment_close(&b); /* twice is fine */
}

static void nobody_else_can_write_a_reply_segment(void)
{
    orion_segment_t a;
    CHECK_EQUAL(orion_segment_create(&a, "test", 1 << 16, true, why, sizeof(why)), ORION_OK);
    if ((orion_memfd_seals(a.fd) & ORION_SEAL_FUTURE_WRITE) != 0) { /* Linux 5.1 */
        CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, a.fd, 0) == MAP_FAILED);
        CHECK(pwrite(a.fd, "x", 1, 0) < 0);
    }
    ((char *)a.address)[5] = 'y'; /* we can */
    orion_segment_t b;
    CHECK_EQUAL(orion_segment_map(&b, dup(a.fd), 1 << 16, false, why, sizeof(why)), ORION_OK);
    CHECK_EQUAL(((char *)b.address)[5], 'y');
    CHECK(mprotect(b.address, 4096, PROT_READ | PROT_WRITE) != 0 || orion_memfd_seals(a.fd) < ORION_SEAL_FUTURE_WRITE);
    orion_segment_close(&a);
    orion_segment_close(&b);
}

static void a_descriptor_that_lies_is_refused(void)
{
    orion_segment_t s;
    int unsealed = orion_memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(unsealed >= 0 && ftruncate(unsealed, 8192) == 0);
    CHECK_EQUAL(orion_segment_map(&s, dup(unsealed), 8192, true, why, sizeof(why)), ORION_PROTOCOL);
    CHECK_EQUAL(orion_segment_map(&s, dup(unsealed), 4096, true, why, sizeof(why)), ORION_PROTOCOL);
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK_EQUAL(orion_segment_map(&s, file, 4096, true, why, sizeof(why)), ORION_PROTOCOL);
    CHECK_EQUAL(orion_segment_map(&s, -1, 4096, true, why, sizeof(why)), ORION_PROTOCOL);
    orion_fd_close(unsealed);
}

static void more_memory_than_there_is_is_an_error(void)
{
    orion_segment_t s;
    /* First, and alone: without this check the next line would not fail but call the OOM killer on other processes. */
    CHECK(!orion_memory_available(1ULL << 50));
    orion_status_t status = orion_segment_create(&s, "test", 1ULL << 50, false, why, sizeof(why));
    CHECK_EQUAL(status, ORION_NO_MEMORY);
    CHECK(strlen(why) > 20);
}

static void a_header_must_match_in_every_word(void)
{
    orion_segment_header_t h, bad;
    orion_segment_header_fill(&h, 1, 2, 3, 4);
    CHECK(orion_segment_header_matches(&h, 1, 2, 3, 4));
    for (size_t i = 0; i < sizeof(h); i++) {
        bad = h;
        ((uint8_t *)&bad)[i] ^= 1;
        CHECK(!orion_segment_header_matches(&bad, 1, 2, 3, 4));
    }
}

static void a_range_is_taken_once_and_filled_in_place(void)
{
    uint64_t bytes = 1ULL << 32, base = orion_range_reserve_first(orion_range_bases, 8, bytes);
    CHECK(base != 0);
    CHECK(!orion_range_reserve(base, bytes));
    CHECK(!orion_range_reserve(base + bytes - 4096, 4096));
    uint64_t next = orion_range_reserve_first(orion_range_bases, 8, bytes);
    CHECK(next != base);
    orion_range_release(next, bytes);
    int fd = orion_memfd_sized("test", 1 << 16, why, sizeof(why));
    CHECK(fd >= 0);
    CHECK_EQUAL(orion_range_map(base, bytes, 1 << 20, 1 << 16, fd), ORION_OK);
    ((volatile char *)(uintptr_t)(base + (1 << 20)))[65535] = 1;
    CHECK_EQUAL(orion_range_unmap(base, bytes, 1 << 20, 1 << 16), ORION_OK);
    CHECK_EQUAL(orion_range_map(base, bytes, bytes - 4096, 8192, fd), ORION_INVALID);
    CHECK_EQUAL(orion_range_map(base, bytes, UINT64_MAX - 4095, 8192, fd), ORION_INVALID);
    CHECK_EQUAL(orion_range_map(base, bytes, 100, 4096, fd), ORION_INVALID);
    CHECK_EQUAL(orion_range_map(base, bytes, 0, 0, fd), ORION_INVALID);
    CHECK_EQUAL(orion_range_map(0, bytes, 0, 4096, fd), ORION_INVALID);
    orion_fd_close(fd);
    orion_range_release(base, bytes);
    static const uint64_t nonsense[] = {0, 1, 4097, UINT64_MAX - 4095, 1ULL << 60};
    CHECK_EQUAL(orion_range_reserve_first(nonsense, 5, bytes), 0);
    CHECK_EQUAL(orion_range_reserve_first(orion_range_bases, 8, 0), 0);
}

CHECK_MAIN(CASE(a_memfd_segment_is_shared_and_sealed), CASE(nobody_else_can_write_a_reply_segment),
           CASE(a_descriptor_that_lies_is_refused), CASE(more_memory_than_there_is_is_an_error),
           CASE(a_header_must_match_in_every_word), CASE(a_range_is_taken_once_and_filled_in_place))
