# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False
"""The C worker as Python sees it: start it, describe its device, and the compiler that it calls back.

The loop runs without the GIL; only executor threads come back into Python, to load modules and compile kernels.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strlen


cdef extern from "orion_generated/orion_cuda.h":
    ctypedef int CUresult


cdef extern from "devices/device.h":
    ctypedef struct orion_param_info_t:
        uint16_t offset
        uint16_t bytes

    ctypedef struct orion_function_info_t:
        int32_t max_threads
        int32_t static_shared
        int32_t const_bytes
        int32_t local_bytes
        int32_t registers
        int32_t ptx_version
        int32_t binary_version
        int32_t max_dynamic_shared
        uint32_t param_bytes
        uint32_t param_count
        orion_param_info_t params[1]

    ctypedef struct orion_device_info_t:
        char name[128]
        uint8_t uuid[16]
        uint64_t total_memory
        int32_t attributes[160]

    cdef enum:
        ORION_MAX_PARAMS


cdef extern from "devices/cpu/compiler.h":
    cdef struct orion_cpu_kernel:
        pass

    ctypedef struct orion_image_global_t:
        const char *name
        uint64_t offset
        uint64_t bytes
        uint32_t flags

    ctypedef struct orion_image_relocation_t:
        uint64_t offset
        uint64_t addend

    ctypedef struct orion_image_t:
        uint64_t id
        uint64_t data_bytes
        const void *initial
        uint64_t initial_bytes
        uint64_t data_align
        uint32_t global_count
        uint32_t kernel_count
        uint32_t relocation_count
        const orion_image_global_t *globals "globals"
        const char **kernels
        const orion_image_relocation_t *relocations

    ctypedef struct orion_compiler_t:
        void *self
        CUresult (*load)(void *self, const void *image, size_t bytes, orion_image_t *image_p, char *log,
                         size_t log_bytes) noexcept
        CUresult (*function)(void *self, uint64_t id, const char *name, const orion_cpu_kernel **kernel_p,
                             orion_function_info_t *info_p, char *log, size_t log_bytes) noexcept
        void (*unload)(void *self, uint64_t id) noexcept


cdef extern from "worker/control.h":
    ctypedef struct orion_control_line_t:
        pass

    ctypedef struct orion_control_message_t:
        int32_t result
        uint64_t b

    int orion_control_ask(orion_control_line_t *line, uint16_t kind, uint64_t a, uint64_t b, uint64_t c,
                          const void *text, size_t text_bytes, orion_control_message_t *answer_p, int *fd_p) nogil
    int orion_control_tell(const orion_control_line_t *line, uint16_t kind, int32_t result, uint64_t a, uint64_t b,
                           const void *text, size_t text_bytes) nogil


cdef extern from "worker/start.h":
    ctypedef struct orion_cage_t:
        int parent
        uint32_t uid
        uint32_t gid
        uint64_t data_bytes
        uint32_t files
        int driver
        int ucx

    ctypedef struct orion_start_t:
        const char *device
        int threads
        uint32_t epoch
        int control_fd
        int stats_fd
        int lease_fd
        orion_cage_t cage
        const orion_compiler_t *compiler

    int orion_start_worker(const orion_start_t *start) nogil
    CUresult orion_start_describe(const char *device, uint64_t memory, int threads, orion_device_info_t *info_p,
                                  char *why, size_t why_bytes) nogil
    orion_control_line_t *orion_start_line() nogil


cdef extern from "worker/worker.h":
    void orion_compiling_note(bint prints)


cdef extern from "worker/cage.h":
    int orion_cage_enter(const orion_cage_t *cage, char *why, size_t why_bytes) nogil


cdef extern from "worker/symbols.h":
    ctypedef struct orion_symbol_t:
        const char *name
        const char *address

    const orion_symbol_t *orion_symbol_at(unsigned index)


cdef CUresult FAILED = <CUresult>719  # CUDA_ERROR_LAUNCH_FAILED
cdef CUresult NO_MEMORY = <CUresult>2


cdef class _Image:
    """The C view of one loaded module; everything in it lives until unload."""

    cdef list keep
    cdef orion_image_global_t *globals_
    cdef const char **kernels_
    cdef orion_image_relocation_t *relocations_

    def __dealloc__(self):
        free(self.globals_)
        free(<void *>self.kernels_)
        free(self.relocations_)


_images = {}  # id -> _Image


cdef void _write_log(str text, char *log, size_t log_bytes):
    cdef bytes data
    cdef size_t n
    if log == NULL or log_bytes == 0:
        return
    data = text.encode("utf-8", "replace")
    n = min(<size_t>len(data), log_bytes - 1)
    memcpy(log, <const char *>data, n)
    log[n] = 0


cdef CUresult _failed(object error, char *log, size_t log_bytes):
    """What an exception of the compiler means to the client."""
    _write_log(str(error) or type(error).__name__, log, log_bytes)
    if isinstance(error, MemoryError):
        return NO_MEMORY
    return getattr(error, "result", FAILED)


cdef int _fill_image(object loaded, orion_image_t *out) except -1:
    cdef _Image image = _Image()
    cdef size_t i
    cdef bytes text
    image.keep = [loaded.initial]
    names = loaded.globals
    image.globals_ = <orion_image_global_t *>calloc(len(names) + 1, sizeof(orion_image_global_t))
    image.kernels_ = <const char **>calloc(len(loaded.kernels) + 1, sizeof(char *))
    image.relocations_ = <orion_image_relocation_t *>calloc(
        len(loaded.relocations) + 1, sizeof(orion_image_relocation_t))
    if image.globals_ == NULL or image.kernels_ == NULL or image.relocations_ == NULL:
        raise MemoryError()
    for i, (name, offset, size, flags) in enumerate(names):
        text = name.encode()
        image.keep.append(text)
        image.globals_[i].name = text
        image.globals_[i].offset = offset
        image.globals_[i].bytes = size
        image.globals_[i].flags = flags
    for i, name in enumerate(loaded.kernels):
        text = name.encode()
        image.keep.append(text)
        image.kernels_[i] = text
    for i, (offset, addend) in enumerate(loaded.relocations):
        image.relocations_[i].offset = offset
        image.relocations_[i].addend = addend
    memset(out, 0, sizeof(orion_image_t))
    text = loaded.initial
    out.id = loaded.id
    out.data_bytes = loaded.data_bytes
    out.initial = <const char *>text
    out.initial_bytes = len(text)
    out.data_align = loaded.data_align
    out.global_count = len(names)
    out.kernel_count = len(loaded.kernels)
    out.relocation_count = len(loaded.relocations)
    out.globals = image.globals_
    out.kernels = image.kernels_
    out.relocations = image.relocations_
    _images[loaded.id] = image
    return 0


cdef int _fill_info(object info, orion_function_info_t *out) except -1:
    cdef size_t i
    memset(out, 0, sizeof(orion_function_info_t))
    out.max_threads = info.max_threads
    out.static_shared = info.static_shared
    out.const_bytes = info.const_bytes
    out.local_bytes = info.local_bytes
    out.registers = info.registers
    out.ptx_version = info.ptx_version
    out.binary_version = info.binary_version
    out.max_dynamic_shared = info.max_dynamic_shared
    out.param_bytes = info.param_bytes
    if len(info.params) > ORION_MAX_PARAMS:
        raise ValueError(f"a kernel with {len(info.params)} parameters; at most {ORION_MAX_PARAMS} are possible")
    out.param_count = len(info.params)
    for i, (offset, size) in enumerate(info.params):
        out.params[i].offset = offset
        out.params[i].bytes = size
    return 0


cdef CUresult _load(void *self, const void *image, size_t size, orion_image_t *image_p, char *log,
                    size_t log_bytes) noexcept with gil:
    try:
        loaded = (<object>self).load((<const char *>image)[:size])
        _fill_image(loaded, image_p)
        return 0
    except BaseException as e:
        return _failed(e, log, log_bytes)


cdef CUresult _function(void *self, uint64_t id, const char *name, const orion_cpu_kernel **kernel_p,
                        orion_function_info_t *info_p, char *log, size_t log_bytes) noexcept with gil:
    cdef uint64_t address
    try:
        address, info = (<object>self).function(id, name.decode("utf-8", "replace"), kernel_p != NULL)
        orion_compiling_note(info.prints)
        if info_p != NULL:
            _fill_info(info, info_p)
        if kernel_p != NULL:
            kernel_p[0] = <const orion_cpu_kernel *><size_t>address
        return 0
    except BaseException as e:
        return _failed(e, log, log_bytes)


cdef void _unload(void *self, uint64_t id) noexcept with gil:
    try:
        _images.pop(id, None)
        (<object>self).unload(id)
    except BaseException:
        pass


def run(compiler, *, str device, int threads, uint32_t epoch, int control_fd, int stats_fd, int lease_fd, int parent,
        uint32_t uid, uint32_t gid, uint64_t data_bytes, uint32_t files):
    """Waits for an order and serves that session; the exit code of the process. Returns when the session is over."""
    cdef orion_start_t start
    cdef orion_compiler_t table
    cdef bytes name = device.encode()
    cdef int code
    memset(&start, 0, sizeof(start))
    table.self = <void *>compiler
    table.load = _load
    table.function = _function
    table.unload = _unload
    start.device = name
    start.threads = threads
    start.epoch = epoch
    start.control_fd = control_fd
    start.stats_fd = stats_fd
    start.lease_fd = lease_fd
    start.cage.parent = parent
    start.cage.uid = uid
    start.cage.gid = gid
    start.cage.data_bytes = data_bytes
    start.cage.files = files
    start.compiler = &table
    with nogil:
        code = orion_start_worker(&start)
    return code


def describe(str device, uint64_t memory, int threads):
    """What the device says of itself."""
    cdef orion_device_info_t info
    cdef char why[256]
    cdef bytes name = device.encode()
    cdef const char *text = name
    cdef CUresult result
    why[0] = 0
    with nogil:
        result = orion_start_describe(text, memory, threads, &info, why, sizeof(why))
    if result != 0:
        raise OSError(f"the {device} device does not open (error {result}): {why.decode('utf-8', 'replace')}")
    return {
        "name": (<bytes>info.name).decode("utf-8", "replace"),
        "uuid": (<bytes>info.uuid[:16]).hex(),
        "memory": info.total_memory,
        "multiprocessors": info.attributes[16],
        "compute_capability": f"{info.attributes[75]}.{info.attributes[76]}",
    }


def symbols():
    """What compiled kernels may call: name -> address."""
    cdef const orion_symbol_t *symbol
    cdef unsigned i = 0
    found = {}
    while True:
        symbol = orion_symbol_at(i)
        if symbol == NULL:
            return found
        if symbol.address != NULL:
            found[symbol.name.decode()] = <size_t>symbol.address
        i += 1


def ask(int kind, uint64_t size, bytes text):
    """One question to the supervisor: (result, size, descriptor), or None when it does not answer."""
    cdef orion_control_message_t answer
    cdef int fd = -1, status
    cdef const char *data = text
    cdef size_t n = len(text)
    with nogil:
        status = orion_control_ask(orion_start_line(), <uint16_t>kind, 0, size, 0, data, n, &answer, &fd)
    return None if status else (answer.result, answer.b, fd)


def tell(int kind, int result, bytes text):
    """A word to the supervisor that is not answered."""
    cdef const char *data = text
    cdef size_t n = len(text)
    with nogil:
        orion_control_tell(orion_start_line(), <uint16_t>kind, result, 0, 0, data, n)


def enter_cage(int uid, int gid, uint64_t data_bytes, uint32_t files, bint driver=False):
    """Locks this process up as a worker's; for the tests of the cage."""
    cdef orion_cage_t cage
    cdef char why[256]
    memset(&cage, 0, sizeof(cage))
    cage.uid = uid
    cage.gid = gid
    cage.data_bytes = data_bytes
    cage.files = files
    cage.driver = driver
    if orion_cage_enter(&cage, why, sizeof(why)):
        raise OSError(why.decode("utf-8", "replace"))
