/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a module image that a program hands to the driver: fatbins, wrappers around them, cubins, PTX. The first
 * byte says whether its length is known. What is taken of it can be read and is as long as it says. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "image.h"

#define ROOM 65536u
#define BEYOND (2 * (size_t)ORION_IMAGE_LIMIT) /* an offset may name what lies so far behind the image */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int condition)
{
    if (!condition)
        abort();
}

/* Directly before memory that may not be touched, as far as an image can reach: a length that is not known ends there, and
 * what else this process has mapped is not taken for a part of it. */
static uint8_t *place(const uint8_t *data, size_t size)
{
    static uint8_t *room;
    if (room == NULL) {
        room = mmap(NULL, ROOM + BEYOND, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        need(room != MAP_FAILED && mprotect(room, ROOM, PROT_READ | PROT_WRITE) == 0);
    }
    if (size > 0)
        memcpy(room + ROOM - size, data, size);
    return room + ROOM - size;
}

static void look(const void *code, size_t limit)
{
    static volatile uint8_t sink;
    orion_image_t image;
    size_t total = 0;
    const orion_image_status_t status = orion_image_read(&image, code, limit, (orion_image_target_t){80});
    if (status == ORION_IMAGE_OK) {
        need(image.count > 0 && image.bytes <= ORION_IMAGE_LIMIT);
        for (size_t i = 0; i < image.count; i++) {
            for (size_t at = 0; at < image.parts[i].bytes; at++)
                sink = ((const uint8_t *)image.parts[i].data)[at];
            total += image.parts[i].bytes;
        }
        need(total == image.bytes && orion_image_keep(&image) == ORION_IMAGE_OK && image.bytes == total);
    } else {
        need(image.why[0] != '\0' && strnlen(image.why, sizeof(image.why)) < sizeof(image.why));
    }
    (void)sink;
    orion_image_fini(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > ROOM)
        return 0;
    const uint8_t how = *data++;
    size--;
    if (how & 1) { /* exactly as long as it is: the sanitizer watches both ends */
        look(data, size);
        return 0;
    }
    const uint8_t *code = place(data, size);
    const void *const objects[] = {code, code + size / 2, NULL};
    const struct {
        uint32_t magic, version;
        const void *fatbin;
        const void *const *objects;
    } wrapper = {ORION_FATBIN_WRAPPER_MAGIC, how >> 2 & 3, code, objects};
    if (how & 2)
        look(&wrapper, SIZE_MAX);
    else
        look(code, SIZE_MAX);
    return 0;
}
