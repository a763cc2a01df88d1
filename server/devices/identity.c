/* SPDX-License-Identifier: Apache-2.0 */
/* What a device says about itself. Attributes not named here are 0: textures, peers and graphs' memory operations are
 * not served. IPC_EVENT_SUPPORTED depends on the broker (host.c). */
#include "host.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PCI_BUS 0x4f /* 'O': a place where no machine has a GPU */

/* The value of a "key : value" line of /proc/cpuinfo, trimmed. */
static int cpuinfo(const char *key, char *value, size_t bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[512];
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !colon)
            continue;
        char *p = colon + 1;
        while (isspace((unsigned char)*p))
            p++;
        size_t n = strlen(p);
        while (n && isspace((unsigned char)p[n - 1]))
            n--;
        snprintf(value, bytes, "%.*s", (int)n, p);
        found = 1;
    }
    if (file)
        fclose(file);
    return found;
}

static void host_identity(char *id, size_t bytes)
{
    FILE *file = fopen("/etc/machine-id", "re");
    int known = file && fgets(id, (int)bytes, file) && strlen(id) > 8;
    if (file)
        fclose(file);
    if (!known && gethostname(id, bytes) != 0)
        snprintf(id, bytes, "unknown");
    id[bytes - 1] = 0;
    id[strcspn(id, "\n")] = 0;
}

static uint64_t mix(uint64_t hash, const char *text)
{
    for (; *text; text++) {
        hash ^= (unsigned char)*text;
        hash *= 0x100000001b3ull;
    }
    hash ^= hash >> 30;
    hash *= 0xbf58476d1ce4e5b9ull;
    hash ^= hash >> 27;
    hash *= 0x94d049bb133111ebull;
    return hash ^ hash >> 31;
}

static void make_uuid(uint8_t uuid[16], const char *host_id, const char *name)
{
    uint64_t half[2];
    half[0] = mix(mix(0xcbf29ce484222325ull, host_id), name);
    half[1] = mix(mix(half[0], name), host_id);
    memcpy(uuid, half, 16);
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x80); /* version 8: made by the vendor's own rule */
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static int32_t cache_bytes(void)
{
    long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (bytes <= 0)
        bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (bytes <= 0)
        bytes = 1 << 20;
    return bytes > INT_MAX ? INT_MAX : (int32_t)bytes;
}

static int32_t clock_khz(void)
{
    char text[64];
    double mhz = 0;
    if (!cpuinfo("cpu MHz", text, sizeof text) || sscanf(text, "%lf", &mhz) != 1 || mhz < 1 || mhz > 1e6)
        return 1000000;
    return (int32_t)(mhz * 1000);
}

void orion_identity_describe(orion_device_info_t *info_p, const char *kind, unsigned multiprocessors, uint64_t memory,
                             const char *host_id)
{
    memset(info_p, 0, sizeof *info_p);
    if (!cpuinfo("model name", info_p->processor, sizeof info_p->processor))
        snprintf(info_p->processor, sizeof info_p->processor, "unknown processor");
    snprintf(info_p->name, sizeof info_p->name, "Orion %s device (%s)", kind, info_p->processor);
    char found[256];
    if (!host_id) {
        host_identity(found, sizeof found);
        host_id = found;
    }
    make_uuid(info_p->uuid, host_id, info_p->name);
    snprintf(info_p->pci_bus_id, sizeof info_p->pci_bus_id, "0000:%02x:00.0", PCI_BUS);
    info_p->total_memory = memory;
    info_p->memory_unit = ORION_HEAP_ALIGN;
    info_p->driver_version = 13000;

    int32_t *a = info_p->attributes;
    a[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK] = 1024;
    a[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X] = 1024;
    a[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y] = 1024;
    a[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z] = 64;
    a[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X] = INT_MAX;
    a[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y] = 65535;
    a[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z] = 65535;
    a[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK] = 48 << 10;
    a[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN] = 163 << 10;
    a[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR] = 164 << 10;
    a[CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK] = 1 << 10;
    a[CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY] = 64 << 10;
    a[CU_DEVICE_ATTRIBUTE_WARP_SIZE] = 32;
    a[CU_DEVICE_ATTRIBUTE_MAX_PITCH] = INT_MAX;
    a[CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK] = 65536;
    a[CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR] = 65536;
    a[CU_DEVICE_ATTRIBUTE_CLOCK_RATE] = clock_khz();
    a[CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT] = 512;
    a[CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT] = 32;
    a[CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT] = 512;
    a[CU_DEVICE_ATTRIBUTE_GPU_OVERLAP] = 1;
    a[CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT] = 1;
    a[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT] = (int32_t)multiprocessors;
    a[CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY] = 1;
    a[CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS] = 1;
    a[CU_DEVICE_ATTRIBUTE_PCI_BUS_ID] = PCI_BUS;
    a[CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH] = 64;
    a[CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE] = cache_bytes();
    a[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR] = 2048;
    a[CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR] = 32;
    a[CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING] = 1;
    a[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR] = 8;
    a[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR] = 0;
    a[CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED] = 1;
    a[CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED] = 1;
    a[CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY] = 1;
    a[CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED] = 1;
    a[CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO] = 2;
    a[CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH] = 1;
    a[CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED] = 1;
    a[CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED] = 1;
    a[CU_DEVICE_ATTRIBUTE_MEM_SYNC_DOMAIN_COUNT] = 1;
    a[CU_DEVICE_ATTRIBUTE_NUMA_ID] = -1;
    a[CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID] = -1;
}
