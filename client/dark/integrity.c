/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime asks three times at its start whether the driver is genuine, with version, +1 and +2; a wrong answer
 * fails every later call. Constants and message as published by ZLUDA and Lupine: a compatibility handshake, computed
 * here and never sent anywhere; see docs/legal.md.
 */
#include "context.h"
#include "dark/md2.h"
#include "dark/table.h"
#include "device.h"
#include "runtimes.h"
#include "say.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Woverride-init" /* slots that are used replace the unused ones */

static const uint8_t key[16] = {0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52,
                                0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f};

typedef struct {
    uint8_t bytes[256];
    size_t used;
} message_t;

static void put(message_t *message, const void *data, size_t bytes)
{
    memcpy(message->bytes + message->used, data, bytes);
    message->used += bytes;
}

static void put_u32(message_t *message, uint32_t value)
{
    put(message, &value, sizeof value);
}

static void put_u64(message_t *message, uint64_t value)
{
    put(message, &value, sizeof value);
}

/* Runtimes before 11.8 have not been watched. They pass this error on to the program. */
static CUresult refuse(uint32_t version)
{
    static uint32_t said;
    char what[64], text[192];
    if (!__atomic_exchange_n(&said, 1, __ATOMIC_RELAXED)) {
        snprintf(what, sizeof what, "the program's CUDA runtime %u.%u", version / 1000, version % 1000 / 10);
        orion_runtime_advise(text, sizeof text, what);
        orion_say("%s", text);
    }
    return CUDA_ERROR_NOT_SUPPORTED;
}

static CUresult check(uint32_t version, uint64_t unix_seconds, uint64_t result[2])
{
    const orion_session_t *session = &orion_the_session;
    message_t message = {.used = 0};

    if (version < ORION_RUNTIME_OLDEST)
        return refuse(version);
    if (version % 10 <= 1) {
        result[0] = version % 10 == 0 ? 0x3341181c03cb675cull : 0x1841181c03cb675cull;
        result[1] = 0x8ed383aa1f4cd1e8ull;
        return CUDA_SUCCESS;
    }
    put_u32(&message, ORION_DRIVER_VERSION);
    put_u32(&message, version);
    put_u32(&message, (uint32_t)getpid());
    put_u32(&message, (uint32_t)(uintptr_t)pthread_self());
    put_u64(&message, (uintptr_t)orion_dark_cudart);
    put_u64(&message, (uintptr_t)orion_dark_integrity);
    put_u64(&message, (uintptr_t)orion_dark_integrity[1]);
    put_u64(&message, unix_seconds);
    for (uint32_t device = 0; device < session->device_count; device++) {
        put(&message, session->device.uuid, 16);
        put_u32(&message, (uint32_t)orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID));
        put_u32(&message, (uint32_t)orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID));
        put_u32(&message, (uint32_t)orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID));
    }
    orion_hmac_md2(key, message.bytes, message.used, (uint8_t *)result);
    return CUDA_SUCCESS;
}

ORION_DARK_TEN(integrity, )

orion_dark_word_t orion_dark_integrity[] = {
    ORION_DARK_TEN_WORDS(integrity, ),
    [0] = ORION_DARK_BYTES(3),
    [1] = check,
};
