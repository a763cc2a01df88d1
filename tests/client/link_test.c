/* SPDX-License-Identifier: Apache-2.0 */
/* Linking for a device without a linker: PTX texts are joined, the rest is passed through or refused. */
#include "driver.h"

static const char first[] = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry a() { ret; }\n";
static const char second[] = "//\n.version 7.0\n.target sm_80\n.address_size 64\n.visible .entry b() { ret; }\n";
static char error[200];
static void *error_bytes;

static CUlinkState link_begin(void)
{
    static CUjit_option options[] = {CU_JIT_OPTIMIZATION_LEVEL, CU_JIT_ERROR_LOG_BUFFER,
                                     CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    static void *values[3];
    CUlinkState state;
    values[0] = (void *)4;
    values[1] = error;
    values[2] = (void *)sizeof error;
    memset(error, 'x', sizeof error);
    MUST(orion_hand_cuLinkCreate_v2(3, options, values, &state) == CUDA_SUCCESS);
    MUST(error[0] == 0 && values[2] == NULL);
    error_bytes = &values[2];
    return state;
}

static CUresult add(CUlinkState state, CUjitInputType type, const void *data, size_t bytes, const char *name)
{
    return orion_hand_cuLinkAddData_v2(state, type, (void *)(uintptr_t)data, bytes, name, 0, NULL, NULL);
}

/* The program's log has the words, and its length is where CUDA puts it. */
static int said(const char *words)
{
    return strstr(error, words) && *(void **)error_bytes == (void *)strlen(error);
}

static void texts_are_joined_and_loaded(void)
{
    void *image;
    size_t bytes;
    CUmodule module;
    unsigned count;
    driver_begin();
    CUlinkState state = link_begin();
    CHECK(orion_hand_cuLinkComplete(state, &image, &bytes) == CUDA_ERROR_INVALID_VALUE); /* nothing to link */
    CHECK(add(state, CU_JIT_INPUT_PTX, first, sizeof first, "first") == CUDA_SUCCESS);
    CHECK(add(state, CU_JIT_INPUT_LIBRARY, "!<arch>", 7, "/x/libcudadevrt.a") == CUDA_SUCCESS);
    CHECK(add(state, CU_JIT_INPUT_PTX, second, strlen(second), NULL) == CUDA_SUCCESS);
    CHECK(orion_hand_cuLinkComplete(state, &image, &bytes) == CUDA_SUCCESS);
    CHECK(bytes == strlen(first) + strlen(second) + 3 && ((char *)image)[bytes - 1] == 0);
    CHECK(strncmp(image, first, strlen(first)) == 0);
    CHECK(strncmp((char *)image + strlen(first) + 1, second, strlen(second)) == 0);
    CHECK(orion_hand_cuModuleLoadData(&module, image) == CUDA_SUCCESS);
    CHECK(orion_hand_cuModuleGetFunctionCount(&count, module) == CUDA_SUCCESS && count == 2);
    CHECK(orion_hand_cuModuleUnload(module) == CUDA_SUCCESS);
    CHECK(orion_hand_cuLinkDestroy(state) == CUDA_SUCCESS);
    CHECK(orion_hand_cuLinkComplete(state, &image, &bytes) == CUDA_ERROR_INVALID_HANDLE);
    driver_end();
}

static void what_cannot_be_joined_is_refused_with_a_sentence(void)
{
    static const unsigned char cubin[64] = "\177ELF";
    void *image;
    size_t bytes;
    driver_begin();
    CUlinkState state = link_begin();
    CHECK(add(state, CU_JIT_INPUT_OBJECT, cubin, sizeof cubin, "x.o") == CUDA_ERROR_NOT_SUPPORTED);
    CHECK(said("\"x.o\" is neither PTX nor a cubin nor a fatbin"));
    CHECK(add(state, CU_JIT_INPUT_LIBRARY, cubin, sizeof cubin, "libmine.a") == CUDA_ERROR_NOT_SUPPORTED);
    CHECK(add(state, CU_JIT_INPUT_CUBIN, cubin, sizeof cubin, "x.cubin") == CUDA_SUCCESS);
    CHECK(add(state, CU_JIT_INPUT_PTX, first, sizeof first, "first") == CUDA_ERROR_NOT_SUPPORTED);
    CHECK(said("\"first\" is a second input, and only PTX is linked"));
    CHECK(orion_hand_cuLinkComplete(state, &image, &bytes) == CUDA_SUCCESS); /* alone it passes through */
    CHECK(bytes == sizeof cubin && memcmp(image, cubin, bytes) == 0);
    CHECK(orion_hand_cuLinkDestroy(state) == CUDA_SUCCESS);
    state = link_begin();
    CHECK(add(state, (CUjitInputType)77, first, sizeof first, "first") == CUDA_ERROR_INVALID_VALUE);
    CHECK(add(state, CU_JIT_INPUT_PTX, first, 0, "first") == CUDA_ERROR_INVALID_VALUE);
    CHECK(add(state, CU_JIT_INPUT_PTX, NULL, 5, "first") == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuLinkAddFile_v2(state, CU_JIT_INPUT_PTX, "/nonexistent/x.ptx", 0, NULL, NULL) ==
          CUDA_ERROR_FILE_NOT_FOUND);
    CHECK(orion_hand_cuLinkDestroy(state) == CUDA_SUCCESS);
    driver_end();
}

CHECK_MAIN(CASE(texts_are_joined_and_loaded), CASE(what_cannot_be_joined_is_refused_with_a_sentence))
