# SPDX-License-Identifier: Apache-2.0
"""What `orion check` looks at: one small function for each fact, each gives a Finding.

Nothing here changes the machine, and each probe works without the parts that others look for.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import fcntl
import os
import platform
import resource
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import orion_shm
from orion_shm.cli.amounts import format_bytes

OK, WARN, MISSING = "ok", "warn", "missing"
COMPILER_WHEELS = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime")


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, how it stands, what was found, what to do about it."""

    name: str
    state: str
    found: str
    remedy: str = ""


def check_python() -> Finding:
    """The interpreter."""
    found = platform.python_version()
    good = sys.version_info >= (3, 10)
    return Finding("python", OK if good else MISSING, found, "" if good else "install Python 3.10+")


def check_system() -> Finding:
    """Linux on x86-64."""
    found = f"{platform.system()} {platform.release()} {platform.machine()}"
    good = platform.system() == "Linux" and platform.machine() == "x86_64"
    remedy = "" if good else "this release runs on x86-64 Linux only"
    return Finding("system", OK if good else MISSING, found, remedy)


def check_library() -> Finding:
    """Our libcuda.so.1."""
    path = orion_shm.library_directory() / "libcuda.so.1"
    if not path.exists():
        return Finding("libcuda.so.1", MISSING, f"not in {path.parent}", "pip install .")
    if b"orion_shim_marker" not in path.read_bytes():
        remedy = "ORION_LIBRARY_DIR names another library than Orion's; unset it"
        return Finding("libcuda.so.1", MISSING, f"{path} is not Orion's", remedy)
    return Finding("libcuda.so.1", OK, str(path))


def check_worker() -> Finding:
    """The server's compiled part."""
    try:
        spec = util.find_spec("orion_server._worker")
    except ImportError:
        spec = None
    if spec is None:
        return Finding("worker", MISSING, "orion_server._worker is not built", "pip install .")
    return Finding("worker", OK, str(spec.origin))


def check_build_tools() -> Finding:
    """What compiles Orion itself; not needed once it is installed."""
    tools = {
        "a C compiler (gcc)": compiler("CC", "cc"),
        "a C++ compiler (g++)": compiler("CXX", "c++"),
        "make": shutil.which("make"),
        "Python headers (python3-dev)": (
            header if (header := Path(sysconfig.get_path("include"), "Python.h")).exists() else None
        ),
        "venv (python3-venv)": util.find_spec("ensurepip"),
    }
    lacking = [name for name, found in tools.items() if not found]
    if not lacking:
        return Finding("build tools", OK, "C and C++ compiler, make, Python headers, venv")
    remedy = "needed to build from source: apt-get install build-essential python3-dev python3-venv"
    return Finding("build tools", WARN, f"no {', no '.join(lacking)}", remedy)


def compiler(variable: str, usual: str) -> str | None:
    """The compiler that `variable` names ("ccache gcc" is a compiler, too), or the usual one."""
    words = os.environ.get(variable, "").split() or [usual]
    return shutil.which(words[-1] if words[0] == "ccache" else words[0])


def check_package(name: str, what_for: str, extra: str, needed: bool) -> Finding:
    """A Python package: its version, or which extra brings it."""
    try:
        return Finding(name, OK, metadata.version(name))
    except metadata.PackageNotFoundError:
        remedy = f"{what_for}: pip install 'orion-vgpu[{extra}]'"
        return Finding(name, MISSING if needed else WARN, "not installed", remedy)


def check_memfd() -> Finding:
    """Sealed memory files: what a session's memory is made of."""
    grow, shrink, seal, future_write = 0x4, 0x2, 0x1, 0x10
    try:
        fd = os.memfd_create("orion-check", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        return Finding("memfd", MISSING, str(error), "Linux 3.17 or later; allow memfd_create")
    try:
        os.ftruncate(fd, 4096)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, grow | shrink)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, future_write | seal)
    except OSError as error:
        remedy = "Linux 5.1 or later (F_SEAL_FUTURE_WRITE)"
        return Finding("memfd", MISSING, f"sealing: {error.strerror}", remedy)
    finally:
        os.close(fd)
    return Finding("memfd", OK, "seals grow, shrink, future write")


def check_membarrier() -> Finding:
    """The system call that lets a sender go without a memory fence."""
    membarrier_number, query, expedited = 324, 0, 0b110
    commands = ctypes.CDLL(None, use_errno=True).syscall(membarrier_number, query, 0)
    if commands >= 0 and commands & expedited == expedited:
        return Finding("membarrier", OK, "global expedited")
    found = "not allowed" if commands < 0 else "no expedited form"
    return Finding("membarrier", WARN, found, "calls get a fence instead (slower); Linux 4.16+")


def check_pidfd() -> Finding:
    """Process file descriptors: how the death of a client is seen."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        remedy = "deaths are seen by the socket alone; Linux 5.3+, or allow pidfd_open"
        return Finding("pidfd", WARN, str(error.strerror), remedy)
    return Finding("pidfd", OK, "pidfd_open works")


def check_seccomp() -> Finding:
    """System call filters: the cage of the workers."""
    path = Path("/proc/sys/kernel/seccomp/actions_avail")
    try:
        actions = path.read_text().split()
    except OSError:
        actions = []
    if "errno" in actions:
        return Finding("seccomp", OK, " ".join(actions))
    remedy = "workers run without a system call filter; a kernel with CONFIG_SECCOMP_FILTER"
    return Finding("seccomp", WARN, "no filters", remedy)


def check_userfault() -> Finding:
    """User-space page faults; nothing in this release needs them."""
    usable = os.access("/dev/userfaultfd", os.R_OK | os.W_OK)
    with contextlib.suppress(OSError):
        usable = usable or Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() == "1"
    found = "allowed" if usable or os.geteuid() == 0 else "for root only"
    return Finding("userfaultfd", OK, f"{found} (not used by this release)")


def check_dev_shm() -> Finding:
    """/dev/shm, for the mode that shares it between containers; memfds do not need it."""
    try:
        room = os.statvfs("/dev/shm")
    except OSError as error:
        remedy = "memfds are used instead; mount a tmpfs there for the /dev/shm mode"
        return Finding("/dev/shm", WARN, str(error.strerror), remedy)
    free = room.f_bavail * room.f_frsize
    found = f"{format_bytes(free)} free"
    if free >= 64 << 20:
        return Finding("/dev/shm", OK, found)
    remedy = "small; in a container: docker run --shm-size=1g, or a Memory emptyDir in Kubernetes"
    return Finding("/dev/shm", WARN, found, remedy)


def check_openssl() -> Finding:
    """OpenSSL, for encrypted sessions over TCP; what csrc/stream/libssl.c looks for."""
    for name in ("libssl.so.3", "libssl.so.1.1"):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            library.OpenSSL_version.restype = ctypes.c_char_p
            version: bytes = library.OpenSSL_version(0)
            return Finding("openssl", OK, f"{name}, {version.decode()}")
    remedy = "sessions over TCP cannot be encrypted; apt-get install openssl"
    return Finding("openssl", WARN, "no libssl.so.3 or libssl.so.1.1", remedy)


def check_ucx() -> Finding:
    """UCX, for ORION_TRANSPORT=ucx; what csrc/stream/libucp.c looks for."""
    named = os.environ.get("ORION_LIBUCP")
    with contextlib.suppress(ImportError):
        from orion_server import ucx_wheel

        named = named or ucx_wheel.library()
    named = named or ctypes.util.find_library("ucp")
    if named:
        return Finding("ucx", OK, named)
    remedy = "only for ORION_TRANSPORT=ucx: pip install 'orion-vgpu[ucx]'"
    return Finding("ucx", WARN, "not installed", remedy)


def check_huge_pages() -> Finding:
    """Whether shared memory may use huge pages."""
    path = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    try:
        chosen = path.read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return Finding("shmem_enabled", WARN, "unknown", "copies use small pages")
    if chosen in ("always", "within_size", "advise", "force"):
        return Finding("shmem_enabled", OK, chosen)
    return Finding(
        "shmem_enabled", WARN, chosen, f"for faster copies, as root: echo advise > {path}"
    )


def check_address_space() -> Finding:
    """Sessions reserve a terabyte of addresses (not memory)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return Finding("address space", OK, "unlimited")
    remedy = "pinned and managed memory need room for addresses: ulimit -v unlimited"
    return Finding("address space", WARN, format_bytes(limit), remedy)


def check_cpu() -> Finding:
    """Instructions that the CPU device profits from."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    flags = set(text.partition("flags")[2].partition("\n")[0].split())
    lacking = [name for name in ("fma", "avx2") if name not in flags]
    found = f"{len(os.sched_getaffinity(0))} cores"
    if not lacking:
        return Finding("cpu", OK, f"{found}, fma, avx2")
    remedy = "kernels run all the same, more slowly"
    return Finding("cpu", WARN, f"{found}, no {', no '.join(lacking)}", remedy)


def check_nvcc() -> Finding:
    """nvcc, which only the demo and the tests need."""
    try:
        versions = [metadata.version(name) for name in COMPILER_WHEELS]
        return Finding("nvcc", OK, f"{versions[0]} (wheels)")
    except metadata.PackageNotFoundError:
        found = shutil.which("nvcc")
    if found:
        return Finding("nvcc", OK, found)
    return Finding("nvcc", WARN, "not installed", "for the demo: pip install 'orion-vgpu[demo]'")


def check_gpu() -> Finding:
    """An NVIDIA GPU with its driver; the cuda device uses it."""
    try:
        driver = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return Finding("nvidia gpu", OK, "none; programs run on the CPU device")
    return Finding("nvidia gpu", OK, f"{driver} (orion run --device cuda)")


def check_other_driver() -> Finding:
    """Another libcuda.so.1 that a program could load instead of ours."""
    ours = orion_shm.library_directory().resolve()
    named = [Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part]
    usual = [Path(name) for name in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib")]
    for folder in [*named, *usual]:
        if (folder / "libcuda.so.1").exists() and folder.resolve() != ours:
            return Finding("other libcuda", OK, f"{folder}; `orion run` puts ours before it")
    return Finding("other libcuda", OK, "none")


def check_servers() -> Finding:
    """Servers that run here now."""
    try:
        from orion_server import paths

        found = list(paths.running_addresses())
    except (ImportError, OSError) as error:
        return Finding("servers", WARN, f"cannot be looked for: {error}", "pip install .")
    return Finding("servers", OK, ", ".join(found) if found else "none runs now")


def all_probes() -> Iterable[Callable[[], Finding]]:
    """The probes in the order of the table."""
    return (
        check_system,
        check_python,
        check_build_tools,
        check_library,
        check_worker,
        lambda: check_package("numpy", "arrays in Python", "cpu", needed=True),
        lambda: check_package(
            "llvmlite", "compiles kernels for the CPU device", "cpu", needed=True
        ),
        lambda: check_package("zstandard", "reads compressed images", "cpu", needed=True),
        lambda: check_package("lz4", "reads compressed images", "cpu", needed=True),
        lambda: check_package("rich", "prettier tables", "demo", needed=False),
        check_memfd,
        check_membarrier,
        check_pidfd,
        check_seccomp,
        check_userfault,
        check_dev_shm,
        check_openssl,
        check_ucx,
        check_huge_pages,
        check_address_space,
        check_cpu,
        check_nvcc,
        check_gpu,
        check_other_driver,
        check_servers,
    )
