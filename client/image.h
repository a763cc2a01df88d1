/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Module images as applications hand them over: an address without a length. Reading one finds out what it is and
 * how long, keeps only the parts that the device may choose from, and decompresses nothing.
 */
#ifndef ORION_CLIENT_IMAGE_H
#define ORION_CLIENT_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define ORION_IMAGE_LIMIT ((size_t)256 << 20) /* what the server takes in one upload */

typedef enum {
    ORION_IMAGE_OK = 0,
    ORION_IMAGE_INVALID,   /* truncated, garbage, or nothing we know */
    ORION_IMAGE_NO_BINARY, /* well formed, but nothing in it fits the device */
    ORION_IMAGE_TOO_BIG,
    ORION_IMAGE_NO_MEMORY
} orion_image_status_t;

typedef enum { ORION_IMAGE_PTX = 1, ORION_IMAGE_ELF, ORION_IMAGE_FATBIN } orion_image_kind_t;

typedef struct {
    const void *data;
    size_t bytes;
} orion_image_part_t;

typedef struct {
    orion_image_kind_t kind;
    int from_wrapper; /* handed over as the CUDA runtime does it */
    size_t bytes;     /* sum of the parts: what is uploaded */
    orion_image_part_t *parts;
    size_t count, capacity;
    uint8_t *headers[32]; /* rebuilt fatbin headers; parts point to them */
    size_t header_count;
    void *copy; /* set by orion_image_keep() */
    char why[192];
} orion_image_t;

/* What the device can choose from: its compute capability, as 10 * major + minor. */
typedef struct {
    uint32_t sm;
} orion_image_target_t;

/* limit is the number of bytes known to follow, SIZE_MAX when the caller was told none. The parts point into code.
 * The image needs orion_image_fini() whatever the outcome; on failure why holds a sentence. */
orion_image_status_t orion_image_read(orion_image_t *image, const void *code, size_t limit,
                                      orion_image_target_t target);
/* Copies the parts, so that the caller's memory may go away. */
orion_image_status_t orion_image_keep(orion_image_t *image);
void orion_image_fini(orion_image_t *image);

/* For the readers of the single formats. */
int orion_image_readable(const void *data, size_t bytes);
orion_image_status_t orion_image_fail(orion_image_t *image, orion_image_status_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
orion_image_status_t orion_image_add(orion_image_t *image, const void *data, size_t bytes);

orion_image_status_t orion_elf_read(orion_image_t *image, const void *code, size_t limit);
orion_image_status_t orion_ptx_read(orion_image_t *image, const void *code, size_t limit);
orion_image_status_t orion_fatbin_read(orion_image_t *image, const void *code, size_t limit,
                                       orion_image_target_t target);
orion_image_status_t orion_fatbin_wrapper_read(orion_image_t *image, const void *code, orion_image_target_t target);

#define ORION_FATBIN_WRAPPER_MAGIC 0x466243b1u
#define ORION_FATBIN_MAGIC 0xba55ed50u
#define ORION_ELF_MAGIC 0x464c457fu

/* Unaligned little-endian reads. */
static inline uint16_t orion_read_u16(const void *p)
{
    uint16_t value;
    __builtin_memcpy(&value, p, sizeof value);
    return value;
}
static inline uint32_t orion_read_u32(const void *p)
{
    uint32_t value;
    __builtin_memcpy(&value, p, sizeof value);
    return value;
}
static inline uint64_t orion_read_u64(const void *p)
{
    uint64_t value;
    __builtin_memcpy(&value, p, sizeof value);
    return value;
}

#endif
