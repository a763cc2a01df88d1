/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cuda device on a driver that it takes for a real one: what the cascade cannot show, because our own library takes
 * other ways there. ORION_DRIVER names the library.
 */
#include "devices.h"
#include "mock_driver.h"

#include <dlfcn.h>
#include <sys/mman.h>

static const orion_device_ops_t *const ops = &orion_cuda_device;
static orion_device_t *device;
static mock_driver_t *mock;
static void (*reset_mock)(void);
static uint32_t turn;
static orion_usage_t usage;

static CUresult try_open(char *why, size_t why_bytes)
{
    turn = ORION_TURN_ALONE;
    usage = (orion_usage_t){0};
    const orion_device_config_t config = {.memory_limit = 256 * MIB, .turn = &turn, .usage = &usage};
    return ops->open(&config, &device, why, why_bytes);
}

static void begin(void)
{
    char why[512] = "";
    reset_mock();
    if (try_open(why, sizeof why) != CUDA_SUCCESS) {
        fprintf(stderr, "open: %s\n", why);
        exit(1);
    }
}

static void end(void)
{
    ops->close(device);
}

static void fail(const char *function, CUresult result)
{
    mock->with = result;
    mock->calls = 0;
    mock->fails = function;
}

static uint64_t used(void)
{
    uint64_t free_bytes, total;
    MUST(ops->mem_info(device, &free_bytes, &total) == CUDA_SUCCESS);
    return total - free_bytes;
}

static unsigned live_registrations(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < mock->registrations; i++)
        count += mock->registered[i].memory != NULL;
    return count;
}

/* ---- opening */

static void driver_that_does_not_start_is_named(void)
{
    static const struct {
        const char *function;
        CUresult result;
        const char *words;
    } steps[] = {
        {"cuInit", CUDA_ERROR_SYSTEM_NOT_READY, "cuInit of the driver failed: CUDA_ERROR_SYSTEM_NOT_READY"},
        {"cuInit", (CUresult)9999, "cuInit of the driver failed: CUDA error 9999"},
        {"cuDeviceGetCount", CUDA_ERROR_NO_DEVICE, "could not count its devices: CUDA_ERROR_NO_DEVICE"},
        {"cuDeviceGet", CUDA_ERROR_NO_DEVICE, "could not choose its first device: CUDA_ERROR_NO_DEVICE"},
        {"cuDevicePrimaryCtxRetain", CUDA_ERROR_OUT_OF_MEMORY,
         "could not retain the primary context: CUDA_ERROR_OUT_OF_MEMORY"},
        {"cuCtxSetCurrent", CUDA_ERROR_OUT_OF_MEMORY, "could not use the primary context: CUDA_ERROR_OUT_OF_MEMORY"},
        {"cuStreamCreateWithPriority", CUDA_ERROR_OUT_OF_MEMORY, "could not make a stream: CUDA_ERROR_OUT_OF_MEMORY"},
        {"cuEventCreate", CUDA_ERROR_OUT_OF_MEMORY, "could not make an event: CUDA_ERROR_OUT_OF_MEMORY"},
    };
    char why[512];
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        reset_mock();
        fail(steps[i].function, steps[i].result);
        why[0] = '\0';
        CHECK_EQUAL(try_open(why, sizeof why), steps[i].result);
        CHECK(strstr(why, steps[i].words));
    }
    reset_mock();
    mock->devices = 0;
    CHECK_EQUAL(try_open(why, sizeof why), CUDA_ERROR_NO_DEVICE);
    CHECK(strstr(why, "CUDA_ERROR_NO_DEVICE"));
}

static void driver_that_is_too_old_is_told_apart(void)
{
    char why[512] = "";
    reset_mock();
    mock->version = 11030;
    CHECK_EQUAL(try_open(why, sizeof why), CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
    CHECK(strcmp(why, "the driver is too old (CUDA 11.3): 11.4 or later is needed") == 0);
    mock->version = 11040;
    CHECK_EQUAL(try_open(why, sizeof why), CUDA_SUCCESS);
    end();
}

/* ---- memory that both sides see */

static void *pages(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(memory != MAP_FAILED);
    return memory;
}

static void extents_are_registered_and_reached_directly(void)
{
    begin();
    void *extent = pages(2 * MIB);
    const uint64_t address = (uint64_t)(uintptr_t)extent;
    CHECK_EQUAL(ops->host_register(device, address, 2 * MIB, -1, 0), CUDA_SUCCESS);
    CHECK_EQUAL(mock->registrations, 1);
    CHECK(mock->registered[0].memory == extent);
    CHECK_EQUAL(mock->registered[0].bytes, 2 * MIB);
    CHECK_EQUAL(mock->registered[0].flags, CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
    waiter_t done = WAITER;
    fail("cuMemHostAlloc", CUDA_ERROR_OUT_OF_MEMORY); /* so nothing can bounce */
    CHECK_EQUAL(ops->fill(device, NULL, address, 0x5a, 1, 0, MIB, 1, NULL, NULL), CUDA_SUCCESS);
    CHECK_EQUAL(ops->copy(device, NULL, address + MIB, address, MIB, waiter_done, &done), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
    CHECK_EQUAL(((unsigned char *)extent)[2 * MIB - 1], 0x5a);
    CHECK_EQUAL(mock->calls, 0);
    ops->host_unregister(device, address);
    CHECK_EQUAL(live_registrations(), 0);
    end();
    munmap(extent, 2 * MIB);
}

static void extents_that_the_device_sees_elsewhere_are_refused(void)
{
    begin();
    void *extent = pages(MIB);
    const uint64_t address = (uint64_t)(uintptr_t)extent;
    mock->shift = 4096;
    CHECK_EQUAL(ops->host_register(device, address, MIB, -1, 0), CUDA_ERROR_NOT_SUPPORTED);
    CHECK_EQUAL(mock->registrations, 1);
    CHECK_EQUAL(live_registrations(), 0);
    fail("cuMemHostGetDevicePointer", CUDA_ERROR_INVALID_VALUE);
    CHECK_EQUAL(ops->host_register(device, address, MIB, -1, 0), CUDA_ERROR_NOT_SUPPORTED);
    CHECK_EQUAL(live_registrations(), 0);
    /* staging is copied to and from, never mapped: where the device would see it does not matter */
    CHECK_EQUAL(ops->host_register(device, address, MIB, -1, ORION_HOST_STAGING), CUDA_SUCCESS);
    CHECK_EQUAL(mock->registered[2].flags, CU_MEMHOSTREGISTER_PORTABLE);
    end();
    CHECK_EQUAL(live_registrations(), 0);
    munmap(extent, MIB);
}

static void memory_that_the_driver_refuses_is_bounced(void)
{
    begin();
    char *extent = pages(MIB);
    const uint64_t address = (uint64_t)(uintptr_t)extent;
    uint64_t memory = 0;
    waiter_t done = WAITER;
    fail("cuMemHostRegister", CUDA_ERROR_NOT_PERMITTED);
    /* whatever the driver says: to the client it means that such memory is not to be had */
    CHECK_EQUAL(ops->host_register(device, address, MIB, -1, 0), CUDA_ERROR_NOT_SUPPORTED);
    CHECK_EQUAL(ops->host_register(device, address, MIB, -1, ORION_HOST_STAGING), CUDA_ERROR_NOT_SUPPORTED);
    CHECK_EQUAL(mock->calls, 2);
    fail("cuMemHostRegister", CUDA_ERROR_OUT_OF_MEMORY); /* this one is meant */
    CHECK_EQUAL(ops->host_register(device, address, MIB, -1, 0), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(ops->mem_alloc(device, MIB, &memory), CUDA_SUCCESS);
    memset(extent, 0x11, MIB);
    CHECK_EQUAL(ops->copy(device, NULL, memory, address, MIB, waiter_done, &done), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
    memset(extent, 0, MIB);
    CHECK_EQUAL(ops->copy(device, NULL, address, memory, MIB, waiter_done, &done), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&done, 2), CUDA_SUCCESS);
    CHECK(extent[0] == 0x11 && extent[MIB - 1] == 0x11);
    end();
    munmap(extent, MIB);
}

static void reset_registers_staging_anew_and_forgets_extents(void)
{
    begin();
    char *staging = pages(MIB), *extent = pages(MIB);
    waiter_t reset = WAITER;
    CHECK_EQUAL(ops->host_register(device, (uint64_t)(uintptr_t)staging, MIB, -1, ORION_HOST_STAGING), CUDA_SUCCESS);
    CHECK_EQUAL(ops->host_register(device, (uint64_t)(uintptr_t)extent, MIB, -1, 0), CUDA_SUCCESS);
    CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&reset, 1), CUDA_SUCCESS);
    CHECK_EQUAL(live_registrations(), 1);
    CHECK(mock->registered[2].memory == staging);
    CHECK_EQUAL(mock->registered[2].flags, CU_MEMHOSTREGISTER_PORTABLE);
    fail("cuMemHostRegister", CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&reset, 2), CUDA_SUCCESS); /* copies bounce from now on */
    uint64_t memory = 0;
    waiter_t done = WAITER;
    CHECK_EQUAL(ops->mem_alloc(device, 64, &memory), CUDA_SUCCESS);
    CHECK_EQUAL(ops->copy(device, NULL, memory, (uint64_t)(uintptr_t)staging, 64, waiter_done, &done), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
    end();
    munmap(staging, MIB);
    munmap(extent, MIB);
}

/* ---- images */

static const char ptx[] = ".version 7.0\n.target sm_75\n.address_size 64\n"
                          ".visible .entry f(.param .u64 a, .param .u32 b)\n{\n    ret;\n}\n";

static orion_module_t *load(const void *image, size_t bytes)
{
    orion_module_t *module = NULL;
    char log[256] = "";
    mock->wanted = bytes;
    MUST(ops->module_load(device, image, bytes, &module, log, sizeof log) == CUDA_SUCCESS);
    return module;
}

static void images_reach_the_driver_byte_for_byte(void)
{
    unsigned char cubin[300], fatbin[16 + 64 + 200];
    begin();
    for (size_t i = 0; i < sizeof cubin; i++)
        cubin[i] = (unsigned char)(i * 7);
    memcpy(cubin, "\177ELF", 4);
    for (size_t i = 0; i < sizeof fatbin; i++)
        fatbin[i] = (unsigned char)(i * 5);
    const uint32_t header[] = {0xba55ed50u, 16u << 16 | 1, sizeof fatbin - 16, 0};
    memcpy(fatbin, header, sizeof header);
    load(ptx, sizeof ptx);
    CHECK(mock->wrapper[0] == 0 && memcmp(mock->image, ptx, sizeof ptx) == 0);
    load(cubin, sizeof cubin);
    CHECK(mock->wrapper[0] == 0 && memcmp(mock->image, cubin, sizeof cubin) == 0);
    load(fatbin, sizeof fatbin);
    CHECK(mock->wrapper[0] == 0x466243b1u && mock->wrapper[1] == 1);
    CHECK(memcmp(mock->image, fatbin, sizeof fatbin) == 0);
    end();
}

static size_t put_fatbin(unsigned char *at, size_t body)
{
    const uint32_t header[] = {0xba55ed50u, 16u << 16 | 1, (uint32_t)body, 0};
    memcpy(at, header, sizeof header);
    memset(at + 16, (int)body, body);
    return 16 + body;
}

static void objects_to_link_reach_the_driver_together(void)
{
    unsigned char image[16 + 16 + 80 + 16 + 72];
    size_t used = put_fatbin(image, 0); /* nvcc has linked nothing for this device */
    begin();
    used += put_fatbin(image + used, 80);
    used += put_fatbin(image + used, 72);
    CHECK_EQUAL(used, sizeof image);
    load(image, sizeof image);
    CHECK_EQUAL(mock->wrapper[1], 2);
    CHECK_EQUAL(mock->objects, 2);
    CHECK(memcmp(mock->image, image, sizeof image) == 0);
    CHECK(mock->object[0] - mock->linked_result == 16 && mock->object[1] - mock->object[0] == 16 + 80);
    load(image + 16, 16 + 80);
    CHECK_EQUAL(mock->wrapper[1], 1);
    CHECK_EQUAL(mock->objects, 0);
    end();
}

static void fatbins_that_promise_more_than_there_is_are_refused(void)
{
    unsigned char image[16 + 80 + 16 + 72];
    orion_module_t *module;
    begin();
    put_fatbin(image + put_fatbin(image, 80), 72);
    for (size_t bytes = 4; bytes < sizeof image; bytes++)
        if (bytes != 16 + 80)
            CHECK_EQUAL(ops->module_load(device, image, bytes, &module, NULL, 0), CUDA_ERROR_INVALID_IMAGE);
    memset(image + 8, 0xff, 8);
    CHECK_EQUAL(ops->module_load(device, image, sizeof image, &module, NULL, 0), CUDA_ERROR_INVALID_IMAGE);
    unsigned char many[16 * 80];
    for (size_t i = 0; i < 80; i++)
        put_fatbin(many + 16 * i, 0);
    CHECK_EQUAL(ops->module_load(device, many, sizeof many, &module, NULL, 0), CUDA_ERROR_INVALID_IMAGE);
    CHECK(!mock->image); /* the driver has seen none of them */
    end();
}

static void what_the_driver_says_of_an_image_comes_back(void)
{
    static const struct {
        CUresult result;
        const char *words;
    } cases[] = {
        {CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX: line 3: no such instruction"},
        {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "which is of CUDA 13.0: update the driver"},
        {CUDA_ERROR_NO_BINARY_FOR_GPU, "capability 9.0, and no PTX for it"},
        {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
    };
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        orion_module_t *module;
        char log[512] = "";
        mock->error = "line 3: no such instruction";
        fail("cuModuleLoadDataEx", cases[i].result);
        CHECK_EQUAL(ops->module_load(device, ptx, sizeof ptx, &module, log, sizeof log), cases[i].result);
        CHECK(strstr(log, cases[i].words));
    }
    end();
}

static void launch_hands_the_parameter_block_over(void)
{
    begin();
    const struct {
        uint64_t a;
        uint32_t b, unused;
    } block = {0x1122334455667788u, 99, 0};
    orion_function_t *function;
    orion_function_info_t *info = calloc(1, sizeof *info);
    char log[256] = "";
    waiter_t done = WAITER;
    orion_module_t *module = load(ptx, sizeof ptx);
    CHECK_EQUAL(ops->module_function(device, module, "f", &function, info, log, sizeof log), CUDA_SUCCESS);
    CHECK_EQUAL(info->param_count, 2); /* this driver does not tell them: read from the text */
    CHECK_EQUAL(info->param_bytes, 12);
    free(info);
    const orion_launch_t launch = {
        .function = function, .grid = {1, 1, 1}, .block = {32, 1, 1}, .params = &block, .param_bytes = 12};
    CHECK_EQUAL(ops->launch(device, NULL, &launch, waiter_done, &done), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
    CHECK_EQUAL(mock->launches, 1);
    CHECK_EQUAL(mock->params_bytes, 12);
    CHECK(memcmp(mock->params, &block, 12) == 0);
    end();
}

/* ---- errors of calls */

static orion_module_t *loaded;
static orion_function_t *function_f;
static uint64_t memory_a;

static CUresult call_alloc(void)
{
    uint64_t address;
    return ops->mem_alloc(device, 4096, &address);
}

static CUresult call_stream(void)
{
    orion_stream_t *stream;
    return ops->stream_create(device, 0, 0, &stream);
}

static CUresult call_event(void)
{
    orion_event_t *event;
    return ops->event_create(device, 0, &event);
}

static CUresult call_function(void)
{
    orion_function_t *function;
    char log[256];
    return ops->module_function(device, loaded, "g", &function, NULL, log, sizeof log);
}

static CUresult call_global(void)
{
    uint64_t address, bytes;
    return ops->module_global(device, loaded, "v", &address, &bytes);
}

/* Failures of work come by the call or by its callback. */
static CUresult of_work(CUresult result, waiter_t *done)
{
    return result != CUDA_SUCCESS ? result : waiter_wait(done, 1);
}

static CUresult call_copy(void)
{
    waiter_t done = WAITER;
    return of_work(ops->copy(device, NULL, memory_a, memory_a + 2048, 64, waiter_done, &done), &done);
}

static CUresult call_rows(void)
{
    waiter_t done = WAITER;
    return of_work(ops->copy_2d(device, NULL, memory_a, 64, memory_a + 2048, 64, 8, 8, waiter_done, &done), &done);
}

static CUresult call_fill(void)
{
    waiter_t done = WAITER;
    return of_work(ops->fill(device, NULL, memory_a, 1, 4, 0, 16, 1, waiter_done, &done), &done);
}

static CUresult call_launch(void)
{
    static const uint64_t block[2];
    waiter_t done = WAITER;
    const orion_launch_t launch = {
        .function = function_f, .grid = {1, 1, 1}, .block = {1, 1, 1}, .params = block, .param_bytes = 12};
    return of_work(ops->launch(device, NULL, &launch, waiter_done, &done), &done);
}

static void errors_of_the_driver_come_back_as_they_are(void)
{
    static const struct {
        const char *function;
        CUresult result;
        CUresult (*call)(void);
    } calls[] = {
        {"cuMemAlloc", CUDA_ERROR_OUT_OF_MEMORY, call_alloc},
        {"cuMemsetD8Async", CUDA_ERROR_INVALID_VALUE, call_alloc}, /* what is not cleared is not given out */
        {"cuStreamCreateWithPriority", CUDA_ERROR_OUT_OF_MEMORY, call_stream},
        {"cuModuleGetFunction", CUDA_ERROR_NOT_FOUND, call_function},
        {"cuModuleGetGlobal", CUDA_ERROR_NOT_FOUND, call_global},
        {"cuMemcpyAsync", CUDA_ERROR_INVALID_VALUE, call_copy},
        {"cuMemcpy2DAsync", CUDA_ERROR_INVALID_VALUE, call_rows},
        {"cuMemsetD32Async", CUDA_ERROR_INVALID_VALUE, call_fill},
        {"cuLaunchKernel", CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, call_launch},
    };
    begin();
    loaded = load(ptx, sizeof ptx);
    MUST(ops->module_function(device, loaded, "f", &function_f, NULL, NULL, 0) == CUDA_SUCCESS);
    MUST(ops->mem_alloc(device, 4096, &memory_a) == CUDA_SUCCESS);
    MUST(call_event() == CUDA_SUCCESS);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        const uint64_t before = used();
        fail(calls[i].function, calls[i].result);
        check_current = calls[i].function;
        CHECK_EQUAL(calls[i].call(), calls[i].result);
        CHECK(mock->calls > 0);
        CHECK_EQUAL(used(), before);
        mock->fails = NULL;
        CHECK_EQUAL(ops->status(device, NULL, 0), CUDA_SUCCESS); /* that call alone */
        if (calls[i].call != call_function && calls[i].call != call_global)
            CHECK_EQUAL(calls[i].call(), CUDA_SUCCESS);
    }
    end();
}

static void lost_device_is_told_to_everybody_who_waits(void)
{
    begin();
    char text[256] = "";
    uint64_t memory;
    waiter_t done = WAITER;
    CHECK_EQUAL(ops->mem_alloc(device, 4096, &memory), CUDA_SUCCESS);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    fail("cuEventQuery", CUDA_ERROR_ECC_UNCORRECTABLE);
    CHECK_EQUAL(ops->fill(device, NULL, memory, 1, 1, 0, 64, 1, waiter_done, &done), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_ERROR_ECC_UNCORRECTABLE);
    CHECK_EQUAL(ops->status(device, text, sizeof text), CUDA_ERROR_ECC_UNCORRECTABLE);
    CHECK(strstr(text, "CUDA_ERROR_ECC_UNCORRECTABLE"));
    CHECK_EQUAL(ops->mem_alloc(device, 64, &memory), CUDA_ERROR_ECC_UNCORRECTABLE);
    orion_module_t *module;
    CHECK_EQUAL(ops->module_load(device, ptx, sizeof ptx, &module, NULL, 0), CUDA_ERROR_ECC_UNCORRECTABLE);
    mock->fails = NULL; /* such a device comes back with a reset, or the process ends */
    waiter_t reset = WAITER;
    CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&reset, 1), CUDA_SUCCESS);
    CHECK_EQUAL(ops->status(device, text, sizeof text), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_alloc(device, 64, &memory), CUDA_SUCCESS);
    end();
}

static void reset_that_fails_leaves_the_device_lost(void)
{
    begin();
    uint64_t memory;
    waiter_t reset = WAITER;
    fail("cuDevicePrimaryCtxRetain", CUDA_ERROR_DEVICE_UNAVAILABLE);
    CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&reset, 1), CUDA_ERROR_DEVICE_UNAVAILABLE);
    CHECK_EQUAL(ops->mem_alloc(device, 64, &memory), CUDA_ERROR_DEVICE_UNAVAILABLE);
    mock->fails = NULL;
    end();
}

static const check_case_t cases[] = {
    CASE(driver_that_does_not_start_is_named),
    CASE(driver_that_is_too_old_is_told_apart),
    CASE(extents_are_registered_and_reached_directly),
    CASE(extents_that_the_device_sees_elsewhere_are_refused),
    CASE(memory_that_the_driver_refuses_is_bounced),
    CASE(reset_registers_staging_anew_and_forgets_extents),
    CASE(images_reach_the_driver_byte_for_byte),
    CASE(objects_to_link_reach_the_driver_together),
    CASE(fatbins_that_promise_more_than_there_is_are_refused),
    CASE(what_the_driver_says_of_an_image_comes_back),
    CASE(launch_hands_the_parameter_block_over),
    CASE(errors_of_the_driver_come_back_as_they_are),
    CASE(lost_device_is_told_to_everybody_who_waits),
    CASE(reset_that_fails_leaves_the_device_lost),
};

int main(int argc, char **argv)
{
    void *library = dlopen(getenv("ORION_DRIVER"), RTLD_NOW | RTLD_LOCAL);
    MUST(library);
    mock_driver_t *(*find)(void) = (mock_driver_t * (*)(void)) dlsym(library, "mock_driver");
    reset_mock = (void (*)(void))dlsym(library, "mock_reset");
    MUST(find && reset_mock);
    mock = find();
    return check_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
