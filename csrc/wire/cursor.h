/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded cursor over a byte buffer. Every length and field of a message goes through one. A cursor that failed
 * stays failed, reads give zeros or NULL, writes do nothing; it is checked once at the end.
 *
 * Generated code takes whole parts (orion_cursor_take: a fixed struct, then variable parts, each padded to 8).
 * Hand-written code may also get and put single packed fields. */
#ifndef ORION_WIRE_CURSOR_H
#define ORION_WIRE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct orion_cursor {
    unsigned char *p, *end;
    bool failed;
} orion_cursor_t;

/* For reading. One type reads and writes; a cursor made from const data is never written through. */
static inline orion_cursor_t orion_cursor_over(const void *data, size_t bytes)
{
    unsigned char *start = (unsigned char *)(uintptr_t)data;
    orion_cursor_t c = {start, start + bytes, false};
    return c;
}

static inline orion_cursor_t orion_cursor_writer(void *data, size_t bytes)
{
    return orion_cursor_over(data, bytes);
}

static inline bool orion_cursor_ok(const orion_cursor_t *c)
{
    return !c->failed;
}
static inline size_t orion_cursor_left(const orion_cursor_t *c)
{
    return c->failed ? 0 : (size_t)(c->end - c->p);
}

/* Not failed and everything read: what a decoder checks at its end. */
static inline bool orion_cursor_done(const orion_cursor_t *c)
{
    return !c->failed && c->p == c->end;
}

/* The next `bytes` bytes in place, packed; NULL and failed when fewer are left. */
static inline unsigned char *orion_cursor_advance(orion_cursor_t *c, size_t bytes)
{
    if (c->failed || bytes > (size_t)(c->end - c->p)) {
        c->failed = true;
        return NULL;
    }
    unsigned char *at = c->p;
    c->p += bytes;
    return at;
}

/* The next `bytes` bytes in place; the cursor moves on over the padding to a multiple of 8, clamped to the end.
 * NULL and failed when fewer are left. Whatever is taken from an 8-aligned buffer is aligned. */
static inline void *orion_cursor_take(orion_cursor_t *c, size_t bytes)
{
    unsigned char *at = orion_cursor_advance(c, bytes);
    if (at == NULL)
        return NULL;
    size_t padding = (size_t)(-bytes & 7u), left = (size_t)(c->end - c->p);
    c->p += padding < left ? padding : left;
    return at;
}

#define ORION_CURSOR_FIELD(name, type)                                        \
    static inline type orion_cursor_get_##name(orion_cursor_t *c)             \
    {                                                                         \
        type value = 0;                                                       \
        const unsigned char *at = orion_cursor_advance(c, sizeof(value));     \
        if (at != NULL)                                                       \
            memcpy(&value, at, sizeof(value));                                \
        return value;                                                         \
    }                                                                         \
    static inline void orion_cursor_put_##name(orion_cursor_t *c, type value) \
    {                                                                         \
        unsigned char *at = orion_cursor_advance(c, sizeof(value));           \
        if (at != NULL)                                                       \
            memcpy(at, &value, sizeof(value));                                \
    }

ORION_CURSOR_FIELD(u8, uint8_t)
ORION_CURSOR_FIELD(u16, uint16_t)
ORION_CURSOR_FIELD(u32, uint32_t)
ORION_CURSOR_FIELD(u64, uint64_t)
ORION_CURSOR_FIELD(i32, int32_t)
ORION_CURSOR_FIELD(i64, int64_t)
ORION_CURSOR_FIELD(f32, float)
ORION_CURSOR_FIELD(f64, double)
#undef ORION_CURSOR_FIELD

/* Bytes in place: valid as long as the buffer is. NULL when the cursor failed. */
static inline const void *orion_cursor_get_bytes(orion_cursor_t *c, size_t n)
{
    return orion_cursor_advance(c, n);
}

static inline void orion_cursor_copy_out(orion_cursor_t *c, void *to, size_t n)
{
    const unsigned char *at = orion_cursor_advance(c, n);
    if (at != NULL && n != 0)
        memcpy(to, at, n);
}

static inline void orion_cursor_put_bytes(orion_cursor_t *c, const void *from, size_t n)
{
    unsigned char *at = orion_cursor_advance(c, n);
    if (at != NULL && n != 0)
        memcpy(at, from, n);
}

/* A string travels as u32 length (without the NUL), the bytes, one NUL. A missing or early NUL fails the cursor. */
static inline const char *orion_cursor_get_string(orion_cursor_t *c, uint32_t *length_p)
{
    uint32_t length = orion_cursor_get_u32(c);
    const char *at = (const char *)orion_cursor_advance(c, (size_t)length + 1);
    if (at == NULL)
        return NULL;
    if (at[length] != '\0' || memchr(at, '\0', length) != NULL) {
        c->failed = true;
        return NULL;
    }
    if (length_p != NULL)
        *length_p = length;
    return at;
}

static inline void orion_cursor_put_string(orion_cursor_t *c, const char *text)
{
    size_t length = strlen(text);
    if (length >= UINT32_MAX) {
        c->failed = true;
        return;
    }
    orion_cursor_put_u32(c, (uint32_t)length);
    orion_cursor_put_bytes(c, text, length + 1);
}

#endif
