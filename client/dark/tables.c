/* SPDX-License-Identifier: Apache-2.0 */
/* cuGetExportTable: which UUID is which table. */
#include "dark/table.h"
#include "orion_generated/hand.h"
#include "runtimes.h"
#include "say.h"

#include <stdio.h>
#include <string.h>

static const struct {
    unsigned char uuid[16];
    orion_dark_word_t *table; /* NULL: known, and refused */
} tables[] = {
    /* CUDART: the first */
    {{0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9},
     orion_dark_cudart},
    /* TOOLS_HOOKS */
    {{0xa0, 0x94, 0x79, 0x8c, 0x2e, 0x74, 0x2e, 0x74, 0x93, 0xf2, 0x08, 0x00, 0x20, 0x0c, 0x0a, 0x66},
     orion_dark_tools_hooks},
    /* TOOLS_TLS */
    {{0x42, 0xd8, 0x5a, 0x81, 0x23, 0xf6, 0xcb, 0x47, 0x82, 0x98, 0xf6, 0xe7, 0x8a, 0x3a, 0xec, 0xdc},
     orion_dark_tools_tls},
    /* TOOLS_CONTEXT */
    {{0x21, 0x31, 0x8c, 0x60, 0x97, 0x14, 0x32, 0x48, 0x8c, 0xa6, 0x41, 0xff, 0x73, 0x24, 0xc8, 0xf2},
     orion_dark_tools_context},
    /* context-local storage */
    {{0xc6, 0x93, 0x33, 0x6e, 0x11, 0x21, 0xdf, 0x11, 0xa8, 0xc3, 0x68, 0xf3, 0x55, 0xd8, 0x95, 0x93},
     orion_dark_context_storage},
    /* context checks */
    {{0x26, 0x3e, 0x88, 0x60, 0x7c, 0xd2, 0x61, 0x43, 0x92, 0xf6, 0xbb, 0xd5, 0x00, 0x6d, 0xfa, 0x7e},
     orion_dark_context_checks},
    /* integrity */
    {{0xd4, 0x08, 0x20, 0x55, 0xbd, 0xe6, 0x70, 0x4b, 0x8d, 0x34, 0xba, 0x12, 0x3c, 0x66, 0xe1, 0xf2},
     orion_dark_integrity},
    /* TOOLS_MODULE */
    {{0x6e, 0x16, 0x3f, 0xbe, 0xb9, 0x58, 0x44, 0x4d, 0x83, 0x5c, 0xe1, 0x82, 0xaf, 0xf1, 0x99, 0x1e},
     orion_dark_tools_module},
    /* unnamed; cuBLASLt 13.4 crashes when it is refused */
    {{0x17, 0x34, 0xdc, 0x26, 0x80, 0x0d, 0x47, 0x45, 0x87, 0x26, 0xc0, 0xf1, 0xe7, 0xdd, 0x8b, 0xca},
     orion_dark_blaslt},
    /* unnamed; the runtime would take another path with it */
    {{0xf8, 0xcf, 0xf9, 0x51, 0x21, 0x46, 0x8b, 0x4e, 0xb9, 0xe2, 0xfb, 0x46, 0x9e, 0x7c, 0x0d, 0xd9}, NULL},
    /* unnamed; NVRTC and nvJitLink ask and do without */
    {{0xda, 0x91, 0x51, 0xd3, 0x3a, 0xe6, 0xcc, 0x41, 0xa5, 0xc0, 0x4f, 0x26, 0xd5, 0x33, 0xe3, 0x28}, NULL},
};

/* A runtime from before 11.3, most likely in the program itself. Other tables are other libraries' as well. */
static CUresult refuse(void)
{
    static uint32_t said;
    char text[192];
    if (!__atomic_exchange_n(&said, 1, __ATOMIC_RELAXED)) {
        orion_runtime_advise(text, sizeof text, "the program's CUDA runtime, from before CUDA 11.3,");
        orion_say("%s", text);
    }
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult orion_hand_cuGetExportTable(const void **ppExportTable, const CUuuid *pExportTableId)
{
    if (!ppExportTable || !pExportTableId)
        return CUDA_ERROR_INVALID_VALUE;
    *ppExportTable = NULL;
    if (!memcmp(tables[0].uuid, pExportTableId, 16) && !orion_proc_address_asked() && orion_runtime_finds_by_symbol())
        return refuse();
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (memcmp(tables[i].uuid, pExportTableId, 16))
            continue;
        *ppExportTable = tables[i].table;
        return tables[i].table ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    }
    char hex[33];
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", (unsigned char)pExportTableId->bytes[i]);
    orion_debug("cuGetExportTable: unknown table %s refused", hex);
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult orion_dark_unused(const char *table, int slot, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                           uint64_t f)
{
    orion_debug("export table %s: slot %d called (%llx, %llx, %llx, %llx, %llx, %llx)", table, slot,
                (unsigned long long)a, (unsigned long long)b, (unsigned long long)c, (unsigned long long)d,
                (unsigned long long)e, (unsigned long long)f);
    return CUDA_ERROR_NOT_SUPPORTED;
}
