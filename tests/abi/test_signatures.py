# SPDX-License-Identifier: Apache-2.0
"""Our signatures, values and layouts against every cuda.h at hand, by the compiler: a conflict does not compile."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
from codegen.__main__ import read_spec
from codegen.emit_abi import emit_abi
from codegen.emit_types import emit_cdef, emit_header

SPEC = Path(__file__).resolve().parents[2] / "csrc" / "spec"

# Counts that grow with each release, and structs of functions we do not serve that became longer in 13.1.
GROWS = {
    "CUDA_VERSION",
    "CU_COREDUMP_LIGHTWEIGHT_FLAGS",
    "CU_JIT_NUM_OPTIONS",
    "CUDA_EVENT_RECORD_NODE_PARAMS",
    "CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v2",
    "CUDA_EXT_SEM_WAIT_NODE_PARAMS_v2",
    "CUDA_HOST_NODE_PARAMS_v2",
    "CUdevSmResource",
}


def header_folders() -> dict[str, Path]:
    """Folders with a cuda.h: the wheels nvidia-cuda-runtime and -cu12, and an installed toolkit."""
    places = {"toolkit": Path("/usr/local/cuda/include")}
    package = importlib.util.find_spec("nvidia")
    for site in package.submodule_search_locations or [] if package else []:
        places["wheel-13"] = Path(site, "cu13", "include")
        places["wheel-12"] = Path(site, "cuda_runtime", "include")
    return {name: folder for name, folder in places.items() if (folder / "cuda.h").exists()}


def headers_in(folder: Path) -> list[str]:
    return [name for name in ("cuda.h", "cudaProfiler.h") if (folder / name).exists()]


def preprocess(folder: Path) -> str:
    source = "".join(f"#include <{name}>\n" for name in headers_in(folder))
    command = ["cc", "-E", "-dD", "-D__CUDA_API_VERSION_INTERNAL", f"-I{folder}", "-x", "c", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


def compile_only(source: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        "cc",
        "-std=gnu11",
        "-fsyntax-only",
        "-Wall",
        "-Wno-deprecated-declarations",
        *arguments,
        str(source),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_there_is_a_header_to_compare_with() -> None:
    assert header_folders(), (
        "no cuda.h: make test installs nvidia-cuda-runtime and nvidia-cuda-runtime-cu12"
    )


@pytest.mark.parametrize("place", header_folders())
def test_signatures_values_and_layouts_agree(place: str, tmp_path: Path) -> None:
    folder = header_folders()[place]
    text = preprocess(folder)
    version = re.search(r"#define\s+CUDA_VERSION\s+(\d+)", text)
    assert version is not None
    spec = read_spec(SPEC)
    known = set(re.findall(r"\b[A-Za-z_]\w*\b", text))
    source = tmp_path / "abi.c"
    same = int(version[1]) == spec.cuda_version
    skip = (
        set()
        if same
        else GROWS | {n for t in spec.types.values() for n, *_ in t.values if n.endswith("_MAX")}
    )
    source.write_text(emit_abi(spec, headers_in(folder), known, skip=skip))
    finished = compile_only(source, f"-I{folder}")
    assert finished.returncode == 0, finished.stderr[:6000]
    compared = sum(s.name in known for s in spec.signatures.values())
    assert compared > 450, f"only {compared} functions of {folder} were compared"


def test_a_wrong_fact_does_not_compile(tmp_path: Path) -> None:
    """The comparison itself works."""
    folders = header_folders()
    if not folders:
        pytest.skip("no cuda.h here")
    place, folder = next(iter(folders.items()))
    source = tmp_path / "abi.c"
    wrong = "CUresult cuMemAlloc_v2(CUdeviceptr *dptr, unsigned int bytesize);\n"
    source.write_text(f"#define __CUDA_API_VERSION_INTERNAL\n#include <cuda.h>\n{wrong}")
    assert compile_only(source, f"-I{folder}").returncode != 0, place


def test_our_header_compiles_alone(tmp_path: Path) -> None:
    """Sizes are asserted inside it, so it also checks itself."""
    source = tmp_path / "orion_cuda.h"
    source.write_text(emit_header(read_spec(SPEC)))
    finished = compile_only(source, "-x", "c", "-Wextra", "-Werror")
    assert finished.returncode == 0, finished.stderr[:4000]


def test_cffi_reads_our_declarations() -> None:
    """Conformance tests call any libcuda through them."""
    cffi = pytest.importorskip("cffi")
    spec = read_spec(SPEC)
    ffi = cffi.FFI()
    ffi.cdef(emit_cdef(spec))
    for t in spec.types.values():
        if t.members and "_Alignas" not in str(t.members):
            assert ffi.sizeof(t.name) == t.size, t.name
