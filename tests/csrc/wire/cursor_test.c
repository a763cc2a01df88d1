/* SPDX-License-Identifier: Apache-2.0 */
/* The cursor never leaves its buffer, and a failure lasts. */
#include "wire/cursor.h"

#include "../check.h"

static void what_was_put_is_got(void)
{
    uint8_t buffer[128];
    orion_cursor_t w = orion_cursor_writer(buffer, sizeof(buffer));
    orion_cursor_put_u8(&w, 0xab);
    orion_cursor_put_u16(&w, 0xcdef);
    orion_cursor_put_u32(&w, 0x12345678);
    orion_cursor_put_u64(&w, UINT64_MAX - 1);
    orion_cursor_put_i32(&w, -5);
    orion_cursor_put_f32(&w, 1.5f);
    orion_cursor_put_f64(&w, -2.25);
    orion_cursor_put_string(&w, "kernel");
    orion_cursor_put_bytes(&w, "xyz", 3);
    CHECK(orion_cursor_ok(&w));
    orion_cursor_t r = orion_cursor_over(buffer, (size_t)(w.p - buffer));
    uint32_t length = 0;
    CHECK_EQUAL(orion_cursor_get_u8(&r), 0xab);
    CHECK_EQUAL(orion_cursor_get_u16(&r), 0xcdef);
    CHECK_EQUAL(orion_cursor_get_u32(&r), 0x12345678);
    CHECK(orion_cursor_get_u64(&r) == UINT64_MAX - 1);
    CHECK_EQUAL(orion_cursor_get_i32(&r), -5);
    CHECK(orion_cursor_get_f32(&r) == 1.5f);
    CHECK(orion_cursor_get_f64(&r) == -2.25);
    CHECK(strcmp(orion_cursor_get_string(&r, &length), "kernel") == 0);
    CHECK_EQUAL(length, 6);
    CHECK(memcmp(orion_cursor_get_bytes(&r, 3), "xyz", 3) == 0);
    CHECK(orion_cursor_done(&r));
}

static void a_failed_cursor_stays_failed(void)
{
    uint8_t buffer[6] = {1, 2, 3, 4, 5, 6};
    orion_cursor_t r = orion_cursor_over(buffer, sizeof(buffer));
    CHECK_EQUAL(orion_cursor_get_u64(&r), 0);
    CHECK(!orion_cursor_ok(&r) && !orion_cursor_done(&r));
    CHECK_EQUAL(orion_cursor_get_u8(&r), 0); /* though there are six bytes */
    CHECK(orion_cursor_take(&r, 0) == NULL);
    CHECK_EQUAL(orion_cursor_left(&r), 0);
}

static void taken_parts_are_padded_to_8_and_clamped(void)
{
    _Alignas(8) uint8_t buffer[28];
    orion_cursor_t r = orion_cursor_over(buffer, sizeof(buffer));
    CHECK(orion_cursor_take(&r, 3) == buffer);
    CHECK(orion_cursor_take(&r, 8) == buffer + 8);
    CHECK(orion_cursor_take(&r, 0) == buffer + 16);
    CHECK(orion_cursor_take(&r, 9) == buffer + 16); /* padding beyond the end: clamped */
    CHECK(orion_cursor_done(&r));
    r = orion_cursor_over(buffer, sizeof(buffer));
    CHECK(orion_cursor_take(&r, 29) == NULL);
}

static void lengths_near_the_top_do_not_wrap(void)
{
    uint8_t buffer[16];
    static const size_t lengths[] = {17, SIZE_MAX, SIZE_MAX - 7, SIZE_MAX / 2 + 1};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        orion_cursor_t r = orion_cursor_over(buffer, sizeof(buffer));
        CHECK(orion_cursor_take(&r, lengths[i]) == NULL);
        CHECK(!orion_cursor_ok(&r));
    }
}

static void strings_must_end_where_they_say(void)
{
    struct {
        uint32_t length;
        char text[8];
    } s = {3, "abc"};
    orion_cursor_t r = orion_cursor_over(&s, sizeof(s));
    CHECK(orion_cursor_get_string(&r, NULL) != NULL);
    static const uint32_t bad[] = {2, 4, 8, 9, UINT32_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(&s, 'x', sizeof(s));
        if (bad[i] == 4)
            memcpy(s.text, "ab\0d", 5);
        s.length = bad[i];
        r = orion_cursor_over(&s, sizeof(s));
        CHECK(orion_cursor_get_string(&r, NULL) == NULL);
        CHECK(!orion_cursor_ok(&r));
    }
}

static void a_full_writer_writes_nothing_more(void)
{
    uint8_t buffer[8] = {0};
    orion_cursor_t w = orion_cursor_writer(buffer, 6);
    orion_cursor_put_u32(&w, 1);
    orion_cursor_put_u32(&w, 0xffffffff);
    CHECK(!orion_cursor_ok(&w));
    CHECK_EQUAL(buffer[4] | buffer[5] | buffer[6] | buffer[7], 0);
    orion_cursor_put_u8(&w, 9);
    CHECK_EQUAL(buffer[4], 0);
}

CHECK_MAIN(CASE(what_was_put_is_got), CASE(a_failed_cursor_stays_failed), CASE(taken_parts_are_padded_to_8_and_clamped),
           CASE(lengths_near_the_top_do_not_wrap), CASE(strings_must_end_where_they_say),
           CASE(a_full_writer_writes_nothing_more))
