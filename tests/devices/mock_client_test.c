/* SPDX-License-Identifier: Apache-2.0 */
/* The whole way from a program to a real driver, in one process: the client, a twin with the cuda device, and behind it
 * the driver of tests/devices/mock_driver.h. */
#include "../client/driver.h"

#include "mock_driver.h"

#include "bulk.h"
#include "orion_generated/blobs.h"
#include "orion_generated/calls.h"

#include <dlfcn.h>

static mock_driver_t *mock;
static void (*reset_mock)(void);

static const char first[] = ".version 7.0\n.target sm_75\n.address_size 64\n.extern .func g();\n"
                            ".visible .entry f() { ret; }\n";
static const char second[] = ".version 7.0\n.target sm_75\n.address_size 64\n.visible .func g() { ret; }\n";

static CUlinkState link_of(unsigned n, CUjit_option *options, void **values)
{
    CUlinkState state = NULL;
    MUST(orion_hand_cuLinkCreate_v2(n, options, values, &state) == CUDA_SUCCESS);
    return state;
}

static CUresult add(CUlinkState state, CUjitInputType type, const void *data, size_t bytes, const char *name)
{
    return orion_hand_cuLinkAddData_v2(state, type, (void *)(uintptr_t)data, bytes, name, 0, NULL, NULL);
}

static unsigned char *noise(size_t bytes, uint64_t seed)
{
    unsigned char *data = malloc(bytes);
    MUST(data);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)check_random(&seed);
    return data;
}

static void driver_links_what_the_program_gave(void)
{
    char error[100] = "old", info[100] = "old";
    CUjit_option options[] = {CU_JIT_OPTIMIZATION_LEVEL,          CU_JIT_ERROR_LOG_BUFFER,
                              CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_INFO_LOG_BUFFER,
                              CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,  CU_JIT_GENERATE_LINE_INFO};
    void *values[] = {(void *)3, error, (void *)sizeof error, info, (void *)sizeof info, (void *)1};
    CUjit_option own_option = CU_JIT_MAX_REGISTERS;
    void *own_value = (void *)32;
    unsigned char *library = noise(1000003, 5), *cubin = noise(333, 6), *object = noise(8, 7);
    char *linked = (char *)noise(2500001, 8);
    void *out;
    size_t bytes;
    driver_begin();
    reset_mock();
    mock->info = "2 functions";
    mock->linked = linked;
    mock->linked_bytes = 2500001;
    CUlinkState state = link_of(6, options, values);
    CHECK(add(state, CU_JIT_INPUT_PTX, first, sizeof first, "first") == CUDA_SUCCESS);
    CHECK(orion_hand_cuLinkAddData_v2(state, CU_JIT_INPUT_PTX, (void *)(uintptr_t)second, sizeof second, "second", 1,
                                      &own_option, &own_value) == CUDA_SUCCESS);
    CHECK(add(state, CU_JIT_INPUT_CUBIN, cubin, 333, NULL) == CUDA_SUCCESS);
    CHECK(add(state, CU_JIT_INPUT_OBJECT, object, 8, "x.o") == CUDA_SUCCESS);
    CHECK(add(state, CU_JIT_INPUT_LIBRARY, library, 1000003, "/lib/libcudadevrt.a") == CUDA_SUCCESS);
    CHECK(mock->links == 0); /* all at once, when it is complete */
    CHECK(orion_hand_cuLinkComplete(state, &out, &bytes) == CUDA_SUCCESS);
    CHECK(bytes == 2500001 && memcmp(out, linked, bytes) == 0);
    CHECK(mock->links == 1 && mock->links_open == 0 && mock->inputs == 5);

    static const CUjitInputType types[] = {CU_JIT_INPUT_PTX, CU_JIT_INPUT_PTX, CU_JIT_INPUT_CUBIN, CU_JIT_INPUT_OBJECT,
                                           CU_JIT_INPUT_LIBRARY};
    static const char *const names[] = {"first", "second", "", "x.o", "/lib/libcudadevrt.a"};
    const void *const data[] = {first, second, cubin, object, library};
    static const size_t sizes[] = {sizeof first, sizeof second, 333, 8, 1000003};
    for (unsigned i = 0; i < 5; i++) {
        CHECK(mock->input[i].type == types[i] && mock->input[i].bytes == sizes[i]);
        CHECK(strcmp(mock->input[i].name, names[i]) == 0);
        CHECK(memcmp(mock->input[i].data, data[i], sizes[i]) == 0);
        CHECK(mock->input[i].options == (i == 1));
    }
    CHECK(mock->options == 2);
    CHECK(mock->option[0] == CU_JIT_OPTIMIZATION_LEVEL && mock->value[0] == 3);
    CHECK(mock->option[1] == CU_JIT_GENERATE_LINE_INFO && mock->value[1] == 1);
    CHECK(strcmp(info, "2 functions") == 0 && values[4] == (void *)strlen(info));
    CHECK(error[0] == 0 && values[2] == NULL);

    CHECK(orion_hand_cuLinkComplete(state, &out, &bytes) == CUDA_SUCCESS); /* the same again */
    CHECK(mock->links == 1 && bytes == 2500001);
    CHECK(add(state, CU_JIT_INPUT_PTX, first, sizeof first, "late") == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuLinkDestroy(state) == CUDA_SUCCESS);
    CHECK(orion_hand_cuLinkDestroy(state) == CUDA_ERROR_INVALID_HANDLE);
    driver_end();
    free(library);
    free(cubin);
    free(object);
    free(linked);
}

static void what_the_linker_says_is_in_the_programs_log(void)
{
    char error[40] = "";
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {error, (void *)sizeof error}, *out;
    size_t bytes;
    driver_begin();
    reset_mock();
    mock->error = "undefined reference to g in a name that is longer than the buffer is";
    mock->fails = "cuLinkComplete";
    mock->with = CUDA_ERROR_INVALID_PTX;
    CUlinkState state = link_of(2, options, values);
    CHECK(add(state, CU_JIT_INPUT_PTX, first, sizeof first, "first") == CUDA_SUCCESS);
    CHECK(orion_hand_cuLinkComplete(state, &out, &bytes) == CUDA_ERROR_INVALID_PTX);
    CHECK(strcmp(error, "CUDA_ERROR_INVALID_PTX: undefined refer") == 0);
    CHECK(values[1] == (void *)strlen(error));
    CHECK(mock->links == 1 && mock->links_open == 0);
    mock->fails = "cuLinkAddData";
    CHECK(orion_hand_cuLinkComplete(state, &out, &bytes) == CUDA_ERROR_INVALID_PTX);
    CHECK(mock->links == 2 && mock->links_open == 0);
    mock->fails = NULL;
    CHECK(cuCtxSynchronize() == CUDA_SUCCESS); /* nothing sticks */
    CHECK(orion_hand_cuLinkDestroy(state) == CUDA_SUCCESS);
    driver_end();
}

static void options_that_point_to_memory_never_reach_the_driver(void)
{
    char error[200] = "";
    static const CUjit_option pointers[] = {CU_JIT_GLOBAL_SYMBOL_NAMES, CU_JIT_GLOBAL_SYMBOL_ADDRESSES,
                                            CU_JIT_REFERENCED_KERNEL_NAMES, CU_JIT_REFERENCED_VARIABLE_NAMES,
                                            (CUjit_option)1000};
    driver_begin();
    for (size_t i = 0; i < sizeof pointers / sizeof pointers[0]; i++) {
        CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, pointers[i]};
        void *values[] = {error, (void *)sizeof error, error}, *out;
        size_t bytes;
        reset_mock();
        CUlinkState state = link_of(3, options, values);
        CHECK(add(state, CU_JIT_INPUT_PTX, first, sizeof first, "first") == CUDA_SUCCESS);
        CHECK(orion_hand_cuLinkComplete(state, &out, &bytes) == CUDA_ERROR_NOT_SUPPORTED);
        CHECK(mock->links == 0);
        CHECK(strstr(error, "point to the program's memory"));
        CHECK(orion_hand_cuLinkDestroy(state) == CUDA_SUCCESS);
        state = link_of(2, options, values);
        CHECK(orion_hand_cuLinkAddData_v2(state, CU_JIT_INPUT_PTX, (void *)(uintptr_t)first, sizeof first, "first", 1,
                                          &options[2], &values[2]) == CUDA_SUCCESS);
        CHECK(orion_hand_cuLinkComplete(state, &out, &bytes) == CUDA_ERROR_NOT_SUPPORTED);
        CHECK(mock->inputs == 0 && mock->links_open == 0);
        CHECK(orion_hand_cuLinkDestroy(state) == CUDA_SUCCESS);
    }
    driver_end();
}

/* What a hostile client may upload as a link: nothing of it reaches the driver, whatever its headers promise. */
static void malformed_links_are_refused(void)
{
    struct {
        orion_link_blob_t head;
        orion_link_option_blob_t option;
        orion_link_input_blob_t input;
        char name[8], data[8];
    } good = {{1, 1}, {CU_JIT_OPTIMIZATION_LEVEL, 0, 4}, {CU_JIT_INPUT_PTX, 0, 8, 0, 7}, "a name", "// text"}, bad;
    driver_begin();
    reset_mock();
    mock->linked = "linked";
    mock->linked_bytes = 6;
    for (unsigned i = 0; i < 12; i++) {
        size_t bytes = sizeof good;
        bad = good;
        switch (i) {
        case 1:
            bad.head.input_count = 0;
            break;
        case 2:
            bad.head.input_count = 2;
            break;
        case 3:
            bad.head.input_count = UINT32_MAX;
            break;
        case 4:
            bad.head.option_count = UINT32_MAX;
            break;
        case 5:
            bad.input.option_count = 5;
            break;
        case 6:
            bad.input.name_bytes = 0;
            break;
        case 7:
            bad.input.name_bytes = UINT32_MAX;
            break;
        case 8:
            memset(bad.name, 'n', sizeof bad.name);
            break;
        case 9:
            bad.input.bytes = UINT64_MAX;
            break;
        case 10:
            bad.input.bytes = 8;
            break; /* no NUL behind it */
        case 11:
            bytes = sizeof bad.head;
            break;
        default:
            break;
        }
        orion_image_part_t part = {&bad, bytes};
        const orion_image_t image = {.bytes = bytes, .parts = &part, .count = 1};
        uint32_t upload, log_bytes = 0;
        unsigned long long linked_bytes = 0;
        int linked = -1;
        char log[4000], data[64];
        CHECK(orion_bulk_upload(&orion_the_session, &image, &upload) == CUDA_SUCCESS);
        const CUresult result = orion_call_orionLink(&orion_the_session, upload, &linked, &linked_bytes, log,
                                                     sizeof log, &log_bytes);
        CHECK(result == (i ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS));
        CHECK(mock->links == 1);
        CHECK(orion_call_orionUploadRead(&orion_the_session, upload, 7, data, sizeof data, &log_bytes) ==
              CUDA_ERROR_INVALID_VALUE); /* forgotten, or beyond its end */
        CHECK(orion_post_orionUploadEnd(&orion_the_session, upload) == CUDA_SUCCESS);
        CHECK(orion_call_orionUploadRead(&orion_the_session, upload, 0, data, sizeof data, &log_bytes) ==
              CUDA_ERROR_INVALID_VALUE);
    }
    CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
    driver_end();
}

/* A fatbin with entries for other devices: the driver gets the one for its own, as it was. */
static void reduced_fatbin_keeps_its_bytes(void)
{
    enum { PAYLOAD = 96, ENTRY = 64 + PAYLOAD };
    static const uint32_t sms[] = {75, 90, 120};
    unsigned char *fatbin = noise(16 + 3 * ENTRY, 9), expected[16 + ENTRY];
    const uint32_t head[] = {0xba55ed50u, 16u << 16 | 1, 3 * ENTRY, 0};
    memcpy(fatbin, head, sizeof head);
    for (unsigned i = 0; i < 3; i++) {
        unsigned char *entry = fatbin + 16 + i * ENTRY;
        const uint32_t words[] = {0x01010002u, 64, PAYLOAD, 0, 0};
        memset(entry, 0, 64);
        memcpy(entry, words, sizeof words);
        memcpy(entry + 28, &sms[i], 4);
    }
    memcpy(expected, fatbin, 16);
    expected[8] = ENTRY, expected[9] = 0;
    memcpy(expected + 16, fatbin + 16 + ENTRY, ENTRY);
    driver_begin();
    reset_mock();
    mock->wanted = sizeof expected;
    CUmodule module;
    CHECK(orion_hand_cuModuleLoadData(&module, fatbin) == CUDA_SUCCESS);
    CHECK(mock->wrapper[1] == 1);
    CHECK(memcmp(mock->image, expected, sizeof expected) == 0);
    CHECK(orion_hand_cuModuleUnload(module) == CUDA_SUCCESS);
    driver_end();
    free(fatbin);
}

static int copies_work(void *memory)
{
    CUdeviceptr address;
    char back[64] = "";
    memset(memory, 'a', 64);
    MUST(orion_hand_cuMemAlloc_v2(&address, 64) == CUDA_SUCCESS);
    MUST(orion_hand_cuMemcpyHtoD_v2(CU_STREAM_LEGACY, address, memory, 64) == CUDA_SUCCESS);
    MUST(orion_hand_cuMemcpyDtoH_v2(CU_STREAM_LEGACY, back, address, 64) == CUDA_SUCCESS);
    MUST(orion_hand_cuMemFree_v2(address) == CUDA_SUCCESS);
    return back[0] == 'a' && back[63] == 'a';
}

static void pinned_memory_is_ordinary_where_the_driver_refuses_it(void)
{
    static const struct {
        const char *fails;
        CUresult with;
        int64_t shift;
    } ways[] = {{NULL, CUDA_SUCCESS, 4096}, /* registered, and seen elsewhere */
                {"cuMemHostRegister", CUDA_ERROR_INVALID_VALUE, 0},
                {"cuMemHostRegister", CUDA_ERROR_OPERATING_SYSTEM, 0},
                {"cuMemHostGetDevicePointer", CUDA_ERROR_INVALID_VALUE, 0}};
    void *memory, *none;
    CUdeviceptr address;
    driver_begin();
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        reset_mock();
        mock->with = ways[i].with;
        mock->fails = ways[i].fails;
        mock->shift = ways[i].shift;
        CHECK(orion_hand_cuMemHostAlloc(&memory, 64, 0) == CUDA_SUCCESS);
        CHECK(orion_hand_cuMemHostGetDevicePointer_v2(&address, memory, 0) == CUDA_ERROR_NOT_SUPPORTED);
        CHECK(orion_hand_cuMemHostAlloc(&none, 64, CU_MEMHOSTALLOC_DEVICEMAP) == CUDA_ERROR_NOT_SUPPORTED);
        CHECK(orion_hand_cuMemAllocManaged(&address, 64, CU_MEM_ATTACH_GLOBAL) == CUDA_ERROR_NOT_SUPPORTED);
        CHECK(copies_work(memory));
        CHECK(orion_hand_cuMemFreeHost(memory) == CUDA_SUCCESS);
    }
    reset_mock();
    CHECK(orion_hand_cuMemHostAlloc(&memory, 64, 0) == CUDA_SUCCESS);
    CHECK(mock->registrations == 1);
    CHECK(orion_hand_cuMemHostGetDevicePointer_v2(&address, memory, 0) == CUDA_SUCCESS);
    CHECK(address == (CUdeviceptr)(uintptr_t)memory && copies_work(memory));
    CHECK(orion_hand_cuMemFreeHost(memory) == CUDA_SUCCESS);
    driver_end();
}

static const check_case_t cases[] = {
    CASE(driver_links_what_the_program_gave),
    CASE(what_the_linker_says_is_in_the_programs_log),
    CASE(options_that_point_to_memory_never_reach_the_driver),
    CASE(malformed_links_are_refused),
    CASE(reduced_fatbin_keeps_its_bytes),
    CASE(pinned_memory_is_ordinary_where_the_driver_refuses_it),
};

int main(int argc, char **argv)
{
    void *library = dlopen(getenv("ORION_DRIVER"), RTLD_NOW | RTLD_LOCAL);
    MUST(library);
    mock_driver_t *(*open_mock)(void) = (mock_driver_t * (*)(void)) dlsym(library, "mock_driver");
    reset_mock = (void (*)(void))dlsym(library, "mock_reset");
    MUST(open_mock && reset_mock);
    mock = open_mock();
    return check_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
