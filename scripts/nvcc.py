# SPDX-License-Identifier: Apache-2.0
"""Finds nvcc and compiles .cu files with it: from PyPI wheels, from PATH, or from ORION_NVCC.

Orion itself never needs nvcc; the demo and the end-to-end tests compile CUDA programs with it.
The wheels `nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-crt nvidia-cuda-runtime` together form a
compiler that works where pip has put it: nvcc.profile beside nvcc names the other folders.
One thing is missing there: `libcudart.so`, the name that `-cudart shared` links. So a program
with the shared runtime is linked to `libcudart.so.13` by its path, with that folder as rpath.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WHEELS = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime")
# PTX for compute capability 8.0: what the CPU device reports, and any newer GPU can compile it.
PTX_ONLY = ("-gencode", "arch=compute_80,code=compute_80")
TIMEOUT_SECONDS = 300


class NvccError(Exception):
    """nvcc is missing or refused a program; the text says what to do."""


@dataclass(frozen=True)
class Nvcc:
    """One usable nvcc: its path, where it came from, and the folder of its runtime libraries."""

    path: Path
    origin: str  # "wheel", "PATH" or "ORION_NVCC"
    libraries: Path

    def version(self) -> str:
        """The release number that nvcc reports, for example "13.0"."""
        text = subprocess.run(
            [str(self.path), "--version"], capture_output=True, text=True, check=False, timeout=60
        ).stdout
        _, found, rest = text.partition("release ")
        return rest.split(",")[0] if found else "unknown"

    def cudart_arguments(self, cudart: str) -> list[str]:
        """The linker arguments for "static" or "shared" cudart 13.x of this nvcc."""
        if cudart == "static":
            return ["-cudart", "static"]
        if (self.libraries / "libcudart.so").exists():
            return ["-cudart", "shared", "-Xlinker", f"-rpath,{self.libraries}"]
        found = sorted(self.libraries.glob("libcudart.so.*"))
        if not found:
            raise NvccError(f"no libcudart.so in {self.libraries}; pip install nvidia-cuda-runtime")
        return link_runtime_arguments([found[0]])

    def compile(
        self,
        source: Path,
        output: Path,
        cudart: str = "static",
        arguments: Sequence[str] = (),
        code: Sequence[str] = PTX_ONLY,
        runtime: Sequence[Path] = (),
    ) -> Path:
        """Compiles `source` to `output`; `runtime` replaces cudart by the libraries named there."""
        link = link_runtime_arguments(runtime) if runtime else self.cudart_arguments(cudart)
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [str(self.path), "-O2", *code, *link, *arguments, str(source), "-o", str(output)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
        if done.returncode != 0:
            raise NvccError(
                f"nvcc could not compile {source} (exit {done.returncode}):\n{done.stdout}{done.stderr}".rstrip()
            )
        return output


def link_runtime_arguments(runtime: Sequence[Path]) -> list[str]:
    """Links the given cudart libraries (shared: with rpath; static: as they are)."""
    arguments = ["-cudart", "none"]
    for library in runtime:
        if library.suffix == ".a":
            arguments.append(str(library))
        else:
            arguments += ["-Xlinker", str(library), "-Xlinker", f"-rpath,{library.parent}"]
    return [*arguments, "-lpthread", "-ldl", "-lrt"]


def wheel_roots() -> list[Path]:
    """Where the wheels of the running Python keep their `nvidia` folder."""
    keys = ("purelib", "platlib")
    roots = [Path(sysconfig.get_path(key)) / "nvidia" for key in keys]
    return [root for index, root in enumerate(roots) if root not in roots[:index] and root.is_dir()]


def find_nvcc(allow_path: bool = True) -> Nvcc:
    """The nvcc to use; raises NvccError with the remedy when there is none."""
    named = os.environ.get("ORION_NVCC")
    if named:
        path = Path(named)
        if not os.access(path, os.X_OK):
            raise NvccError(f"ORION_NVCC={named} is not a program that can be run")
        return Nvcc(path, "ORION_NVCC", toolkit_libraries(path))
    for root in wheel_roots():
        for path in sorted(root.glob("cu*/bin/nvcc"), reverse=True):
            base = path.parent.parent
            if (base / "nvvm/bin/cicc").exists() and (base / "include/cuda_runtime.h").exists():
                return Nvcc(path, "wheel", base / "lib")
    found = shutil.which("nvcc") if allow_path else None
    if found:
        return Nvcc(Path(found), "PATH", toolkit_libraries(Path(found)))
    raise NvccError(f"no nvcc found; install it into this Python: pip install {' '.join(WHEELS)}")


def toolkit_libraries(nvcc: Path) -> Path:
    """The library folder of a CUDA toolkit; asks nvcc itself, since a script may stand before it."""
    try:
        done = subprocess.run(
            [str(nvcc), "--dryrun", "-x", "cu", "/dev/null"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except OSError as error:
        raise NvccError(f"{nvcc} does not run: {error}") from None
    for line in done.stderr.splitlines():
        _, found, top = line.partition("TOP=")
        if found:
            for name in ("lib64", "lib", "targets/x86_64-linux/lib"):
                folder = Path(os.path.normpath(top.strip())) / name
                if folder.is_dir():
                    return folder
    return nvcc.parent.parent / "lib64"


def find_cudart12() -> tuple[Path, list[Path]] | None:
    """libcudart.so.12 and the static libraries of the nvidia-cuda-runtime-cu12 wheel, if there."""
    for root in wheel_roots():
        folder = root / "cuda_runtime/lib"
        shared = folder / "libcudart.so.12"
        static = [folder / "libcudart_static.a", folder / "libculibos.a"]
        if shared.exists() and all(path.exists() for path in static):
            return shared, static
    return None


def main() -> int:
    """The command line: compiles one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, nargs="?", help="the .cu file; none: print which nvcc")
    parser.add_argument("-o", "--output", type=Path, help="the program to write")
    parser.add_argument("--cudart", choices=("static", "shared"), default="static")
    options, rest = parser.parse_known_args()
    try:
        nvcc = find_nvcc()
        if options.source is None:
            print(f"{nvcc.path} (from {nvcc.origin}, release {nvcc.version()})")
            return 0
        output = options.output or options.source.with_suffix("")
        nvcc.compile(options.source, output, options.cudart, rest)
    except NvccError as error:
        print(f"nvcc.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
