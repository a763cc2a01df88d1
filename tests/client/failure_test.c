/* SPDX-License-Identifier: Apache-2.0 */
/* What the program is told when there is no server, a bad wish, a fork, or nothing of that name. */
#include "driver.h"

#include <sys/wait.h>

/* Runs the function in a fresh child and returns its exit status. */
static int in_child(int (*run)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0)
        _exit(run());
    int status;
    MUST(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int init(void)
{
    return (int)orion_hand_cuInit(0);
}

static int init_without_server(void)
{
    setenv("ORION_SERVER", "unix:/nonexistent/orion.sock", 1);
    return init();
}

static int init_with_bad_wish(void)
{
    setenv("ORION_GMEM", "abc", 1);
    return init();
}

static int init_with_nothing_visible(void)
{
    setenv("CUDA_VISIBLE_DEVICES", "", 1);
    return init();
}

static void init_says_what_is_wrong(void)
{
    CHECK(in_child(init_without_server) == CUDA_ERROR_NO_DEVICE);
    CHECK(in_child(init_with_bad_wish) == CUDA_ERROR_INVALID_VALUE);
    CHECK(in_child(init_with_nothing_visible) == CUDA_ERROR_NO_DEVICE);
    CHECK(in_child(init) == CUDA_SUCCESS);
}

static int use_inherited_session(void)
{
    CUdeviceptr address;
    CUcontext context;
    return orion_hand_cuInit(0) != CUDA_ERROR_NOT_INITIALIZED ||
           orion_hand_cuMemAlloc_v2(&address, 16) != CUDA_ERROR_NOT_INITIALIZED ||
           orion_hand_cuCtxGetCurrent(&context) != CUDA_ERROR_NOT_INITIALIZED;
}

static void forked_child_gets_an_error_and_leaves_the_parent_alone(void)
{
    CUdeviceptr address;
    driver_begin();
    for (int i = 0; i < 3; i++) {
        CHECK(in_child(use_inherited_session) == 0);
        CHECK(orion_hand_cuMemAlloc_v2(&address, 1000) == CUDA_SUCCESS);
        CHECK(cuMemsetD8_v2(address, 1, 1000) == CUDA_SUCCESS && cuCtxSynchronize() == CUDA_SUCCESS);
    }
    driver_end();
}

static void names_are_found_as_cuda_finds_them(void)
{
    CUdriverProcAddressQueryResult status;
    void *old, *new, *plain, *per_thread;
    CHECK(orion_hand_cuGetProcAddress("", &old, 0, 0) == CUDA_ERROR_NOT_FOUND && !old);
    CHECK(orion_hand_cuGetProcAddress_v2("cuNoSuch", &old, 13000, 0, &status) == CUDA_ERROR_NOT_FOUND);
    CHECK(status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    CHECK(orion_hand_cuGetProcAddress_v2("cuMemAllocAsync", &old, 2000, 0, &status) == CUDA_ERROR_NOT_FOUND);
    CHECK(status == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    CHECK(orion_hand_cuGetProcAddress_v2("cuCtxGetDevice", &old, 2000, 0, &status) == CUDA_SUCCESS && !status);
    CHECK(orion_hand_cuGetProcAddress("cuCtxGetDevice", &new, 13000, 0) == CUDA_SUCCESS && old != new);
    CHECK(orion_hand_cuGetProcAddress("cuMemcpyHtoD", &plain, 7000, 0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuGetProcAddress("cuMemcpyHtoD", &per_thread, 7000, 2) == CUDA_SUCCESS && plain != per_thread);
    CHECK(orion_hand_cuGetProcAddress("cuInit", &plain, 13000, 2) == CUDA_SUCCESS);
    CHECK(orion_hand_cuGetProcAddress("cuInit", &plain, 13000, 64) == CUDA_ERROR_INVALID_VALUE);
}

static void unknown_tables_are_refused_and_known_ones_full(void)
{
    static const unsigned char cudart[16] = {0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a,
                                             0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9};
    CUuuid uuid;
    const void *table = &uuid;
    memset(&uuid, 0x11, sizeof uuid);
    CHECK(orion_hand_cuGetExportTable(&table, &uuid) == CUDA_ERROR_INVALID_VALUE && !table);
    memcpy(&uuid, cudart, sizeof uuid);
    CHECK(orion_hand_cuGetExportTable(&table, &uuid) == CUDA_SUCCESS);
    const uintptr_t *words = table;
    CHECK(words[0] == 13 * 8);
    for (int slot = 1; slot < 13; slot++)
        CHECK(words[slot]);
    CHECK(((CUresult(*)(void))words[12])() == CUDA_SUCCESS);
    CHECK(((CUresult(*)(void))words[3])() == CUDA_ERROR_NOT_SUPPORTED);
}

static void every_error_has_a_name_and_a_text(void)
{
    const char *text;
    CHECK(orion_hand_cuGetErrorName(CUDA_ERROR_ILLEGAL_ADDRESS, &text) == CUDA_SUCCESS);
    CHECK(strcmp(text, "CUDA_ERROR_ILLEGAL_ADDRESS") == 0);
    CHECK(orion_hand_cuGetErrorString(CUDA_ERROR_ILLEGAL_ADDRESS, &text) == CUDA_SUCCESS && text[0]);
    CHECK(orion_hand_cuGetErrorName((CUresult)12345, &text) == CUDA_ERROR_INVALID_VALUE && !text);
}

CHECK_MAIN(CASE(init_says_what_is_wrong), CASE(forked_child_gets_an_error_and_leaves_the_parent_alone),
           CASE(names_are_found_as_cuda_finds_them), CASE(unknown_tables_are_refused_and_known_ones_full),
           CASE(every_error_has_a_name_and_a_text))
