# SPDX-License-Identifier: Apache-2.0
"""cuda-bindings and cuda-core: compile with NVRTC, link, launch, events. Nothing here knows of Orion."""

from __future__ import annotations

import ctypes
import sys
import threading
import warnings

import checks
import numpy as np
from cuda.bindings import driver, nvrtc
from cuda.core import (
    Device,
    DeviceMemoryResource,
    DeviceMemoryResourceOptions,
    LaunchConfig,
    LegacyPinnedMemoryResource,
    Linker,
    LinkerOptions,
    Program,
    ProgramOptions,
    launch,
)

warnings.simplefilter(
    "ignore", RuntimeWarning
)  # of PTX for a driver that is older than the compiler
SCALE = r"""
extern "C" __global__ void scale(double *x, double by, unsigned long long n) {
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) x[i] *= by;
}
template <typename T> __global__ void fill(T *x, T value, size_t n) {
    size_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] = value;
}
"""
N = 5000

device = Device()
device.set_current()
stream = device.create_stream()
maps = device.properties.can_map_host_memory
print(f"mapped memory: {'used' if maps else 'copied'}", flush=True)


def options(**more):
    return ProgramOptions(std="c++17", arch=f"sm_{device.arch}", **more)


def pinned(values: np.ndarray):
    """A pinned buffer that holds the values, and the same as an array of the host."""
    buffer = LegacyPinnedMemoryResource().allocate(values.nbytes, stream=stream)
    array = np.from_dlpack(buffer).view(values.dtype)
    array[:] = values
    return buffer, array


class OnDevice:
    """Memory for a kernel that begins with the values: pinned memory itself where the device says that its kernels
    may use it, else a copy on the device."""

    def __init__(self, values: np.ndarray) -> None:
        self.host, self.array = pinned(values)
        self.buffer = self.host
        if not maps:
            self.buffer = device.allocate(values.nbytes, stream=stream)
            self.host.copy_to(self.buffer, stream=stream)

    def back(self) -> np.ndarray:
        """What the kernels have left there."""
        if not maps:
            self.buffer.copy_to(self.host, stream=stream)
        stream.sync()
        return self.array


def scaled(kernel) -> None:
    x = OnDevice(np.arange(N, dtype="f8"))
    launch(stream, LaunchConfig(grid=8, block=128), kernel, x.buffer, 2.5, np.uint64(N))
    np.testing.assert_array_equal(x.back(), np.arange(N) * 2.5)


def check_cubin():
    scaled(Program(SCALE, "c++", options=options()).compile("cubin").get_kernel("scale"))


def check_ptx():
    scaled(Program(SCALE, "c++", options=options()).compile("ptx").get_kernel("scale"))


def check_templates():
    program = Program(SCALE, "c++", options=options())
    module = program.compile("cubin", name_expressions=("fill<float>", "fill<int>"))
    for name, value in (("fill<float>", np.float32(1.5)), ("fill<int>", np.int32(7))):
        x = OnDevice(np.zeros(N, type(value)))
        config = LaunchConfig(grid=(N + 127) // 128, block=128)
        launch(stream, config, module.get_kernel(name), x.buffer, value, np.uint64(N))
        assert (x.back() == value).all()


def check_linker():
    parts = [
        r'extern "C" __device__ double twice(double x); extern "C" __global__ void apply(double *x)'
        r"{ x[threadIdx.x] = twice(x[threadIdx.x]); }",
        r'__device__ static double two = 2; extern "C" __device__ double twice(double x) { return two * x; }',
    ]
    for form in ("ptx", "ltoir"):
        lto = (
            {"link_time_optimization": True}
            if form == "ltoir"
            else {"relocatable_device_code": True}
        )
        objects = [Program(p, "c++", options=options(**lto)).compile(form) for p in parts]
        how = {"link_time_optimization": True} if form == "ltoir" else {}
        linked = Linker(*objects, options=LinkerOptions(arch=f"sm_{device.arch}", **how)).link(
            "cubin"
        )
        x = OnDevice(np.arange(32.0))
        launch(stream, LaunchConfig(grid=1, block=32), linked.get_kernel("apply"), x.buffer)
        np.testing.assert_array_equal(x.back(), np.arange(32) * 2.0)


def check_events():
    kernel = Program(SCALE, "c++", options=options()).compile("cubin").get_kernel("scale")
    x = OnDevice(np.ones(N))
    begin = stream.record(options={"timing_enabled": True})
    for _ in range(5):
        launch(stream, LaunchConfig(grid=8, block=128), kernel, x.buffer, 2.0, np.uint64(N))
    end = stream.record(options={"timing_enabled": True})
    end.sync()
    assert end.is_done
    assert end - begin > 0


def check_streams():
    """A stream that waits for another's event: what it does comes after, however long the other takes."""
    module = Program(SCALE, "c++", options=options()).compile(
        "cubin", name_expressions=("fill<double>",)
    )
    config = LaunchConfig(grid=(N + 127) // 128, block=128)
    x = OnDevice(np.ones(N))
    stream.sync()
    other = device.create_stream()
    gate, begun = threading.Event(), threading.Event()

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def hold(_: int) -> None:
        begun.set()
        gate.wait(60)

    address = ctypes.cast(hold, ctypes.c_void_p).value
    served(driver.cuLaunchHostFunc(stream.handle, driver.CUhostFn(address), 0))
    launch(stream, config, module.get_kernel("fill<double>"), x.buffer, 7.0, np.uint64(N))
    event = stream.record()
    other.wait(event)
    launch(other, config, module.get_kernel("scale"), x.buffer, 3.0, np.uint64(N))
    assert begun.wait(60)
    assert not event.is_done
    assert int(driver.cuStreamQuery(other.handle)[0]) == driver.CUresult.CUDA_ERROR_NOT_READY
    gate.set()
    other.sync()
    assert event.is_done
    np.testing.assert_array_equal(x.back(), np.full(N, 21.0))
    other.close()


def check_kernel_attributes():
    kernel = Program(SCALE, "c++", options=options()).compile("cubin").get_kernel("scale")
    assert kernel.num_arguments == 3
    assert [info.size for info in kernel.arguments_info] == [8, 8, 8]
    assert kernel.attributes.max_threads_per_block >= 128
    assert kernel.occupancy.max_active_blocks_per_multiprocessor(128, 0) >= 1


def check_memory_pool():
    buffer = device.allocate(N * 8, stream=stream)
    kernel = Program(SCALE, "c++", options=options()).compile("cubin").get_kernel("scale")
    host, array = pinned(np.arange(N, dtype="f8"))
    host.copy_to(buffer, stream=stream)
    launch(stream, LaunchConfig(grid=8, block=128), kernel, buffer, 3.0, np.uint64(N))
    buffer.copy_to(host, stream=stream)
    stream.sync()
    np.testing.assert_array_equal(array, np.arange(N) * 3.0)
    buffer.close(stream)


def check_own_memory_pool():
    options = DeviceMemoryResourceOptions(max_size=64 << 20)
    own = DeviceMemoryResource(device, options=options)
    shared = device.memory_resource.attributes.used_mem_current
    assert own.attributes.used_mem_current == 0
    buffer = own.allocate(1 << 20, stream=stream)
    assert own.attributes.used_mem_current >= 1 << 20
    assert own.attributes.used_mem_high >= 1 << 20
    assert own.attributes.reserved_mem_current >= 1 << 20
    assert device.memory_resource.attributes.used_mem_current == shared
    buffer.close(stream)
    stream.sync()
    assert own.attributes.used_mem_current == 0
    own.close()


def served(answer):
    """What a call of the bindings gives, without its result; an error is an exception."""
    result, *values = answer
    assert int(result) == 0, result
    return values[0] if len(values) == 1 else values


def check_driver_linker():
    """cuLink* on PTX, as Numba does without nvJitLink."""
    program = served(nvrtc.nvrtcCreateProgram(SCALE.encode(), b"scale.cu", 0, [], []))
    served(nvrtc.nvrtcCompileProgram(program, 1, [f"-arch=compute_{device.arch}".encode()]))
    ptx = b" " * served(nvrtc.nvrtcGetPTXSize(program))
    served(nvrtc.nvrtcGetPTX(program, ptx))
    state = served(driver.cuLinkCreate(0, [], []))
    kind = driver.CUjitInputType.CU_JIT_INPUT_PTX
    served(driver.cuLinkAddData(state, kind, ptx, len(ptx), b"scale", 0, [], []))
    second = b".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry other(.param .u64 p) { ret; }\n\0"
    served(driver.cuLinkAddData(state, kind, second, len(second), b"other", 0, [], []))
    image, _ = served(driver.cuLinkComplete(state))
    module = served(driver.cuModuleLoadData(image))
    served(driver.cuLinkDestroy(state))
    served(driver.cuModuleGetFunction(module, b"other"))
    function = served(driver.cuModuleGetFunction(module, b"scale"))
    x = OnDevice(np.arange(N, dtype="f8"))
    kinds = (ctypes.c_void_p, ctypes.c_double, ctypes.c_ulonglong)
    values = ((int(x.buffer.handle), 2.0, N), kinds)
    served(driver.cuLaunchKernel(function, 8, 1, 1, 128, 1, 1, 0, stream.handle, values, 0))
    np.testing.assert_array_equal(x.back(), np.arange(N) * 2.0)
    served(driver.cuModuleUnload(module))


def check_bindings():
    assert served(driver.cuDeviceGetCount()) >= 1
    assert served(driver.cuDeviceGetName(100, 0)) != b""
    attribute = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_WARP_SIZE
    assert served(driver.cuDeviceGetAttribute(attribute, 0)) == 32
    pointer = served(driver.cuMemAlloc(4096))
    served(driver.cuMemsetD8(pointer, 7, 4096))
    back = np.zeros(4096, "u1")
    served(driver.cuMemcpyDtoH(back.ctypes.data, pointer, 4096))
    assert (back == 7).all()
    served(driver.cuMemFree(pointer))
    assert int(driver.cuMemFree(0xDEAD000)[0]) != 0


def check_errors():
    program = Program("nonsense", "c++", options=options())
    assert "nonsense" in checks.failure(lambda: program.compile("cubin"))


if __name__ == "__main__":
    sys.exit(checks.main(dict(globals())))
