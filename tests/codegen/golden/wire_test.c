/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_tests.py: edit those. */
#include <stdio.h>
#include <stdlib.h>

#include "orion_generated/wire.h"

/* Patterns: 0 all zero, 1 all ones, 2 mixed bits, 3 the top bit. */
static const uint64_t patterns[] = {0, UINT64_MAX, 0x0123456789abcdefu, 0x8000000080008080u};
static const char *current;
static int failures;

#define CHECK(condition)                                                                \
    do {                                                                                  \
        if (!(condition)) {                                                                 \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, current, #condition);              \
            failures++;                                                                       \
        }                                                                                   \
    } while (0)

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint32_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* Exactly `bytes` long, so that a sanitizer sees the first byte read beyond. */
static void *exactly(const void *from, size_t bytes)
{
    void *copy = malloc(bytes ? bytes : 1);
    if (copy == NULL) abort();
    if (bytes) memcpy(copy, from, bytes);
    return copy;
}

static void test_orionAsk(void)
{
    current = "orionAsk";
    orion_args_orionAsk_t args = {0};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        uint64_t pattern = patterns[i];
        (void)pattern;
        unsigned char letter = (unsigned char)pattern;
        const char *name = pattern ? "kernel_name" : "";
        unsigned int bytes = (unsigned int)(pattern % 101);
        unsigned char data[101];
        for (size_t k = 0; k < sizeof(data); k++) data[k] = (unsigned char)(k * 7 + i);
        uint32_t measured = orion_measure_orionAsk(strlen(name) + 1, bytes);
        _Alignas(8) unsigned char payload[4096];
        memset(payload, 0xa5, sizeof(payload));
        CHECK(measured <= sizeof(payload) && measured % 8 == 0);
        orion_encode_orionAsk(payload, letter, name, bytes, data);
        CHECK(measured == sizeof(payload) || payload[measured] == 0xa5);
        CHECK(orion_decode_orionAsk(payload, measured, &args));
        CHECK(args.fixed->letter == (uint8_t)letter);
        CHECK(strcmp(args.name, name) == 0);
        CHECK(args.fixed->bytes == bytes);
        CHECK(memcmp(args.data, data, bytes) == 0);
        for (size_t k = 0; k < sizeof(args.fixed->pad0); k++) CHECK(args.fixed->pad0[k] == 0);
        for (size_t k = 0; k < sizeof(args.fixed->pad1); k++) CHECK(args.fixed->pad1[k] == 0);
        for (uint32_t cut = 0; cut < measured; cut++) {
            void *copy = exactly(payload, cut);
            CHECK(!orion_decode_orionAsk(copy, cut, &args));
            free(copy);
        }
        CHECK(!orion_decode_orionAsk(payload, measured + 8, &args));
    }
    for (int i = 0; i < 2000; i++) {
        size_t length = next_random() % 257;
        unsigned char noise[256];
        for (size_t k = 0; k < sizeof(noise); k++) noise[k] = (unsigned char)(next_random() & next_random());
        if (length > sizeof(noise)) length = sizeof(noise);
        void *copy = exactly(noise, length);
        (void)orion_decode_orionAsk(copy, length, &args);
        free(copy);
    }
}

static void test_cuMemAlloc_v2(void)
{
    current = "cuMemAlloc_v2";
    orion_args_cuMemAlloc_v2_t args = {0};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        uint64_t pattern = patterns[i];
        (void)pattern;
        size_t bytesize = (size_t)pattern;
        uint32_t measured = orion_measure_cuMemAlloc_v2();
        _Alignas(8) unsigned char payload[4096];
        memset(payload, 0xa5, sizeof(payload));
        CHECK(measured <= sizeof(payload) && measured % 8 == 0);
        orion_encode_cuMemAlloc_v2(payload, bytesize);
        CHECK(measured == sizeof(payload) || payload[measured] == 0xa5);
        CHECK(orion_decode_cuMemAlloc_v2(payload, measured, &args));
        CHECK(args.fixed->bytesize == (uint64_t)bytesize);
        for (uint32_t cut = 0; cut < measured; cut++) {
            void *copy = exactly(payload, cut);
            CHECK(!orion_decode_cuMemAlloc_v2(copy, cut, &args));
            free(copy);
        }
        CHECK(!orion_decode_cuMemAlloc_v2(payload, measured + 8, &args));
    }
    for (int i = 0; i < 2000; i++) {
        size_t length = next_random() % 257;
        unsigned char noise[256];
        for (size_t k = 0; k < sizeof(noise); k++) noise[k] = (unsigned char)(next_random() & next_random());
        if (length > sizeof(noise)) length = sizeof(noise);
        void *copy = exactly(noise, length);
        (void)orion_decode_cuMemAlloc_v2(copy, length, &args);
        free(copy);
    }
}

static void test_cuMemsetD8_v2(void)
{
    current = "cuMemsetD8_v2";
    orion_args_cuMemsetD8_v2_t args = {0};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        uint64_t pattern = patterns[i];
        (void)pattern;
        CUdeviceptr dstDevice = (CUdeviceptr)pattern;
        unsigned char uc = (unsigned char)pattern;
        size_t N = (size_t)pattern;
        uint64_t default_stream = pattern;
        uint32_t measured = orion_measure_cuMemsetD8_v2();
        _Alignas(8) unsigned char payload[4096];
        memset(payload, 0xa5, sizeof(payload));
        CHECK(measured <= sizeof(payload) && measured % 8 == 0);
        orion_encode_cuMemsetD8_v2(payload, dstDevice, uc, N, default_stream);
        CHECK(measured == sizeof(payload) || payload[measured] == 0xa5);
        CHECK(orion_decode_cuMemsetD8_v2(payload, measured, &args));
        CHECK(args.fixed->dstDevice == (uint64_t)dstDevice);
        CHECK(args.fixed->uc == (uint8_t)uc);
        CHECK(args.fixed->N == (uint64_t)N);
        CHECK(args.fixed->default_stream == default_stream);
        for (size_t k = 0; k < sizeof(args.fixed->pad0); k++) CHECK(args.fixed->pad0[k] == 0);
        for (uint32_t cut = 0; cut < measured; cut++) {
            void *copy = exactly(payload, cut);
            CHECK(!orion_decode_cuMemsetD8_v2(copy, cut, &args));
            free(copy);
        }
        CHECK(!orion_decode_cuMemsetD8_v2(payload, measured + 8, &args));
    }
    for (int i = 0; i < 2000; i++) {
        size_t length = next_random() % 257;
        unsigned char noise[256];
        for (size_t k = 0; k < sizeof(noise); k++) noise[k] = (unsigned char)(next_random() & next_random());
        if (length > sizeof(noise)) length = sizeof(noise);
        void *copy = exactly(noise, length);
        (void)orion_decode_cuMemsetD8_v2(copy, length, &args);
        free(copy);
    }
}

static void test_cuStreamCreate(void)
{
    current = "cuStreamCreate";
    orion_args_cuStreamCreate_t args = {0};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        uint64_t pattern = patterns[i];
        (void)pattern;
        uint64_t phStream = pattern;
        unsigned int Flags = (unsigned int)pattern;
        uint32_t measured = orion_measure_cuStreamCreate();
        _Alignas(8) unsigned char payload[4096];
        memset(payload, 0xa5, sizeof(payload));
        CHECK(measured <= sizeof(payload) && measured % 8 == 0);
        orion_encode_cuStreamCreate(payload, phStream, Flags);
        CHECK(measured == sizeof(payload) || payload[measured] == 0xa5);
        CHECK(orion_decode_cuStreamCreate(payload, measured, &args));
        CHECK(args.fixed->phStream == phStream);
        CHECK(args.fixed->Flags == (uint32_t)Flags);
        for (size_t k = 0; k < sizeof(args.fixed->pad0); k++) CHECK(args.fixed->pad0[k] == 0);
        for (uint32_t cut = 0; cut < measured; cut++) {
            void *copy = exactly(payload, cut);
            CHECK(!orion_decode_cuStreamCreate(copy, cut, &args));
            free(copy);
        }
        CHECK(!orion_decode_cuStreamCreate(payload, measured + 8, &args));
    }
    for (int i = 0; i < 2000; i++) {
        size_t length = next_random() % 257;
        unsigned char noise[256];
        for (size_t k = 0; k < sizeof(noise); k++) noise[k] = (unsigned char)(next_random() & next_random());
        if (length > sizeof(noise)) length = sizeof(noise);
        void *copy = exactly(noise, length);
        (void)orion_decode_cuStreamCreate(copy, length, &args);
        free(copy);
    }
}

static void test_cuStreamDestroy_v2(void)
{
    current = "cuStreamDestroy_v2";
    orion_args_cuStreamDestroy_v2_t args = {0};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        uint64_t pattern = patterns[i];
        (void)pattern;
        uint64_t hStream = pattern;
        uint32_t measured = orion_measure_cuStreamDestroy_v2();
        _Alignas(8) unsigned char payload[4096];
        memset(payload, 0xa5, sizeof(payload));
        CHECK(measured <= sizeof(payload) && measured % 8 == 0);
        orion_encode_cuStreamDestroy_v2(payload, hStream);
        CHECK(measured == sizeof(payload) || payload[measured] == 0xa5);
        CHECK(orion_decode_cuStreamDestroy_v2(payload, measured, &args));
        CHECK(args.fixed->hStream == hStream);
        for (uint32_t cut = 0; cut < measured; cut++) {
            void *copy = exactly(payload, cut);
            CHECK(!orion_decode_cuStreamDestroy_v2(copy, cut, &args));
            free(copy);
        }
        CHECK(!orion_decode_cuStreamDestroy_v2(payload, measured + 8, &args));
    }
    for (int i = 0; i < 2000; i++) {
        size_t length = next_random() % 257;
        unsigned char noise[256];
        for (size_t k = 0; k < sizeof(noise); k++) noise[k] = (unsigned char)(next_random() & next_random());
        if (length > sizeof(noise)) length = sizeof(noise);
        void *copy = exactly(noise, length);
        (void)orion_decode_cuStreamDestroy_v2(copy, length, &args);
        free(copy);
    }
}

static void test_cuStreamSynchronize(void)
{
    current = "cuStreamSynchronize";
    orion_args_cuStreamSynchronize_t args = {0};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        uint64_t pattern = patterns[i];
        (void)pattern;
        uint64_t hStream = pattern;
        uint32_t measured = orion_measure_cuStreamSynchronize();
        _Alignas(8) unsigned char payload[4096];
        memset(payload, 0xa5, sizeof(payload));
        CHECK(measured <= sizeof(payload) && measured % 8 == 0);
        orion_encode_cuStreamSynchronize(payload, hStream);
        CHECK(measured == sizeof(payload) || payload[measured] == 0xa5);
        CHECK(orion_decode_cuStreamSynchronize(payload, measured, &args));
        CHECK(args.fixed->hStream == hStream);
        for (uint32_t cut = 0; cut < measured; cut++) {
            void *copy = exactly(payload, cut);
            CHECK(!orion_decode_cuStreamSynchronize(copy, cut, &args));
            free(copy);
        }
        CHECK(!orion_decode_cuStreamSynchronize(payload, measured + 8, &args));
    }
    for (int i = 0; i < 2000; i++) {
        size_t length = next_random() % 257;
        unsigned char noise[256];
        for (size_t k = 0; k < sizeof(noise); k++) noise[k] = (unsigned char)(next_random() & next_random());
        if (length > sizeof(noise)) length = sizeof(noise);
        void *copy = exactly(noise, length);
        (void)orion_decode_cuStreamSynchronize(copy, length, &args);
        free(copy);
    }
}

static void test_orionFetch(void)
{
    current = "orionFetch";
    orion_args_orionFetch_t args = {0};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        uint64_t pattern = patterns[i];
        (void)pattern;
        uint64_t stream = pattern;
        uint32_t measured = orion_measure_orionFetch();
        _Alignas(8) unsigned char payload[4096];
        memset(payload, 0xa5, sizeof(payload));
        CHECK(measured <= sizeof(payload) && measured % 8 == 0);
        orion_encode_orionFetch(payload, stream);
        CHECK(measured == sizeof(payload) || payload[measured] == 0xa5);
        CHECK(orion_decode_orionFetch(payload, measured, &args));
        CHECK(args.fixed->stream == stream);
        for (uint32_t cut = 0; cut < measured; cut++) {
            void *copy = exactly(payload, cut);
            CHECK(!orion_decode_orionFetch(copy, cut, &args));
            free(copy);
        }
        CHECK(!orion_decode_orionFetch(payload, measured + 8, &args));
    }
    for (int i = 0; i < 2000; i++) {
        size_t length = next_random() % 257;
        unsigned char noise[256];
        for (size_t k = 0; k < sizeof(noise); k++) noise[k] = (unsigned char)(next_random() & next_random());
        if (length > sizeof(noise)) length = sizeof(noise);
        void *copy = exactly(noise, length);
        (void)orion_decode_orionFetch(copy, length, &args);
        free(copy);
    }
}


static void (*const tests[])(void) = {
        test_orionAsk,
        test_cuMemAlloc_v2,
        test_cuMemsetD8_v2,
        test_cuStreamCreate,
        test_cuStreamDestroy_v2,
        test_cuStreamSynchronize,
        test_orionFetch,
};

int main(void)
{
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) tests[i]();
    printf("%zu operations, %d failures\n", sizeof(tests) / sizeof(tests[0]), failures);
    return failures != 0;
}
