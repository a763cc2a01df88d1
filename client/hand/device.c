/* SPDX-License-Identifier: Apache-2.0 */
/* Device queries, all answered from what the server told once. */
#include "arena.h"
#include "device.h"

#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#include <ctype.h>
#include <string.h>

/* What needs memory that both sides have at one address. */
static const unsigned mapped_attributes[] = {
    CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY,
    CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY,
    CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
    CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
    CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
};

CUresult orion_device_describe(orion_session_t *session)
{
    orion_device_blob_t *blob = &session->device;
    uint32_t bytes = 0;
    CUresult result = orion_call_orionDescribe(session, blob, sizeof *blob, &bytes);
    if (result)
        return result;
    if (bytes != sizeof *blob)
        return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
    blob->name[sizeof blob->name - 1] = 0;
    blob->pci_bus_id[sizeof blob->pci_bus_id - 1] = 0;
    if (blob->attribute_count > sizeof blob->attributes / sizeof blob->attributes[0])
        blob->attribute_count = sizeof blob->attributes / sizeof blob->attributes[0];
    for (unsigned i = 0; !orion_arena.bytes && i < sizeof mapped_attributes / sizeof mapped_attributes[0]; i++)
        blob->attributes[mapped_attributes[i]] = 0;
    return CUDA_SUCCESS;
}

CUresult orion_device_check(CUdevice device, orion_session_t **session_p)
{
    CUresult result = orion_enter(ORION_NEEDS_INIT, session_p);
    if (result)
        return result;
    return device >= 0 && (uint32_t)device < (*session_p)->device_count ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult orion_hand_cuInit(unsigned int Flags)
{
    return Flags ? CUDA_ERROR_INVALID_VALUE : orion_session_open();
}

CUresult orion_hand_cuDriverGetVersion(int *driverVersion)
{
    if (!driverVersion)
        return CUDA_ERROR_INVALID_VALUE;
    *driverVersion = ORION_DRIVER_VERSION;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceGet(CUdevice *device, int ordinal)
{
    orion_session_t *session;
    CUresult result = orion_device_check(ordinal, &session);
    if (result)
        return result;
    if (!device)
        return CUDA_ERROR_INVALID_VALUE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceGetCount(int *count)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    *count = (int)session->device_count;
    return CUDA_SUCCESS;
}

/* Copies text as CUDA does: cut to the buffer, always terminated. */
static CUresult copy_text(char *to, int bytes, const char *text)
{
    if (!to || bytes <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    size_t length = strlen(text);
    if (length > (size_t)bytes - 1)
        length = (size_t)bytes - 1;
    memcpy(to, text, length);
    to[length] = 0;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceGetName(char *name, int len, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    return result ? result : copy_text(name, len, (const char *)session->device.name);
}

CUresult orion_hand_cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    if (!uuid)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(uuid, session->device.uuid, 16);
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    *bytes = session->device.total_memory;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    if (!pi || (int)attrib <= 0 || attrib >= CU_DEVICE_ATTRIBUTE_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    *pi = orion_device_attribute(session, (unsigned)attrib);
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceComputeCapability(int *major, int *minor, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    if (!major || !minor)
        return CUDA_ERROR_INVALID_VALUE;
    *major = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    *minor = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceGetProperties(CUdevprop *prop, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    if (!prop)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < 3; i++) {
        prop->maxThreadsDim[i] = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i);
        prop->maxGridSize[i] = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i);
    }
    prop->maxThreadsPerBlock = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    prop->sharedMemPerBlock = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    prop->totalConstantMemory = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY);
    prop->SIMDWidth = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    prop->memPitch = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_PITCH);
    prop->regsPerBlock = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
    prop->clockRate = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
    prop->textureAlign = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT);
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    return result ? result : copy_text(pciBusId, len, (const char *)session->device.pci_bus_id);
}

/* "domain:bus:device.function" in hex; domain and function may be left out. */
static int parse_bus_id(const char *text, int32_t parts[3])
{
    int32_t values[3] = {0};
    int count = 0;
    for (; count < 3; text++) {
        int digits = 0;
        for (; isxdigit((unsigned char)*text) && digits < 8; text++, digits++)
            values[count] = values[count] * 16 +
                            (isdigit((unsigned char)*text) ? *text - '0' : (*text | 32) - 'a' + 10);
        if (!digits)
            return 0;
        count++;
        if (*text != ':')
            break;
    }
    if (count < 2 || (*text && *text != '.'))
        return 0;
    parts[0] = count == 3 ? values[0] : 0;
    parts[1] = values[count - 2];
    parts[2] = values[count - 1];
    return 1;
}

CUresult orion_hand_cuDeviceGetByPCIBusId(CUdevice *dev, const char *pciBusId)
{
    orion_session_t *session;
    int32_t parts[3];
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!dev || !pciBusId)
        return CUDA_ERROR_INVALID_VALUE;
    if (!session->device_count || !parse_bus_id(pciBusId, parts) ||
        parts[0] != orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID) ||
        parts[1] != orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID) ||
        parts[2] != orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID))
        return CUDA_ERROR_INVALID_DEVICE;
    *dev = 0;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceCanAccessPeer(int *canAccessPeer, CUdevice dev, CUdevice peerDev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (!result)
        result = orion_device_check(peerDev, &session);
    if (result)
        return result;
    if (!canAccessPeer)
        return CUDA_ERROR_INVALID_VALUE;
    *canAccessPeer = 0;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attrib, CUdevice srcDevice,
                                            CUdevice dstDevice)
{
    orion_session_t *session;
    (void)attrib;
    CUresult result = orion_device_check(srcDevice, &session);
    if (!result)
        result = orion_device_check(dstDevice, &session);
    if (result)
        return result;
    /* A session has one device, and a device is no peer of its own. */
    return value && srcDevice != dstDevice ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
