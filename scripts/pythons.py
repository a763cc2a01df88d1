# SPDX-License-Identifier: Apache-2.0
"""Builds and tries Orion with every other supported CPython that is installed here.

    python scripts/pythons.py           all of them
    python scripts/pythons.py 3.10      one

Each gets a fresh virtual environment; the C part is built incrementally in build/python-<version>.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")

# Imports both packages and opens a session on the null device in the same process.
SMOKE = r"""
import ctypes, os, pathlib
import orion_shm, orion_server

library = pathlib.Path(orion_shm.__file__).parent / "lib" / "cuda" / "libcuda.so.1"
worker = pathlib.Path(orion_server.__file__).parent / "liborion_worker.so"
os.environ["ORION_SERVER"] = f"local:{worker}?device=null"
cuda = ctypes.CDLL(str(library))

def call(name, *arguments):
    result = getattr(cuda, name)(*arguments)
    assert result == 0, f"{name} returned {result}"

context, address = ctypes.c_void_p(), ctypes.c_uint64()
call("cuInit", 0)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
call("cuCtxSetCurrent", context)
call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(4096))
assert address.value != 0
call("cuMemFree_v2", address)
print("smoke test passed")
"""


def version_of(python: Path) -> str:
    """'3.12' of a CPython that has what a build needs, else ''."""
    program = (
        "import sys, sysconfig, os, venv, ensurepip\n"
        "ok = sys.implementation.name == 'cpython' and sys.prefix == sys.base_prefix\n"
        "ok = ok and os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h'))\n"
        "print('%d.%d' % sys.version_info[:2] if ok else '')\n"
    )
    try:
        finished = subprocess.run(
            [str(python), "-I", "-c", program], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return finished.stdout.strip() if finished.returncode == 0 else ""


def candidates() -> Iterator[Path]:
    yield from sorted(Path.home().glob(".pyenv/versions/*/bin/python3"))
    for version in SUPPORTED:
        found = shutil.which(f"python{version}")
        if found:
            yield Path(found)


def others() -> dict[str, Path]:
    """Supported versions besides the running one, with their interpreters."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    found: dict[str, Path] = {}
    for path in candidates():
        named = re.search(r"versions/(\d+\.\d+)", str(path))
        if named and (named[1] not in SUPPORTED or named[1] in found):
            continue
        version = version_of(path)
        if version in SUPPORTED and version != running:
            found.setdefault(version, path)
    return dict(sorted(found.items()))


def try_python(version: str, python: Path) -> None:
    """Raises CalledProcessError when any step fails; the steps' output goes where ours goes."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PYTHON", "ORION_", "VIRTUAL_ENV", "MAKE"))
    }
    with tempfile.TemporaryDirectory(prefix=f"orion-python-{version}-") as folder:
        venv = Path(folder, "venv")
        environment = {**kept, "PATH": f"{venv / 'bin'}:{kept.get('PATH', '')}"}

        def run(*command: str | Path, where: Path = Path(folder)) -> None:
            subprocess.run([str(part) for part in command], check=True, cwd=where, env=environment)

        subprocess.run([str(python), "-m", "venv", str(venv)], check=True, env=kept)
        pip = (venv / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
        run(*pip, "-U", "pip>=23.1", where=ROOT)
        run(
            *pip,
            "meson-python>=0.18",
            "meson>=1.3",
            "ninja>=1.11",
            "Cython>=3.0",
            "tomli>=2.0",
            "numpy>=1.22",
        )
        build = ("--no-build-isolation", "--no-deps", f"-Cbuild-dir=build/python-{version}")
        run(*pip, *build, "-Csetup-args=-Dtests=false", str(ROOT))
        run(venv / "bin" / "python", "-c", SMOKE)
        run(venv / "bin" / "orion", "--version")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "versions", nargs="*", help="such as 3.10; all that are found when none is given"
    )
    options = parser.parse_args()
    found = others()
    missing = [v for v in options.versions if v not in found]
    if missing:
        print(
            f"no CPython {', '.join(missing)} with headers and venv here; found {', '.join(found) or 'none'}"
        )
        return 1
    failed = []
    for version in options.versions or found:
        print(f"--- CPython {version} ({found[version]})", flush=True)
        try:
            try_python(version, found[version])
        except subprocess.CalledProcessError as error:
            print(f"CPython {version}: {error}", file=sys.stderr)
            failed.append(version)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
