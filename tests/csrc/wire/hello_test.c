/* SPDX-License-Identifier: Apache-2.0 */
/* Hello, welcome and notice: round trips, and everything a decoder has to refuse. */
#define _GNU_SOURCE
#include "wire/hello.h"

#include "../check.h"

static char why[200];

static void a_hello_survives_the_wire(void)
{
    orion_hello_t a, b;
    orion_hello_init(&a);
    orion_field_set(a.token, sizeof(a.token), "secret");
    a.wish_ratio = 100;
    CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_OK);
    CHECK(memcmp(&a, &b, sizeof(a)) == 0);
    CHECK_EQUAL(b.pid, getpid());
}

static void a_hello_of_any_other_length_is_refused(void)
{
    orion_hello_t a, b;
    uint8_t bytes[sizeof(a) + 8] = {0};
    orion_hello_init(&a);
    memcpy(bytes, &a, sizeof(a));
    memset(&b, 0x77, sizeof(b));
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        if (n == sizeof(a))
            continue;
        CHECK_EQUAL(orion_hello_decode(bytes, n, &b, why, sizeof(why)), ORION_PROTOCOL);
    }
    CHECK_EQUAL(((uint8_t *)&b)[0], 0x77); /* not written */
    a.bytes--;
    CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_PROTOCOL);
}

static void another_version_is_named(void)
{
    orion_hello_t a, b;
    static const uint32_t versions[] = {0, ORION_WIRE_VERSION + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        orion_hello_init(&a);
        a.version = versions[i];
        CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_VERSION);
        CHECK_EQUAL(orion_hello_decode(&a, 16, &b, why, sizeof(why)), ORION_VERSION); /* whatever its size there */
    }
    CHECK(strstr(why, "4294967295") != NULL);
}

static void every_version_that_is_served_is_understood(void)
{
    for (uint32_t version = ORION_WIRE_VERSION_MIN; version <= ORION_WIRE_VERSION; version++) {
        orion_hello_t a, b;
        orion_welcome_t w, v;
        orion_redirect_t r, q;
        orion_hello_init(&a);
        orion_welcome_init(&w);
        orion_redirect_init(&r);
        a.version = w.version = r.version = version;
        w.epoch = w.slots = 1;
        orion_field_set(r.token, sizeof(r.token), "id.secret");
        orion_field_set(r.address, sizeof(r.address), "host:1");
        CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_OK);
        CHECK_EQUAL(orion_welcome_decode(&w, sizeof(w), &v, why, sizeof(why)), ORION_OK);
        CHECK_EQUAL(orion_redirect_decode(&r, sizeof(r), &q, why, sizeof(why)), ORION_OK);
        CHECK_EQUAL(b.version, version);
        CHECK_EQUAL(v.version, version);
        CHECK_EQUAL(q.version, version);
    }
    CHECK(ORION_WIRE_VERSION - ORION_WIRE_VERSION_MIN <= 1); /* N and N-1, no more is promised */
}

static void nonsense_in_a_hello_is_refused(void)
{
    orion_hello_t a, b;
    orion_hello_init(&a);
    a.magic ^= 1;
    CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_PROTOCOL);
    orion_hello_init(&a);
    a.transport = 99;
    CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_PROTOCOL);
    orion_hello_init(&a);
    a.range_bytes = 4097;
    CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_PROTOCOL);
    a.range_bytes = UINT64_MAX & ~8191ULL;
    CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_PROTOCOL);
    orion_hello_init(&a);
    a.wish_ratio = 101;
    CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_PROTOCOL);
}

static void strings_end_within_their_fields(void)
{
    orion_hello_t a, b;
    orion_welcome_t w, v;
    orion_notice_t n, m;
    orion_hello_init(&a);
    memset(a.token, 't', sizeof(a.token));
    memset(a.command, 'c', sizeof(a.command));
    CHECK_EQUAL(orion_hello_decode(&a, sizeof(a), &b, why, sizeof(why)), ORION_OK);
    CHECK_EQUAL(strlen(b.token), sizeof(b.token) - 1);
    CHECK_EQUAL(strlen(b.command), sizeof(b.command) - 1);
    orion_welcome_init(&w);
    w.epoch = w.slots = 1;
    memset(w.command_name, 'x', sizeof(w) - offsetof(orion_welcome_t, command_name));
    CHECK_EQUAL(orion_welcome_decode(&w, sizeof(w), &v, why, sizeof(why)), ORION_OK);
    CHECK_EQUAL(strlen(v.command_name), sizeof(v.command_name) - 1);
    CHECK_EQUAL(strlen(v.reply_name), sizeof(v.reply_name) - 1);
    CHECK_EQUAL(strlen(v.device), sizeof(v.device) - 1);
    CHECK_EQUAL(strlen(v.message), sizeof(v.message) - 1);
    orion_notice_init(&n, ORION_NOTICE_EPITAPH);
    memset(n.message, 'm', sizeof(n.message));
    CHECK_EQUAL(orion_notice_decode(&n, sizeof(n), &m, why, sizeof(why)), ORION_OK);
    CHECK_EQUAL(strlen(m.message), sizeof(m.message) - 1);
}

static void nonsense_in_a_welcome_is_refused(void)
{
    orion_welcome_t w, v;
    orion_welcome_init(&w);
    CHECK_EQUAL(orion_welcome_decode(&w, sizeof(w), &v, why, sizeof(why)), ORION_PROTOCOL); /* no session */
    w.status = ORION_REFUSED;                                                               /* a refusal needs none */
    CHECK_EQUAL(orion_welcome_decode(&w, sizeof(w), &v, why, sizeof(why)), ORION_OK);
    w.status = ORION_OK;
    w.epoch = w.slots = 1;
    CHECK_EQUAL(orion_welcome_decode(&w, sizeof(w), &v, why, sizeof(why)), ORION_OK);
    w.arena_bytes = UINT64_MAX;
    CHECK_EQUAL(orion_welcome_decode(&w, sizeof(w), &v, why, sizeof(why)), ORION_PROTOCOL);
    w.arena_bytes = 0;
    w.version++;
    CHECK_EQUAL(orion_welcome_decode(&w, sizeof(w), &v, why, sizeof(why)), ORION_VERSION);
    for (size_t n = 0; n < sizeof(w); n++) {
        CHECK(orion_welcome_decode(&w, n, &v, why, sizeof(why)) != ORION_OK);
    }
}

static void nonsense_in_a_notice_is_refused(void)
{
    orion_notice_t n, m;
    orion_notice_init(&n, ORION_NOTICE_EXTENT);
    CHECK_EQUAL(orion_notice_decode(&n, sizeof(n), &m, why, sizeof(why)), ORION_OK);
    n.kind = 4;
    CHECK_EQUAL(orion_notice_decode(&n, sizeof(n), &m, why, sizeof(why)), ORION_PROTOCOL);
    n.kind = 0;
    CHECK_EQUAL(orion_notice_decode(&n, sizeof(n), &m, why, sizeof(why)), ORION_PROTOCOL);
    n.kind = ORION_NOTICE_EXTENT;
    n.bytes = 0;
    CHECK_EQUAL(orion_notice_decode(&n, sizeof(n), &m, why, sizeof(why)), ORION_PROTOCOL);
    for (size_t i = 0; i < sizeof(n); i++)
        CHECK(orion_notice_decode(&n, i, &m, why, sizeof(why)) != ORION_OK);
}

static void nonsense_in_a_redirect_is_refused(void)
{
    orion_redirect_t r, q;
    orion_redirect_init(&r);
    CHECK_EQUAL(orion_redirect_decode(&r, sizeof(r), &q, why, sizeof(why)), ORION_PROTOCOL);
    CHECK(strstr(why, "leads nowhere") != NULL);
    memset(r.address, 'a', sizeof(r.address));
    memset(r.token, 't', sizeof(r.token));
    CHECK_EQUAL(orion_redirect_decode(&r, sizeof(r), &q, why, sizeof(why)), ORION_OK);
    CHECK_EQUAL(strlen(q.address), sizeof(q.address) - 1);
    CHECK_EQUAL(strlen(q.token), sizeof(q.token) - 1);
    orion_field_set(r.local, sizeof(r.local), "not a path");
    CHECK_EQUAL(orion_redirect_decode(&r, sizeof(r), &q, why, sizeof(why)), ORION_PROTOCOL);
    orion_field_set(r.local, sizeof(r.local), "/run/orion/orion.sock");
    CHECK_EQUAL(orion_redirect_decode(&r, sizeof(r), &q, why, sizeof(why)), ORION_OK);
    r.version++;
    CHECK_EQUAL(orion_redirect_decode(&r, sizeof(r), &q, why, sizeof(why)), ORION_VERSION);
    r.version--;
    r.magic = ORION_WELCOME_MAGIC;
    CHECK_EQUAL(orion_redirect_decode(&r, sizeof(r), &q, why, sizeof(why)), ORION_PROTOCOL);
    for (size_t n = 0; n < sizeof(r); n++)
        CHECK(orion_redirect_decode(&r, n, &q, why, sizeof(why)) != ORION_OK);
}

static void fields_are_cut_and_terminated(void)
{
    char field[4] = "zzz";
    orion_field_set(field, sizeof(field), "abcdef");
    CHECK(strcmp(field, "abc") == 0);
    orion_field_set(field, sizeof(field), "");
    CHECK_EQUAL(field[0] | field[1] | field[2] | field[3], 0);
}

CHECK_MAIN(CASE(a_hello_survives_the_wire), CASE(a_hello_of_any_other_length_is_refused),
           CASE(another_version_is_named), CASE(every_version_that_is_served_is_understood),
           CASE(nonsense_in_a_hello_is_refused), CASE(strings_end_within_their_fields),
           CASE(nonsense_in_a_welcome_is_refused), CASE(nonsense_in_a_notice_is_refused),
           CASE(nonsense_in_a_redirect_is_refused), CASE(fields_are_cut_and_terminated))
