/* SPDX-License-Identifier: Apache-2.0 */
/* The null device's reader of images: layouts of PTX and cubins, and no harm from damaged ones. */
#include "devices.h"

#include "null/layout.h"

#include <elf.h>
#include <stddef.h>

static const char ptx[] =
    "//\n.version 8.0\n.target sm_80\n.address_size 64\n"
    ".extern .func  (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);\n"
    ".visible .const .align 8 .b8 table[2][32];\n"
    ".global .align 4 .u32 counter = 5;\n"
    ".extern .global .u32 elsewhere;\n"
    ".global .attribute(.managed) .align 16 .v4 .f32 vec[3];\n"
    ".global .align 1 .b8 text[4] = {104, 105, 0x0, 10};\n"
    "/* .entry hidden( */\n"
    ".visible .entry mixed(\n .param .u8 mixed_0,\n .param .u64 .ptr .global .align 1 mixed_1,\n"
    " .param .align 8 .b8 mixed_2[24],\n .param .u16 mixed_3,\n .param .align 4 .b8 mixed_4[12]\n)\n"
    ".maxntid 16, 8, 2\n{\n .reg .pred %p<2>;\n .shared .align 4 .b8 s[64];\n { mov.b64 {%r1,%r2}, %rd1; }\n"
    " .pragma \"nounroll } {\";\n ret;\n}\n"
    ".func helper(.param .b32 x) { ret; }\n"
    ".visible .entry none()\n{ ret; }\n.entry bare { ret; }\n";

static orion_function_info_t info;

static CUresult function_of(const orion_image_t *image, const char *name)
{
    char log[128];
    return orion_layout_reader.function(NULL, image->id, name, NULL, &info, log, sizeof log);
}

static void ptx_layouts_are_read(void)
{
    static const uint16_t offsets[] = {0, 8, 16, 40, 44}, sizes[] = {1, 8, 24, 2, 12};
    orion_image_t image;
    CHECK_EQUAL(orion_layout_reader.load(NULL, ptx, sizeof ptx, &image, NULL, 0), CUDA_SUCCESS);
    CHECK_EQUAL(image.kernel_count, 3);
    CHECK_EQUAL(function_of(&image, "mixed"), CUDA_SUCCESS);
    CHECK_EQUAL(info.param_count, 5);
    CHECK_EQUAL(info.param_bytes, 56);
    CHECK_EQUAL(info.max_threads, 256);
    for (int i = 0; i < 5; i++)
        CHECK(info.params[i].offset == offsets[i] && info.params[i].bytes == sizes[i]);
    CHECK_EQUAL(function_of(&image, "none"), CUDA_SUCCESS);
    CHECK_EQUAL(info.param_count, 0);
    CHECK_EQUAL(function_of(&image, "bare"), CUDA_SUCCESS);
    CHECK_EQUAL(function_of(&image, "hidden"), CUDA_ERROR_NOT_FOUND);
    CHECK_EQUAL(image.global_count, 4);
    CHECK(strcmp(image.globals[0].name, "table") == 0 && image.globals[0].bytes == 64);
    CHECK_EQUAL(image.globals[0].flags, ORION_GLOBAL_CONSTANT);
    CHECK(image.globals[1].offset == 64 && image.globals[1].bytes == 4);
    CHECK(strcmp(image.globals[2].name, "vec") == 0 && image.globals[2].bytes == 48);
    CHECK(image.globals[2].offset % 16 == 0 && image.globals[2].flags == ORION_GLOBAL_MANAGED);
    CHECK_EQUAL(image.globals[3].bytes, 4);
    orion_layout_reader.unload(NULL, image.id);
}

/* A cubin of one kernel "k" (u64 at 0, 12 bytes at 8) and one variable "g" of 40 bytes. */
typedef struct cubin {
    Elf64_Ehdr header;
    char names[64];
    char symbols_names[8];
    Elf64_Sym symbols[3];
    struct {
        uint8_t format, attribute;
        uint16_t bytes;
        uint32_t index;
        uint16_t ordinal, offset;
        uint32_t size;
    } params[2];
    Elf64_Shdr sections[6];
} cubin_t;

static cubin_t make_cubin(void)
{
    cubin_t c = {.header = {.e_machine = 190,
                            .e_shoff = offsetof(cubin_t, sections),
                            .e_shentsize = sizeof(Elf64_Shdr),
                            .e_shnum = 6,
                            .e_shstrndx = 1},
                 .names = "\0.nv.info.k\0.nv.global",
                 .symbols_names = "\0k\0g"};
    memcpy(c.header.e_ident, ELFMAG, SELFMAG);
    c.header.e_ident[EI_CLASS] = ELFCLASS64;
    c.symbols[1] = (Elf64_Sym){
        .st_name = 1, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_other = 0x10, .st_shndx = 4};
    c.symbols[2] = (Elf64_Sym){
        .st_name = 3, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), .st_shndx = 5, .st_size = 40};
    c.params[0].format = c.params[1].format = 4;
    c.params[0].bytes = c.params[1].bytes = 12;
    c.params[0].attribute = 0x17;
    c.params[0].ordinal = 1;
    c.params[0].offset = 8;
    c.params[0].size = 12u << 18 | 0x1f000;
    c.params[1].attribute = 0x45;
    c.params[1].size = 8;
    c.sections[1] = (Elf64_Shdr){
        .sh_type = SHT_STRTAB, .sh_offset = offsetof(cubin_t, names), .sh_size = sizeof c.names};
    c.sections[2] = (Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = offsetof(cubin_t, symbols_names), .sh_size = 8};
    c.sections[3] = (Elf64_Shdr){
        .sh_type = SHT_SYMTAB, .sh_offset = offsetof(cubin_t, symbols), .sh_size = sizeof c.symbols, .sh_link = 2};
    c.sections[4] = (Elf64_Shdr){
        .sh_name = 1, .sh_type = 0x70000000, .sh_offset = offsetof(cubin_t, params), .sh_size = sizeof c.params};
    c.sections[5] = (Elf64_Shdr){.sh_name = 12, .sh_type = SHT_NOBITS, .sh_size = 40, .sh_addralign = 8};
    return c;
}

static void check_cubin(const void *bytes, size_t size)
{
    orion_image_t image;
    CHECK_EQUAL(orion_layout_reader.load(NULL, bytes, size, &image, NULL, 0), CUDA_SUCCESS);
    CHECK_EQUAL(function_of(&image, "k"), CUDA_SUCCESS);
    CHECK_EQUAL(info.param_count, 2);
    CHECK_EQUAL(info.param_bytes, 20);
    CHECK_EQUAL(info.params[1].offset, 8);
    CHECK_EQUAL(info.params[0].bytes, 8);
    CHECK_EQUAL(image.global_count, 1);
    CHECK_EQUAL(image.globals[0].bytes, 40);
    orion_layout_reader.unload(NULL, image.id);
}

static void put_entry(unsigned char *p, uint16_t kind, uint64_t payload, uint32_t compressed, uint64_t flags)
{
    uint32_t header = 64;
    memcpy(p, &kind, 2);
    memcpy(p + 4, &header, 4);
    memcpy(p + 8, &payload, 8);
    memcpy(p + 16, &compressed, 4);
    memcpy(p + 40, &flags, 8);
}

static void cubin_and_fatbin_layouts_are_read(void)
{
    cubin_t c = make_cubin();
    check_cubin(&c, sizeof c);
    static unsigned char fatbin[16 + 64 + 32 + 64 + sizeof(cubin_t)];
    uint32_t magic = 0xba55ed50;
    memcpy(fatbin, &magic, 4);
    put_entry(fatbin + 16, 1, 32, 30, 0x8011);
    put_entry(fatbin + 16 + 96, 2, sizeof c, 0, 0x11);
    memcpy(fatbin + 16 + 96 + 64, &c, sizeof c);
    check_cubin(fatbin, sizeof fatbin);
}

static void unreadable_images_answer_every_name(void)
{
    orion_image_t image;
    CHECK_EQUAL(orion_layout_reader.load(NULL, "\x50\xed\x55\xba junk", 9, &image, NULL, 0), CUDA_SUCCESS);
    CHECK_EQUAL(function_of(&image, "anything"), CUDA_SUCCESS);
    CHECK_EQUAL(info.param_count, ORION_PARAMS_UNKNOWN);
    orion_layout_reader.unload(NULL, image.id);
    CHECK_EQUAL(orion_layout_reader.load(NULL, "", 0, &image, NULL, 0), CUDA_SUCCESS);
    orion_layout_reader.unload(NULL, image.id);
}

/* Exactly sized copies, so that a sanitizer sees a byte too far. */
static void damage(const void *good, size_t bytes, uint64_t seed)
{
    for (size_t round = 0; round < bytes + 20000; round++) {
        size_t size = round < bytes ? round : bytes;
        unsigned char *image = malloc(size ? size : 1);
        memcpy(image, good, size);
        for (unsigned i = 0; round >= bytes && i < round % 5 + 1; i++)
            image[check_random(&seed) % size] = (unsigned char)check_random(&seed);
        orion_image_t out;
        if (orion_layout_reader.load(NULL, image, size, &out, NULL, 0) == CUDA_SUCCESS) {
            function_of(&out, "mixed");
            orion_layout_reader.unload(NULL, out.id);
        }
        free(image);
    }
}

static void damaged_images_do_no_harm(void)
{
    cubin_t c = make_cubin();
    damage(ptx, sizeof ptx, 5);
    damage(&c, sizeof c, 6);
}

CHECK_MAIN(CASE(ptx_layouts_are_read), CASE(cubin_and_fatbin_layouts_are_read),
           CASE(unreadable_images_answer_every_name), CASE(damaged_images_do_no_harm))
