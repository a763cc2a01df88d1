/* SPDX-License-Identifier: Apache-2.0 */
/* A small client of the driver API: takes memory, copies, launches a kernel, checks what it wrote, says "ok", and holds
 * on to all of it until its standard input ends. Links nothing: libcuda.so.1 is loaded as programs do it. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT 1024

static const char *const PTX = ".version 7.0\n.target sm_80\n.address_size 64\n"
                               ".visible .entry twice(.param .u64 cells)\n"
                               "{\n"
                               "    .reg .b32 %r<3>;\n"
                               "    .reg .b64 %rd<4>;\n"
                               "    ld.param.u64 %rd1, [cells];\n"
                               "    mov.u32 %r1, %tid.x;\n"
                               "    mul.wide.u32 %rd2, %r1, 4;\n"
                               "    add.s64 %rd3, %rd1, %rd2;\n"
                               "    ld.global.u32 %r2, [%rd3];\n"
                               "    add.u32 %r2, %r2, %r2;\n"
                               "    st.global.u32 [%rd3], %r2;\n"
                               "    ret;\n"
                               "}\n";

static void *library;

static void *find(const char *name)
{
    void *symbol = dlsym(library, name);
    if (!symbol) {
        fprintf(stderr, "no %s\n", name);
        exit(2);
    }
    return symbol;
}

#define CALL(name, types, ...)                                      \
    do {                                                            \
        int result_ = ((int(*) types)find(#name))(__VA_ARGS__);     \
        if (result_) {                                              \
            fprintf(stderr, "%s: CUDA error %d\n", #name, result_); \
            return 1;                                               \
        }                                                           \
    } while (0)

int main(void)
{
    uint32_t cells[COUNT], back[COUNT];
    uint64_t memory = 0;
    void *context, *module, *function, *parameters[] = {&memory};
    char byte;

    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    for (uint32_t i = 0; i < COUNT; i++)
        cells[i] = i ^ (uint32_t)getpid();
    CALL(cuInit, (unsigned), 0);
    CALL(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    CALL(cuCtxSetCurrent, (void *), context);
    CALL(cuMemAlloc_v2, (uint64_t *, size_t), &memory, sizeof cells);
    CALL(cuMemcpyHtoD_v2, (uint64_t, const void *, size_t), memory, cells, sizeof cells);
    CALL(cuModuleLoadData, (void **, const void *), &module, PTX);
    CALL(cuModuleGetFunction, (void **, void *, const char *), &function, module, "twice");
    CALL(cuLaunchKernel,
         (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **),
         function, 1, 1, 1, COUNT, 1, 1, 0, NULL, parameters, NULL);
    CALL(cuMemcpyDtoH_v2, (void *, uint64_t, size_t), back, memory, sizeof back);
    for (uint32_t i = 0; i < COUNT; i++)
        if (back[i] != 2 * cells[i]) {
            fprintf(stderr, "cell %u is %u and should be %u\n", i, back[i], 2 * cells[i]);
            return 1;
        }
    if (write(1, "ok\n", 3) != 3)
        return 2;
    while (read(0, &byte, 1) > 0)
        ;
    CALL(cuMemFree_v2, (uint64_t), memory);
    return 0;
}
