/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver for tests: a library like libcuda.so.1 without a GPU and without our marker, so that the cuda device takes it
 * for a real one. It does all work at once, keeps what it is given, and fails where it is told to.
 */
#ifndef ORION_TESTS_MOCK_DRIVER_H
#define ORION_TESTS_MOCK_DRIVER_H

#include "orion_generated/orion_cuda.h"

#include <stdint.h>

enum { MOCK_MOST = 32 };

typedef struct mock_input {
    CUjitInputType type;
    char name[64];
    unsigned char *data; /* a copy */
    size_t bytes;
    unsigned options;
} mock_input_t;

typedef struct mock_driver {
    /* What it is to do. */
    int version;              /* of CUDA */
    int devices;              /* how many there are */
    const char *fails;        /* the one function that fails, by the name in driver.h */
    CUresult with;            /* how */
    int64_t shift;            /* the device's address of registered memory less the host's */
    size_t wanted;            /* bytes to keep of an image: nobody tells a driver how long one is */
    const char *error, *info; /* for log buffers of the linker and of modules */
    const char *linked;       /* what linking results in */
    size_t linked_bytes;

    /* What it was given. */
    unsigned calls; /* of the function that fails */
    struct {
        void *memory; /* NULL: unregistered again */
        size_t bytes;
        unsigned flags;
    } registered[MOCK_MOST];
    unsigned registrations;
    unsigned char *image;                       /* the last module's first `wanted` bytes */
    uint32_t wrapper[2];                        /* the wrapper's magic and version, where a fatbin came in one */
    uintptr_t linked_result, object[MOCK_MOST]; /* where the wrapper's fatbins were */
    unsigned objects;
    mock_input_t input[MOCK_MOST];
    unsigned inputs, links, links_open;
    CUjit_option option[MOCK_MOST];
    uint64_t value[MOCK_MOST];
    unsigned options;
    unsigned char params[64]; /* of the last launch */
    size_t params_bytes;
    unsigned launches;
} mock_driver_t;

mock_driver_t *mock_driver(void);
/* Forgets what it was given and does everything right again. */
void mock_reset(void);

#endif
