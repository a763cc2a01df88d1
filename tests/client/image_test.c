/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measuring images. Every image lies before memory that may not be touched: a read beyond what a header promises, or
 * beyond what there is, ends the test.
 */
#include "image.h"

#include <elf.h>
#include <sys/mman.h>

#include "../csrc/check.h"

static const orion_image_target_t sm80 = {80};

/* The bytes, directly before forbidden memory. */
static uint8_t *place(const void *data, size_t bytes)
{
    static uint8_t *room;
    const size_t most = 8192;
    if (!room) {
        room = mmap(NULL, most + ORION_IMAGE_LIMIT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        MUST(room != MAP_FAILED);
        MUST(mprotect(room, most, PROT_READ | PROT_WRITE) == 0);
    }
    memset(room, 0xa5, most);
    memcpy(room + most - bytes, data, bytes);
    return room + most - bytes;
}

static orion_image_status_t read_bytes(const void *data, size_t bytes, orion_image_t *image)
{
    return orion_image_read(image, place(data, bytes), SIZE_MAX, sm80);
}

/* A fatbin being written. */
typedef struct {
    uint8_t bytes[4096];
    size_t used;
} fatbin_t;

static void fatbin_begin(fatbin_t *f)
{
    memset(f, 0, sizeof *f);
    const uint32_t words[2] = {ORION_FATBIN_MAGIC, 16u << 16 | 1};
    memcpy(f->bytes, words, 8);
    f->used = 16;
}

static void fatbin_add(fatbin_t *f, uint16_t kind, uint32_t sm, uint64_t flags, uint64_t payload)
{
    uint8_t *e = f->bytes + f->used;
    const uint32_t header = 64, version = 0x0101;
    memcpy(e, &kind, 2);
    memcpy(e + 2, &version, 2);
    memcpy(e + 4, &header, 4);
    memcpy(e + 8, &payload, 8);
    memcpy(e + 28, &sm, 4);
    memcpy(e + 40, &flags, 8);
    memset(e + 64, (int)sm, payload);
    f->used += 64 + payload;
    uint64_t body = f->used - 16;
    memcpy(f->bytes + 8, &body, 8);
}

static void ptx_ends_at_its_nul(void)
{
    static const char text[] = "//\n\n/* x */ .version 8.0\n.target sm_80\n";
    orion_image_t image;
    CHECK(read_bytes(text, sizeof text, &image) == ORION_IMAGE_OK);
    CHECK(image.kind == ORION_IMAGE_PTX && image.bytes == sizeof text);
    orion_image_fini(&image);
}

static void text_that_is_no_ptx_is_refused(void)
{
    static const char *const bad[] = {"",
                                      "hello",
                                      "  \n",
                                      "// only a comment",
                                      ".versio",
                                      ".target sm_80",
                                      ".version 8.0\x01",
                                      "/* no end .version 8.0"};
    orion_image_t image;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char padded[64] = {0};
        memcpy(padded, bad[i], strlen(bad[i]));
        CHECK(read_bytes(padded, sizeof padded, &image) == ORION_IMAGE_INVALID);
        CHECK(image.why[0]);
        orion_image_fini(&image);
    }
    CHECK(read_bytes(".version 8.0 without a NUL", 26, &image) == ORION_IMAGE_INVALID);
    orion_image_fini(&image);
}

static void fatbin_is_reduced_to_candidates(void)
{
    fatbin_t f;
    orion_image_t image;
    fatbin_begin(&f);
    fatbin_add(&f, 2, 75, 0x11, 40);     /* cubin of another major: no */
    fatbin_add(&f, 2, 80, 0x11, 48);     /* yes */
    fatbin_add(&f, 2, 86, 0x11, 56);     /* newer minor: no */
    fatbin_add(&f, 1, 52, 0x8011, 64);   /* old PTX: yes */
    fatbin_add(&f, 1, 90, 0x8011, 72);   /* newer PTX: no */
    fatbin_add(&f, 1, 75, 0x100011, 80); /* PTX of exactly another SM: no */
    fatbin_add(&f, 8, 80, 0x11, 88);     /* LTO IR: no */
    CHECK(read_bytes(f.bytes, f.used, &image) == ORION_IMAGE_OK);
    CHECK(image.kind == ORION_IMAGE_FATBIN && image.bytes == 16 + 64 + 48 + 64 + 64);
    CHECK(orion_image_keep(&image) == ORION_IMAGE_OK && image.count == 1);
    const uint8_t *kept = image.parts[0].data;
    CHECK(orion_read_u32(kept) == ORION_FATBIN_MAGIC && orion_read_u64(kept + 8) == image.bytes - 16);
    CHECK(orion_read_u32(kept + 16 + 28) == 80 && orion_read_u32(kept + 16 + 112 + 28) == 52);
    orion_image_fini(&image);
}

static void newer_ptx_is_sent_only_without_older(void)
{
    fatbin_t f;
    orion_image_t image;
    fatbin_begin(&f);
    fatbin_add(&f, 2, 80, 0x11, 40);
    fatbin_add(&f, 1, 120, 0x8011, 48);
    fatbin_add(&f, 1, 90, 0x8011, 56);    /* the oldest that is too new */
    fatbin_add(&f, 1, 100, 0x200011, 64); /* of a family: no */
    CHECK(read_bytes(f.bytes, f.used, &image) == ORION_IMAGE_OK);
    CHECK(image.bytes == 16 + 64 + 40 + 64 + 56);
    CHECK(orion_image_keep(&image) == ORION_IMAGE_OK);
    CHECK(orion_read_u64((const uint8_t *)image.parts[0].data + 8) == image.bytes - 16);
    orion_image_fini(&image);
}

static void fatbin_without_candidates_has_no_binary(void)
{
    fatbin_t f;
    orion_image_t image;
    fatbin_begin(&f);
    fatbin_add(&f, 2, 90, 0x11, 40);
    CHECK(read_bytes(f.bytes, f.used, &image) == ORION_IMAGE_NO_BINARY);
    CHECK(strstr(image.why, "8.0"));
    orion_image_fini(&image);
}

static void truncated_fatbin_is_refused_at_every_length(void)
{
    fatbin_t f;
    orion_image_t image;
    fatbin_begin(&f);
    fatbin_add(&f, 1, 52, 0x11, 64);
    fatbin_add(&f, 2, 80, 0x11, 200);
    for (size_t bytes = 0; bytes < f.used; bytes++) {
        CHECK(read_bytes(f.bytes, bytes, &image) != ORION_IMAGE_OK);
        orion_image_fini(&image);
    }
}

static void wrappers_are_followed(void)
{
    fatbin_t f, object;
    orion_image_t image;
    fatbin_begin(&f);
    fatbin_add(&f, 2, 80, 0x11, 64);
    fatbin_begin(&object);
    fatbin_add(&object, 1, 80, 0x11, 32);
    const void *objects[] = {object.bytes, object.bytes, NULL};
    struct {
        uint32_t magic, version;
        const void *fatbin;
        const void *const *objects;
    } wrapper = {ORION_FATBIN_WRAPPER_MAGIC, 1, f.bytes, NULL};
    CHECK(read_bytes(&wrapper, sizeof wrapper, &image) == ORION_IMAGE_OK);
    CHECK(image.from_wrapper && image.bytes == f.used);
    orion_image_fini(&image);
    wrapper.version = 2;
    wrapper.objects = objects;
    CHECK(read_bytes(&wrapper, sizeof wrapper, &image) == ORION_IMAGE_OK);
    CHECK(image.bytes == f.used + 2 * object.used);
    orion_image_fini(&image);
    /* nothing in the linked result for this device: its header comes first all the same */
    fatbin_t other;
    fatbin_begin(&other);
    fatbin_add(&other, 2, 90, 0x11, 64);
    wrapper.fatbin = other.bytes;
    CHECK(read_bytes(&wrapper, sizeof wrapper, &image) == ORION_IMAGE_OK);
    CHECK(image.bytes == 16 + 2 * object.used);
    CHECK(orion_read_u64((const uint8_t *)image.parts[0].data + 8) == 0);
    orion_image_fini(&image);
    wrapper.fatbin = f.bytes;
    wrapper.version = 3;
    CHECK(read_bytes(&wrapper, sizeof wrapper, &image) == ORION_IMAGE_INVALID);
    orion_image_fini(&image);
    wrapper.version = 1;
    wrapper.fatbin = (void *)16;
    CHECK(read_bytes(&wrapper, sizeof wrapper, &image) == ORION_IMAGE_INVALID);
    orion_image_fini(&image);
}

/* In a file the addresses of a wrapper are whatever somebody wrote there. */
static void a_file_has_no_wrapper(void)
{
    const uint8_t bytes[24] = {0xb1, 0x43, 0x62, 0x46, 1};
    orion_image_t image;
    for (size_t n = 4; n <= sizeof bytes; n += 4) {
        CHECK(orion_image_read(&image, place(bytes, n), n, sm80) == ORION_IMAGE_INVALID);
        CHECK(strstr(image.why, "wrapper"));
        orion_image_fini(&image);
    }
}

/* A cubin with a section in the middle and program headers at its end. */
static size_t make_cubin(uint8_t *bytes)
{
    Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1}, .e_machine = 190};
    Elf64_Shdr sections[2] = {{0}, {.sh_type = SHT_PROGBITS, .sh_offset = 64, .sh_size = 100}};
    Elf64_Phdr segment = {0};
    header.e_shoff = 168;
    header.e_shnum = 2;
    header.e_shentsize = sizeof sections[0];
    header.e_phoff = 168 + sizeof sections;
    header.e_phnum = 1;
    header.e_phentsize = sizeof segment;
    memset(bytes, 0, 512);
    memcpy(bytes, &header, sizeof header);
    memcpy(bytes + 168, sections, sizeof sections);
    memcpy(bytes + header.e_phoff, &segment, sizeof segment);
    return header.e_phoff + sizeof segment;
}

static void cubin_is_as_long_as_its_furthest_header(void)
{
    uint8_t bytes[512];
    orion_image_t image;
    size_t length = make_cubin(bytes);
    CHECK(read_bytes(bytes, length, &image) == ORION_IMAGE_OK);
    CHECK(image.kind == ORION_IMAGE_ELF && image.bytes == length);
    orion_image_fini(&image);
    for (size_t cut = 0; cut < length; cut++) {
        CHECK(read_bytes(bytes, cut, &image) != ORION_IMAGE_OK);
        orion_image_fini(&image);
    }
    bytes[18] = 62; /* an x86-64 library */
    CHECK(read_bytes(bytes, length, &image) == ORION_IMAGE_INVALID);
    orion_image_fini(&image);
}

static void damaged_images_never_crash(void)
{
    uint64_t seed = 7;
    uint8_t cubin[512], bytes[4096];
    fatbin_t f;
    size_t cubin_bytes = make_cubin(cubin);
    fatbin_begin(&f);
    fatbin_add(&f, 1, 52, 0x11, 64);
    fatbin_add(&f, 2, 80, 0x11, 200);
    for (int i = 0; i < 50000; i++) {
        const int elf = (int)(check_random(&seed) & 1);
        size_t length = elf ? cubin_bytes : f.used;
        memcpy(bytes, elf ? cubin : f.bytes, length);
        for (unsigned k = 0; k < 1 + check_random(&seed) % 4; k++)
            bytes[4 + check_random(&seed) % (length - 4)] = (uint8_t)check_random(&seed);
        orion_image_t image;
        if (read_bytes(bytes, length, &image) == ORION_IMAGE_OK)
            CHECK(orion_image_keep(&image) == ORION_IMAGE_OK);
        orion_image_fini(&image);
    }
}

CHECK_MAIN(CASE(ptx_ends_at_its_nul), CASE(text_that_is_no_ptx_is_refused), CASE(fatbin_is_reduced_to_candidates),
           CASE(newer_ptx_is_sent_only_without_older), CASE(fatbin_without_candidates_has_no_binary),
           CASE(truncated_fatbin_is_refused_at_every_length), CASE(wrappers_are_followed), CASE(a_file_has_no_wrapper),
           CASE(cubin_is_as_long_as_its_furthest_header), CASE(damaged_images_never_crash))
