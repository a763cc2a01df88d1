/* SPDX-License-Identifier: Apache-2.0 */
/* Decides what an image is by its first four bytes and collects the parts that go to the server. */
#define _GNU_SOURCE
#include "image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define PROBES 512

/* Where the first call is not allowed: pages that are mapped, whatever is behind them. */
static int mapped(uintptr_t at, uintptr_t end, size_t page)
{
    unsigned char resident[PROBES];
    while (at < end) {
        size_t span = end - at < PROBES * page ? end - at : PROBES * page;
        if (mincore((void *)at, span, resident) != 0)
            return 0;
        at += span;
    }
    return 1;
}

/* Whether [data, data + bytes) can be read. A header may promise more than its owner has in memory; having the kernel
 * read a byte of each page first turns what would be a crash of the application into CUDA_ERROR_INVALID_IMAGE. */
int orion_image_readable(const void *data, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t at = (uintptr_t)data, end = at + bytes;
    struct iovec probes[PROBES];
    char bytes_read[PROBES];

    if (end < at)
        return 0;
    while (at < end) {
        unsigned count = 0;
        uintptr_t next = at;
        for (; count < PROBES && next < end; count++) {
            probes[count] = (struct iovec){(void *)next, 1};
            next = (next & ~(uintptr_t)(page - 1)) + page;
            if (next == 0)
                return 0;
        }
        struct iovec to = {bytes_read, count};
        ssize_t n = process_vm_readv(getpid(), &to, 1, probes, count, 0);
        if (n < 0 && (errno == EPERM || errno == ENOSYS))
            return mapped(at & ~(uintptr_t)(page - 1), end, page);
        if (n != (ssize_t)count)
            return 0;
        at = next;
    }
    return 1;
}

orion_image_status_t orion_image_fail(orion_image_t *image, orion_image_status_t status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(image->why, sizeof image->why, format, arguments);
    va_end(arguments);
    return status;
}

orion_image_status_t orion_image_add(orion_image_t *image, const void *data, size_t bytes)
{
    if (image->count == image->capacity) {
        size_t capacity = image->capacity ? 2 * image->capacity : 8;
        orion_image_part_t *parts = realloc(image->parts, capacity * sizeof *parts);
        if (!parts)
            return orion_image_fail(image, ORION_IMAGE_NO_MEMORY, "no memory for the parts of a module image");
        image->parts = parts;
        image->capacity = capacity;
    }
    if (bytes > ORION_IMAGE_LIMIT - image->bytes)
        return orion_image_fail(image, ORION_IMAGE_TOO_BIG,
                                "module image is larger than %zu MiB; build it for fewer architectures",
                                ORION_IMAGE_LIMIT >> 20);
    image->parts[image->count++] = (orion_image_part_t){data, bytes};
    image->bytes += bytes;
    return ORION_IMAGE_OK;
}

orion_image_status_t orion_image_read(orion_image_t *image, const void *code, size_t limit, orion_image_target_t target)
{
    memset(image, 0, sizeof *image);
    if (limit < 4 || !orion_image_readable(code, 4))
        return orion_image_fail(image, ORION_IMAGE_INVALID, "module image is shorter than four bytes");
    switch (orion_read_u32(code)) {
    case ORION_FATBIN_WRAPPER_MAGIC:
        if (limit != SIZE_MAX) /* it came from a file: the addresses in it are nobody's */
            return orion_image_fail(image, ORION_IMAGE_INVALID,
                                    "file begins with a fatbin wrapper, which only a running program can have");
        return orion_fatbin_wrapper_read(image, code, target);
    case ORION_FATBIN_MAGIC:
        return orion_fatbin_read(image, code, limit, target);
    case ORION_ELF_MAGIC:
        return orion_elf_read(image, code, limit);
    default:
        return orion_ptx_read(image, code, limit);
    }
}

orion_image_status_t orion_image_keep(orion_image_t *image)
{
    if (image->copy)
        return ORION_IMAGE_OK;
    uint8_t *copy = malloc(image->bytes ? image->bytes : 1);
    if (!copy)
        return orion_image_fail(image, ORION_IMAGE_NO_MEMORY, "no memory for a copy of a module image");
    size_t at = 0;
    for (size_t i = 0; i < image->count; i++) {
        memcpy(copy + at, image->parts[i].data, image->parts[i].bytes);
        at += image->parts[i].bytes;
    }
    image->copy = copy;
    image->parts[0] = (orion_image_part_t){copy, image->bytes};
    image->count = 1;
    return ORION_IMAGE_OK;
}

void orion_image_fini(orion_image_t *image)
{
    for (size_t i = 0; i < image->header_count; i++)
        free(image->headers[i]);
    free(image->parts);
    free(image->copy);
    memset(image, 0, sizeof *image);
}
