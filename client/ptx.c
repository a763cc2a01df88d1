/* SPDX-License-Identifier: Apache-2.0 */
/* How long PTX text is: up to and including its NUL, provided it looks like PTX. */
#include "image.h"

#include <string.h>
#include <unistd.h>

/* Finds the end of the text without touching a page that is not mapped. */
static int find_end(const char *text, size_t limit, size_t *length_p)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), at = 0;
    while (at < limit) {
        size_t span = page - ((uintptr_t)(text + at) & (page - 1));
        if (span > limit - at)
            span = limit - at;
        if (!orion_image_readable(text + at, span))
            return 0;
        const char *end = memchr(text + at, 0, span);
        if (end) {
            *length_p = (size_t)(end - text);
            return 1;
        }
        at += span;
    }
    *length_p = limit;
    return limit < ORION_IMAGE_LIMIT; /* a given length ends the text as well */
}

static size_t skip_blanks_and_comments(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        if (strchr(" \t\r\n\f\v", text[at])) {
            at++;
        } else if (at + 1 < length && text[at] == '/' && text[at + 1] == '/') {
            while (at < length && text[at] != '\n')
                at++;
        } else if (at + 1 < length && text[at] == '/' && text[at + 1] == '*') {
            at += 2;
            while (at + 1 < length && !(text[at] == '*' && text[at + 1] == '/'))
                at++;
            at = at + 2 < length ? at + 2 : length;
        } else {
            break;
        }
    }
    return at;
}

orion_image_status_t orion_ptx_read(orion_image_t *image, const void *code, size_t limit)
{
    const char *text = code;
    size_t length;

    if (limit > ORION_IMAGE_LIMIT)
        limit = ORION_IMAGE_LIMIT;
    /* Look at the beginning before searching for the end: garbage need not have one. */
    unsigned char first = (unsigned char)text[0];
    if (first != '.' && first != '/' && !(first && strchr(" \t\r\n\f\v", first)))
        return orion_image_fail(
            image, ORION_IMAGE_INVALID,
            "module image is no fatbin, no cubin and no PTX text (it begins with 0x%02x%02x%02x%02x)", first,
            (unsigned char)text[1], (unsigned char)text[2], (unsigned char)text[3]);
    if (!find_end(text, limit, &length))
        return orion_image_fail(image, ORION_IMAGE_INVALID, "PTX text has no terminating NUL");
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < ' ' && !strchr("\t\r\n\f\v", c))
            return orion_image_fail(image, ORION_IMAGE_INVALID, "PTX text has a control byte 0x%02x at offset %zu", c,
                                    i);
    }
    size_t start = skip_blanks_and_comments(text, length);
    if (length - start < 8 || memcmp(text + start, ".version", 8))
        return orion_image_fail(image, ORION_IMAGE_INVALID, "PTX text does not begin with .version");
    image->kind = ORION_IMAGE_PTX;
    orion_image_status_t status = orion_image_add(image, text, length);
    return status ? status : orion_image_add(image, "", 1);
}
