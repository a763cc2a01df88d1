/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels, parameter layouts and variables of a cubin: an ELF file whose kernels are function symbols with a bit of
 * their own and whose .nv.info.<kernel> sections list the parameters. */
#include "layout.h"

#include <elf.h>
#include <string.h>

#define MACHINE_CUDA 190
#define SYMBOL_IS_KERNEL 0x10 /* in st_other */
#define INFO_PREFIX ".nv.info."
#define ATTRIBUTE_MAX_THREADS 0x05
#define ATTRIBUTE_PARAM 0x17    /* size in the upper 14 bits of its last word */
#define ATTRIBUTE_PARAM_V2 0x45 /* size is the last word */
#define FORMAT_WITH_DATA 4

typedef struct cubin {
    const unsigned char *image;
    size_t bytes;
    Elf64_Ehdr header;
    const unsigned char *names; /* section names */
    size_t names_bytes;
} cubin_t;

static int section(const cubin_t *c, unsigned index, Elf64_Shdr *s)
{
    if (index >= c->header.e_shnum)
        return 0;
    memcpy(s, c->image + c->header.e_shoff + (size_t)index * sizeof *s, sizeof *s);
    return s->sh_type == SHT_NOBITS || (s->sh_offset <= c->bytes && s->sh_size <= c->bytes - s->sh_offset);
}

/* A NUL-terminated string inside a table; NULL: none begins and ends there. */
static const char *string_at(const unsigned char *table, size_t bytes, size_t at)
{
    return at < bytes && memchr(table + at, 0, bytes - at) ? (const char *)table + at : NULL;
}

static int open_cubin(cubin_t *c, const unsigned char *image, size_t bytes)
{
    *c = (cubin_t){.image = image, .bytes = bytes};
    if (bytes < sizeof c->header)
        return 0;
    memcpy(&c->header, image, sizeof c->header);
    const Elf64_Ehdr *h = &c->header;
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64 ||
        h->e_machine != MACHINE_CUDA || h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shoff > bytes ||
        h->e_shnum > (bytes - h->e_shoff) / sizeof(Elf64_Shdr))
        return 0;
    Elf64_Shdr s;
    if (!section(c, h->e_shstrndx, &s) || s.sh_type == SHT_NOBITS)
        return 0;
    c->names = image + s.sh_offset;
    c->names_bytes = s.sh_size;
    return 1;
}

static uint32_t word(const unsigned char *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static uint16_t half(const unsigned char *p)
{
    uint16_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* Parameters are listed in any order: placed by ordinal. */
static void read_info(orion_function_info_t *info, const unsigned char *p, size_t bytes)
{
    uint32_t count = 0, end = 0;
    const unsigned char *stop = p + bytes;
    for (size_t step; stop - p >= 4; p += step) {
        uint8_t format = p[0], attribute = p[1];
        uint16_t length = format == FORMAT_WITH_DATA ? half(p + 2) : 0;
        step = 4 + (size_t)length;
        if (step > (size_t)(stop - p))
            break;
        const unsigned char *data = p + 4;
        if ((attribute == ATTRIBUTE_PARAM || attribute == ATTRIBUTE_PARAM_V2) && length >= 12) {
            uint32_t ordinal = half(data + 4), offset = half(data + 6), size = word(data + 8);
            if (attribute == ATTRIBUTE_PARAM)
                size >>= 18;
            if (ordinal >= ORION_MAX_PARAMS || size > UINT16_MAX) {
                info->param_count = ORION_PARAMS_UNKNOWN;
                info->param_bytes = 0;
                return;
            }
            info->params[ordinal] = (orion_param_info_t){.offset = (uint16_t)offset, .bytes = (uint16_t)size};
            count = ordinal + 1 > count ? ordinal + 1 : count;
            end = offset + size > end ? offset + size : end;
        } else if (attribute == ATTRIBUTE_MAX_THREADS && length >= 12) {
            uint64_t threads = (uint64_t)(word(data) & 0xffff) * (word(data + 4) & 0xffff) * (word(data + 8) & 0xffff);
            if (threads >= 1 && threads <= 1024)
                info->max_threads = (int32_t)threads;
        }
    }
    info->param_count = count;
    info->param_bytes = end;
}

static void read_kernel(orion_layout_t *layout, const cubin_t *c, const char *name)
{
    orion_layout_kernel_t *kernel = orion_layout_add_kernel(layout, name, strlen(name));
    for (unsigned i = 0; kernel && i < c->header.e_shnum; i++) {
        Elf64_Shdr s;
        const char *title = section(c, i, &s) ? string_at(c->names, c->names_bytes, s.sh_name) : NULL;
        if (title && s.sh_type != SHT_NOBITS && strncmp(title, INFO_PREFIX, strlen(INFO_PREFIX)) == 0 &&
            strcmp(title + strlen(INFO_PREFIX), name) == 0) {
            read_info(&kernel->info, c->image + s.sh_offset, s.sh_size);
            return;
        }
    }
}

static void read_symbol(orion_layout_t *layout, const cubin_t *c, const Elf64_Sym *symbol, const char *name)
{
    Elf64_Shdr home;
    int type = ELF64_ST_TYPE(symbol->st_info);
    if (type == STT_FUNC && (symbol->st_other & SYMBOL_IS_KERNEL)) {
        read_kernel(layout, c, name);
    } else if (type == STT_OBJECT && symbol->st_shndx != SHN_UNDEF && section(c, symbol->st_shndx, &home)) {
        const char *title = string_at(c->names, c->names_bytes, home.sh_name);
        int constant = title && strncmp(title, ".nv.constant3", 13) == 0;
        if (title && (constant || strncmp(title, ".nv.global", 10) == 0))
            orion_layout_add_global(layout, name, strlen(name), symbol->st_size, home.sh_addralign,
                                    constant ? ORION_GLOBAL_CONSTANT : 0);
    }
}

int orion_layout_read_cubin(orion_layout_t *layout, const unsigned char *image, size_t bytes)
{
    cubin_t c;
    if (!open_cubin(&c, image, bytes))
        return 0;
    for (unsigned i = 0; i < c.header.e_shnum; i++) {
        Elf64_Shdr table, strings;
        if (!section(&c, i, &table) || table.sh_type != SHT_SYMTAB || !section(&c, table.sh_link, &strings) ||
            strings.sh_type == SHT_NOBITS)
            continue;
        for (size_t at = 0; table.sh_size - at >= sizeof(Elf64_Sym) && !layout->failed; at += sizeof(Elf64_Sym)) {
            Elf64_Sym symbol;
            memcpy(&symbol, image + table.sh_offset + at, sizeof symbol);
            const char *name = string_at(image + strings.sh_offset, strings.sh_size, symbol.st_name);
            if (name && *name)
                read_symbol(layout, &c, &symbol, name);
        }
    }
    return 1;
}
