/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and loading the driver; see driver.h. */
#include "cuda/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OLDEST 11040 /* uuid_v2; host registration, cooperative launches and the rest are older */

/* Where the driver's package or a container runtime puts it, in case the loader finds our own library first. */
static const char *const places[] = {
    "libcuda.so.1",
    "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
    "/usr/lib64/libcuda.so.1",
    "/usr/lib/libcuda.so.1",
    "/usr/local/nvidia/lib64/libcuda.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",
    "/run/opengl-driver/lib/libcuda.so.1",
};

static const orion_shim_t *shim_of(void *library)
{
    return dlsym(library, "orion_shim_marker");
}

/* A library that is there and loads; ours is passed over unless it was named. */
static CUresult load(orion_driver_t *driver, char *why, size_t why_bytes)
{
    const char *named = getenv("ORION_DRIVER");
    int ours = 0;
    if (named && *named) {
        driver->library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
        if (!driver->library) {
            snprintf(why, why_bytes, "ORION_DRIVER=%s cannot be loaded: %s", named, dlerror());
            return CUDA_ERROR_SHARED_OBJECT_INIT_FAILED;
        }
        driver->shim = shim_of(driver->library);
        return CUDA_SUCCESS;
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        void *library = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
        if (library && !shim_of(library)) {
            driver->library = library;
            return CUDA_SUCCESS;
        }
        if (library) {
            ours = 1;
            dlclose(library);
        }
    }
    snprintf(why, why_bytes,
             ours ? "the only libcuda.so.1 here is Orion's own, which would call itself: install NVIDIA's driver, use "
                    "--device cpu, or name a driver in ORION_DRIVER"
                  : "there is no libcuda.so.1 here: install NVIDIA's driver, use --device cpu, or name a driver in "
                    "ORION_DRIVER");
    return CUDA_ERROR_NO_DEVICE;
}

typedef CUresult (*find_fn)(const char *symbol, void **function, int version, cuuint64_t flags,
                            CUdriverProcAddressQueryResult *status);

/* cuGetProcAddress knows base names and versions; before 12.0 the symbol's own name is enough. */
static void *find(const orion_driver_t *driver, find_fn by_version, const char *base, const char *symbol, int version)
{
    void *function = NULL;
    if (by_version && by_version(base, &function, version, 0, NULL) == CUDA_SUCCESS && function)
        return function;
    return dlsym(driver->library, symbol);
}

CUresult orion_driver_open(orion_driver_t *driver, char *why, size_t why_bytes)
{
    const char *missing = NULL;
    memset(driver, 0, sizeof *driver);
    CUresult result = load(driver, why, why_bytes);
    if (result != CUDA_SUCCESS)
        return result;
    const find_fn by_version = (find_fn)dlsym(driver->library, "cuGetProcAddress_v2");

#define REQUIRED(name, symbol, version, parameters)                                     \
    if (!(*(void **)&driver->name = find(driver, by_version, #name, #symbol, version))) \
        missing = #symbol;
#define OPTIONAL(name, symbol, version, parameters) \
    *(void **)&driver->name = find(driver, by_version, #name, #symbol, version);
    ORION_DRIVER_FUNCTIONS(REQUIRED)
    ORION_DRIVER_OPTIONAL(OPTIONAL)
#undef REQUIRED
#undef OPTIONAL

    if (driver->cuDriverGetVersion)
        driver->cuDriverGetVersion(&driver->version);
    result = CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
    if (missing || driver->version < OLDEST) {
        snprintf(why, why_bytes, "the driver is too old (CUDA %d.%d%s%s): 11.4 or later is needed",
                 driver->version / 1000, driver->version % 1000 / 10, missing ? ", no " : "", missing ? missing : "");
        goto err_close;
    }
    result = driver->cuInit(0);
    if (result == CUDA_SUCCESS)
        return CUDA_SUCCESS;
    snprintf(why, why_bytes, "cuInit of the driver failed: %s", orion_driver_error(driver, result));

err_close:
    dlclose(driver->library);
    driver->library = NULL;
    return result;
}

const char *orion_driver_error(const orion_driver_t *driver, CUresult result)
{
    static _Thread_local char number[32];
    const char *name = NULL;
    if (driver->cuGetErrorName && driver->cuGetErrorName(result, &name) == CUDA_SUCCESS && name)
        return name;
    snprintf(number, sizeof number, "CUDA error %d", (int)result);
    return number;
}

int orion_driver_is_sticky(CUresult result)
{
    switch (result) {
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_EXTERNAL_DEVICE:
    case CUDA_ERROR_UNKNOWN:
        return 1;
    default:
        return 0;
    }
}
