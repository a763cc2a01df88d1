# SPDX-License-Identifier: Apache-2.0
"""What is run: an Orion, and programs compiled for the GPU; built here, or packed elsewhere."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .machine import CASCADE_SECONDS, ROOT, Gpu, native_environment, run, say

PROGRAMS = Path("tests/e2e/programs")
SCRIPTS = Path("tests/e2e/python")  # CuPy, Numba, cuda-core
KERNELS = Path("tests/e2e/kernels_numpy.py")
BENCH = Path("benchmarks/native/driver_bench.c")
EXAMPLES = ("vectorAdd", "matmul", "reduction")
# The Python packages and how to see whether they work without Orion.
PACKAGES = {
    "cupy": "import cupy; assert int(cupy.arange(4).sum()) == 6",
    "numba": "from numba import cuda; cuda.device_array(4).copy_to_host()",
    "cuda_python": "from cuda.core import Device; Device().set_current()",
}


@dataclass
class Kit:
    """An Orion, programs compiled for it, and the Pythons that run the scripts."""

    python: str
    orion: list[str]
    environment: dict[str, str]
    native: dict[str, str] = field(default_factory=native_environment)
    programs: dict[str, Path] = field(default_factory=dict)
    suite: Path | None = None  # tests/devices/cuda_test
    bench: Path | None = None
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what could not be checked, and why
    root: Path = ROOT  # where the scripts and the sources are


def checkout_kit(venv: Path, seconds: float) -> Kit:
    """Builds in the venv, with what PyPI or the machine has, within these seconds."""
    built = run(
        [sys.executable, ROOT / "scripts" / "bootstrap.py", "--venv", venv, "test"],
        dict(os.environ),
        seconds,
    )
    if not built.good and not (venv / "bin" / "orion").exists():
        last = built.words.splitlines()[-1] if built.words else "?"
        raise SystemExit(
            f"gpu-check: Orion cannot be built here: {last}\n"
            "gpu-check: without a network, pack it elsewhere: make gpu-check ARGS='--pack DIR', then, in DIR on this "
            "machine, python3 -m scripts.gpu_check --packed .; with one, make test ARGS=--collect-only builds first, "
            "without a limit"
        )
    kit = Kit(str(venv / "bin" / "python"), [str(venv / "bin" / "orion")], native_environment())
    if not built.good:
        kit.notes.append("the installed build was used: it could not be brought up to date")
    suite = ROOT / "build" / "venv" / "tests" / "devices" / "cuda_test"
    if suite.exists():
        kit.suite = suite
    else:
        kit.missing.append(f"the device suite: {suite} is not built")
    return kit


def packed_kit(folder: Path) -> Kit:
    """What --pack has made."""
    try:
        made = json.loads((folder / "kit.json").read_text())
    except (OSError, ValueError):
        raise SystemExit(f"gpu-check: {folder} holds nothing that --pack has made") from None
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if made["python"] != here:
        raise SystemExit(
            f"gpu-check: {folder} was packed for Python {made['python']}, and this is {here}: run it with python"
            f"{made['python']}, or pack it again: make gpu-check PYTHON=python{here} ARGS='--venv NEW --pack DIR'"
        )
    environment = {**native_environment(), "PYTHONPATH": str(folder / "site")}
    kit = Kit(sys.executable, [sys.executable, "-m", "orion_shm"], environment, root=folder)
    kit.missing += made["missing"]
    for path in sorted((folder / "compiled").iterdir()):
        path.chmod(0o755)  # copies over some networks lose it
        kit.programs[path.name] = path
    kit.suite = kit.programs.pop("cuda_test", None)
    kit.bench = kit.programs.pop("driver_bench", None)
    return kit


def choose_nvcc(kit: Kit, newest: int | None) -> dict[str, str] | None:
    """The environment in which scripts/nvcc.py finds an nvcc that is not newer than the driver (13: CUDA 13)."""
    script = kit.root / "scripts" / "nvcc.py"
    candidates = [dict(os.environ)]
    for path in (shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if path and os.access(path, os.X_OK):
            candidates.append({**os.environ, "ORION_NVCC": path})
    words = ""
    for environment in candidates:
        asked = run([kit.python, script], environment, 60)
        release = re.search(r"release (\d+)\.", asked.out)
        if release is None:
            words = words or asked.words
        elif newest is not None and int(release[1]) > newest:
            words = f"nvcc {asked.out.strip()} is newer than the driver (CUDA {newest}); name another in ORION_NVCC"
        else:
            return environment
    kit.missing.append(f"the examples, the tour, the kernels: {words}")
    return None


def compile_programs(kit: Kit, folder: Path, gpu: Gpu | None) -> None:
    """The examples and the tour; PTX for any GPU, and machine code for this one where nvcc can."""
    folder.mkdir(parents=True, exist_ok=True)
    root = kit.root
    environment = choose_nvcc(kit, gpu.cuda // 1000 if gpu else None)
    sources = {name: root / "examples" / f"{name}.cu" for name in EXAMPLES}
    sources |= {name: root / PROGRAMS / f"{name}.cu" for name in ("tour", "prints")}
    wanted: list[tuple[str, Path, list[str]]] = [(name, path, []) for name, path in sources.items()]
    wanted.append(
        ("kernels.so", root / PROGRAMS / "kernels.cu", ["-shared", "-Xcompiler", "-fPIC"])
    )
    for sm in [gpu.sm] if gpu else [80, 90]:
        code = ["-gencode", f"arch=compute_{sm},code=sm_{sm}"]
        wanted.append((f"reduction-sm{sm}", sources["reduction"], code))
    for name, source, arguments in wanted if environment else []:
        command = [kit.python, str(root / "scripts" / "nvcc.py"), str(source)]
        command += ["-o", str(folder / name), *arguments]
        done = run(command, environment or {}, 120)
        if done.good:
            kit.programs[name] = folder / name
        else:
            kit.missing.append(
                f"{name}: it does not compile: {' '.join(done.words.split())[-200:]}"
            )
    bench = folder / "driver_bench"
    compiler = os.environ.get("CC", "cc").split()
    done = run([*compiler, "-O2", "-o", bench, root / BENCH, "-ldl"], dict(os.environ), 60)
    if done.good:
        kit.bench = bench
    else:
        kit.missing.append(f"the figures: {' '.join(done.words.split())[-200:]}")


def pack(folder: Path, venv: Path) -> None:
    """All that a machine without tools needs, but for Python 3 of this version and NumPy."""
    kit = checkout_kit(venv, CASCADE_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    compile_programs(kit, folder / "compiled", None)
    if kit.suite:
        shutil.copy2(kit.suite, folder / "compiled" / "cuda_test")
    where = (
        "import json, orion_shm, orion_server, sys; "
        "print(json.dumps(['%d.%d' % sys.version_info[:2], orion_shm.__path__[0], orion_server.__path__[0]]))"
    )
    asked = run([kit.python, "-c", where], kit.environment, 60)
    if not asked.good:
        raise SystemExit(f"gpu-check: what was built does not load: {asked.words}")
    python, *packages = json.loads(asked.out.splitlines()[-1])
    skip = shutil.ignore_patterns("__pycache__")
    for path in map(Path, packages):
        shutil.copytree(path, folder / "site" / path.name, ignore=skip)
    for part in ("scripts", PROGRAMS, SCRIPTS):
        shutil.copytree(ROOT / part, folder / part, ignore=skip)
    shutil.copy2(ROOT / KERNELS, folder / KERNELS)
    (folder / "kit.json").write_text(json.dumps({"python": python, "missing": kit.missing}) + "\n")
    for note in kit.notes:
        say(note)
    for what in kit.missing:
        say(f"it lacks {what}")
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    say(f"{folder}: {size >> 20} MiB for Python {python}, {platform.machine()}")


def python_for(kit: Kit, package: str) -> str | None:
    """A Python of this machine in which the package works without Orion; None, with a note, when there is none."""
    candidates = [kit.python, sys.executable, shutil.which("python3"), "/usr/bin/python3"]
    why = ""
    for python in dict.fromkeys(c for c in candidates if c and os.access(c, os.X_OK)):
        done = run([python, "-c", PACKAGES[package]], kit.native, 90)
        if done.good:
            return python
        why = why or (done.words.splitlines()[-1] if done.words else "it fails")
    kit.missing.append(f"the {package} script: {package} does not work natively: {why[:200]}")
    return None
