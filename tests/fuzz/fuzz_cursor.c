/* SPDX-License-Identifier: Apache-2.0 */
/* The first half of the input says what to read, the second half is read: never outside, and failed for good once
 * failed. */
#include <stdlib.h>
#include <string.h>

#include "wire/cursor.h"

static volatile uint64_t sink;

static void touch(const void *p, size_t n)
{
    const uint8_t *bytes = p;
    for (size_t i = 0; p != NULL && i < n; i++)
        sink += bytes[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t half = size / 2;
    orion_cursor_t c = orion_cursor_over(data + half, size - half);
    for (size_t i = 0; i + 1 < half; i += 2) {
        bool failed = !orion_cursor_ok(&c);
        size_t n = data[i + 1] == 255 ? SIZE_MAX - data[i] : data[i + 1];
        uint32_t length = 0;
        switch (data[i] % 8) {
        case 0:
            sink += orion_cursor_get_u8(&c);
            break;
        case 1:
            sink += orion_cursor_get_u16(&c);
            break;
        case 2:
            sink += orion_cursor_get_u32(&c);
            break;
        case 3:
            sink += orion_cursor_get_u64(&c);
            break;
        case 4:
            touch(orion_cursor_get_bytes(&c, n), n);
            break;
        case 5:
            touch(orion_cursor_take(&c, n), n);
            break;
        case 6: {
            const char *text = orion_cursor_get_string(&c, &length);
            if (text != NULL && strlen(text) != length)
                abort();
            break;
        }
        default:
            sink += orion_cursor_left(&c);
        }
        if (failed && orion_cursor_ok(&c))
            abort();
        if (c.p > c.end)
            abort();
    }
    return 0;
}
