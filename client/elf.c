/* SPDX-License-Identifier: Apache-2.0 */
/* How long a cubin is: the furthest end of its headers and sections. Program headers come last in a cubin. */
#include "image.h"

#include <elf.h>
#include <string.h>

#define MACHINE_CUDA 190

static int reaches(uint64_t offset, uint64_t bytes, size_t limit, size_t *length)
{
    if (offset > limit || bytes > limit - offset)
        return 0;
    if (offset + bytes > *length)
        *length = offset + bytes;
    return 1;
}

orion_image_status_t orion_elf_read(orion_image_t *image, const void *code, size_t limit)
{
    Elf64_Ehdr header;
    size_t length = sizeof header;

    if (limit > ORION_IMAGE_LIMIT)
        limit = ORION_IMAGE_LIMIT;
    if (limit < sizeof header || !orion_image_readable(code, sizeof header))
        return orion_image_fail(image, ORION_IMAGE_INVALID, "cubin is truncated within its header");
    memcpy(&header, code, sizeof header);
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != MACHINE_CUDA)
        return orion_image_fail(image, ORION_IMAGE_INVALID, "ELF image is no 64-bit CUDA cubin (machine %u)",
                                header.e_machine);
    if ((header.e_shnum && header.e_shentsize != sizeof(Elf64_Shdr)) ||
        (header.e_phnum && header.e_phentsize != sizeof(Elf64_Phdr)))
        return orion_image_fail(image, ORION_IMAGE_INVALID, "cubin has header entries of unknown size");
    if (header.e_phnum && !reaches(header.e_phoff, (uint64_t)header.e_phnum * header.e_phentsize, limit, &length))
        return orion_image_fail(image, ORION_IMAGE_INVALID, "cubin's program headers lie outside of it");
    if (header.e_shnum) {
        size_t table_bytes = (size_t)header.e_shnum * header.e_shentsize;
        if (!reaches(header.e_shoff, table_bytes, limit, &length) ||
            !orion_image_readable((const uint8_t *)code + header.e_shoff, table_bytes))
            return orion_image_fail(image, ORION_IMAGE_INVALID, "cubin's section headers lie outside of it");
        for (unsigned i = 0; i < header.e_shnum; i++) {
            Elf64_Shdr section;
            memcpy(&section, (const uint8_t *)code + header.e_shoff + (size_t)i * sizeof section, sizeof section);
            if (section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL &&
                !reaches(section.sh_offset, section.sh_size, limit, &length))
                return orion_image_fail(image, ORION_IMAGE_INVALID, "cubin's section %u lies outside of it", i);
        }
    }
    if (!orion_image_readable(code, length))
        return orion_image_fail(image, ORION_IMAGE_INVALID,
                                "cubin is truncated: its headers promise %zu bytes, not all are in memory", length);
    image->kind = ORION_IMAGE_ELF;
    return orion_image_add(image, code, length);
}
