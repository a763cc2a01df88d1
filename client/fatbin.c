/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fatbins: a header and entries back to back. What goes to the server is the same with only the entries from which
 * the device may choose. A version 2 wrapper (relocatable device code) brings several fatbins that are to be linked;
 * they are sent one behind the other, the linked result first.
 */
#include "image.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES 16
#define ENTRY_HEADER_LEAST 64
#define ENTRY_HEADER_MOST 65536
#define OBJECTS_MOST 4096
#define BODY_MOST ((uint64_t)4 << 30)

enum { ENTRY_PTX = 1, ENTRY_ELF = 2 };
enum { FLAG_ARCH_SPECIFIC = 0x100000, FLAG_FAMILY = 0x200000 };

static int is_candidate(unsigned kind, uint32_t sm, uint64_t flags, orion_image_target_t target)
{
    if (kind != ENTRY_PTX && kind != ENTRY_ELF)
        return 0;
    if (flags & FLAG_ARCH_SPECIFIC)
        return sm == target.sm;
    if (kind == ENTRY_ELF || flags & FLAG_FAMILY)
        return sm / 10 == target.sm / 10 && sm <= target.sm;
    return sm <= target.sm;
}

static orion_image_status_t truncated(orion_image_t *image, uint64_t body)
{
    return orion_image_fail(image, ORION_IMAGE_INVALID,
                            "fatbin is truncated: its header promises %llu bytes, not all are there",
                            (unsigned long long)body);
}

typedef struct {
    uint8_t *header; /* of the reduced fatbin, once it has an entry */
    size_t count;
    uint64_t bytes; /* of its entries */
} kept_t;

/* A copy of a fatbin's header, without entries so far. */
static orion_image_status_t keep_header(orion_image_t *image, const uint8_t *fatbin, uint8_t **header_p)
{
    if (image->header_count == sizeof image->headers / sizeof image->headers[0])
        return orion_image_fail(image, ORION_IMAGE_TOO_BIG, "more than %zu fatbins to link", image->header_count);
    uint8_t *header = malloc(HEADER_BYTES);
    if (!header)
        return orion_image_fail(image, ORION_IMAGE_NO_MEMORY, "no memory for a fatbin header");
    memcpy(header, fatbin, HEADER_BYTES);
    memset(header + 8, 0, 8);
    image->headers[image->header_count++] = header;
    *header_p = header;
    return orion_image_add(image, header, HEADER_BYTES);
}

/* Only what is wanted is touched: the rest of a large file may well stay on disk. */
static orion_image_status_t keep_entry(orion_image_t *image, const uint8_t *fatbin, uint64_t body, const uint8_t *entry,
                                       uint64_t bytes, kept_t *kept)
{
    orion_image_status_t status;
    if (!orion_image_readable(entry, bytes))
        return truncated(image, body);
    if (!kept->header && (status = keep_header(image, fatbin, &kept->header)))
        return status;
    if ((status = orion_image_add(image, entry, bytes)))
        return status;
    kept->count++;
    kept->bytes += bytes;
    return ORION_IMAGE_OK;
}

/* One bare fatbin; *found counts the candidates. PTX that is newer than the device is sent only where there is no
 * other PTX: a GPU's driver ignores it, a device that translates PTX can mostly run it. */
static orion_image_status_t read_one(orion_image_t *image, const uint8_t *code, size_t limit,
                                     orion_image_target_t target, size_t *found)
{
    if (limit < HEADER_BYTES || !orion_image_readable(code, HEADER_BYTES))
        return orion_image_fail(image, ORION_IMAGE_INVALID, "fatbin is truncated within its header");
    uint32_t magic = orion_read_u32(code);
    uint16_t version = orion_read_u16(code + 4), header_bytes = orion_read_u16(code + 6);
    uint64_t body = orion_read_u64(code + 8);
    if (magic != ORION_FATBIN_MAGIC || version != 1 || header_bytes != HEADER_BYTES)
        return orion_image_fail(image, ORION_IMAGE_INVALID, "fatbin header is unknown (magic 0x%08x, version %u)",
                                magic, version);
    if (body > BODY_MOST || body > limit - HEADER_BYTES)
        return truncated(image, body);

    kept_t kept = {0};
    const uint8_t *newer = NULL; /* the oldest PTX that is too new, for a device that has nothing else */
    uint64_t newer_bytes = 0;
    int has_ptx = 0;
    for (uint64_t at = 0; at < body;) {
        const uint8_t *entry = code + HEADER_BYTES + at;
        uint64_t left = body - at;
        if (left < ENTRY_HEADER_LEAST)
            return orion_image_fail(image, ORION_IMAGE_INVALID, "fatbin ends within an entry's header");
        if (!orion_image_readable(entry, ENTRY_HEADER_LEAST))
            return truncated(image, body);
        uint32_t entry_header = orion_read_u32(entry + 4), sm = orion_read_u32(entry + 28);
        uint64_t payload = orion_read_u64(entry + 8), flags = orion_read_u64(entry + 40);
        unsigned kind = orion_read_u16(entry);
        if (entry_header < ENTRY_HEADER_LEAST || entry_header > ENTRY_HEADER_MOST || entry_header > left ||
            payload > left - entry_header || orion_read_u32(entry + 16) > payload)
            return orion_image_fail(image, ORION_IMAGE_INVALID, "fatbin entry at offset %llu reaches beyond the fatbin",
                                    (unsigned long long)at);
        if (is_candidate(kind, sm, flags, target)) {
            has_ptx |= kind == ENTRY_PTX;
            orion_image_status_t status = keep_entry(image, code, body, entry, entry_header + payload, &kept);
            if (status)
                return status;
        } else if (kind == ENTRY_PTX && !(flags & (FLAG_ARCH_SPECIFIC | FLAG_FAMILY)) &&
                   (!newer || sm < orion_read_u32(newer + 28))) {
            newer = entry;
            newer_bytes = entry_header + payload;
        }
        at += entry_header + payload;
    }
    if (newer && !has_ptx) {
        orion_image_status_t status = keep_entry(image, code, body, newer, newer_bytes, &kept);
        if (status)
            return status;
    }
    if (kept.header)
        memcpy(kept.header + 8, &kept.bytes, sizeof kept.bytes);
    *found += kept.count;
    return ORION_IMAGE_OK;
}

static orion_image_status_t finish(orion_image_t *image, size_t found, orion_image_target_t target)
{
    image->kind = ORION_IMAGE_FATBIN;
    if (found)
        return ORION_IMAGE_OK;
    return orion_image_fail(
        image, ORION_IMAGE_NO_BINARY,
        "fatbin has no code for compute capability %u.%u; build it with PTX for that or an older one", target.sm / 10,
        target.sm % 10);
}

orion_image_status_t orion_fatbin_read(orion_image_t *image, const void *code, size_t limit,
                                       orion_image_target_t target)
{
    size_t found = 0;
    orion_image_status_t status = read_one(image, code, limit, target, &found);
    return status ? status : finish(image, found, target);
}

orion_image_status_t orion_fatbin_wrapper_read(orion_image_t *image, const void *code, orion_image_target_t target)
{
    struct {
        uint32_t magic, version;
        const void *fatbin;
        const void *const *objects; /* version 2: NULL-terminated */
    } wrapper;
    size_t found = 0;

    if (!orion_image_readable(code, sizeof wrapper))
        return orion_image_fail(image, ORION_IMAGE_INVALID, "fatbin wrapper is truncated");
    memcpy(&wrapper, code, sizeof wrapper);
    if (wrapper.version != 1 && wrapper.version != 2)
        return orion_image_fail(image, ORION_IMAGE_INVALID, "fatbin wrapper has unknown version %u", wrapper.version);
    if (!wrapper.fatbin)
        return orion_image_fail(image, ORION_IMAGE_INVALID, "fatbin wrapper points to nothing");
    image->from_wrapper = 1;
    orion_image_status_t status = read_one(image, wrapper.fatbin, SIZE_MAX, target, &found);
    /* The linked result has machine code only; a device that wants PTX needs the objects as well. It comes first even
     * if there is nothing in it, so that the server can tell it from them. */
    if (!status && wrapper.version == 2 && wrapper.objects) {
        uint8_t *header;
        if (!found && (status = keep_header(image, wrapper.fatbin, &header)))
            return status;
        for (size_t i = 0; !status; i++) {
            if (i == OBJECTS_MOST || !orion_image_readable(&wrapper.objects[i], sizeof(void *)))
                return orion_image_fail(image, ORION_IMAGE_INVALID, "list of fatbins to link has no end");
            if (!wrapper.objects[i])
                break;
            status = read_one(image, wrapper.objects[i], SIZE_MAX, target, &found);
        }
    }
    return status ? status : finish(image, found, target);
}
