# SPDX-License-Identifier: Apache-2.0
"""What Orion does on this machine's NVIDIA GPU, against what the machine does without it.

    make gpu-check                                 everything, from the checkout
    python3 scripts/gpu_check.py --pack DIR        builds all that is needed into DIR, on a machine with the tools
    python3 scripts/gpu_check.py --packed DIR      uses that, on a machine that has a GPU and little else

Each program runs natively first: one that fails there is a wrong test and says nothing of Orion. Then it runs under
`orion run --device cuda`. The table of docs/gpu/ holds a real GPU's figures only; where there is none, the cascade runs
instead (two servers, the second on the CPU device) and nothing is written.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "tests" / "e2e" / "programs"
REPORTS = ROOT / "docs" / "gpu"
BUDGET_SECONDS = 560.0
DEVICE_NODES = ("/dev/nvidiactl", "/dev/dxg")
PROBE = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
assert not hasattr(cuda, "orion_shim_marker"), "the libcuda.so.1 found first is Orion's own"
count, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
result = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
assert result == 0 and count.value, f"the driver finds no GPU (CUDA error {result})"
major, minor = ctypes.c_int(), ctypes.c_int()
cuda.cuDeviceGetName(name, 128, 0)
cuda.cuDriverGetVersion(ctypes.byref(version))
cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, 0)
cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, 0)
print(json.dumps({"name": name.value.decode(), "cuda": version.value, "sm": major.value * 10 + minor.value}))
"""


@dataclass
class Kit:
    """What is run: an Orion, and programs compiled for it."""

    python: str
    orion: list[str]
    environment: dict[str, str]
    programs: dict[str, Path] = field(default_factory=dict)
    suite: Path | None = None  # tests/devices/cuda_test
    bench: Path | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Check:
    """One program, natively and under Orion."""

    name: str
    native: str = "not run"
    orion: str = "not run"
    words: str = ""

    @property
    def good(self) -> bool:
        """Right under Orion, or wrong without it too."""
        return self.orion == "passed" or self.native == "failed"


class Clock:
    """The time that is left for all of it."""

    def __init__(self) -> None:
        self.end = time.monotonic() + BUDGET_SECONDS

    def left(self, most: float) -> float:
        """Seconds for the next step; at least one, so that a step that comes too late is seen to fail."""
        return max(1.0, min(most, self.end - time.monotonic()))


CLOCK = Clock()


def say(text: str) -> None:
    """A line of progress."""
    print(f"gpu-check: {text}", flush=True)


def run(
    command: Sequence[str | os.PathLike[str]], environment: dict[str, str], seconds: float
) -> tuple[bool, str]:
    """Whether it ended well, and what it said."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CLOCK.left(seconds),
            cwd="/",  # nothing of the checkout is imported by chance
        )
    except subprocess.TimeoutExpired:
        return False, f"no end within {seconds:.0f} s"
    except OSError as error:
        return False, str(error)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def native_environment() -> dict[str, str]:
    """Without anything of Orion's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ORION_")}
    parts = [p for p in kept.get("LD_LIBRARY_PATH", "").split(":") if p and "orion" not in p]
    kept["LD_LIBRARY_PATH"] = ":".join(parts)
    return kept


def find_gpu() -> dict[str, Any] | str:
    """The first GPU, or why there is none."""
    if not any(os.path.exists(node) for node in DEVICE_NODES):
        return f"no {' and no '.join(DEVICE_NODES)}"
    good, text = run([sys.executable, "-c", PROBE], native_environment(), 60)
    if not good:
        return text.splitlines()[-1] if text else "the driver does not load"
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


# --- what is run


def checkout_kit(venv: Path) -> Kit:
    """Builds in the venv, with what PyPI or the machine has."""
    good, text = run(
        [sys.executable, ROOT / "scripts" / "bootstrap.py", "--venv", venv, "test"],
        dict(os.environ),
        400,
    )
    python = venv / "bin" / "python"
    if not good and not (venv / "bin" / "orion").exists():
        raise SystemExit(
            f"gpu-check: Orion cannot be built here: {text.splitlines()[-1] if text else '?'}\n"
            "gpu-check: without a network, pack it elsewhere: scripts/gpu_check.py --pack DIR, then --packed DIR"
        )
    kit = Kit(str(python), [str(venv / "bin" / "orion")], native_environment())
    if not good:
        kit.notes.append("the installed build was used: it could not be brought up to date")
    built = ROOT / "build" / "venv" / "tests" / "devices" / "cuda_test"
    kit.suite = built if built.exists() else None
    return kit


def packed_kit(folder: Path) -> Kit:
    """What --pack has made."""
    site = folder / "site"
    if not (site / "orion_shm").is_dir():
        raise SystemExit(f"gpu-check: {folder} holds nothing that --pack has made")
    environment = {**native_environment(), "PYTHONPATH": str(site)}
    kit = Kit(sys.executable, [sys.executable, "-m", "orion_shm"], environment)
    for path in sorted((folder / "programs").iterdir()):
        path.chmod(0o755)
        kit.programs[path.name] = path
    kit.suite = kit.programs.pop("cuda_test", None)
    kit.bench = kit.programs.pop("driver_bench", None)
    return kit


def compile_programs(kit: Kit, folder: Path, sm: int | None) -> None:
    """The examples and the tour; PTX for any GPU, and machine code for this one where nvcc can."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT / "scripts"))
    from nvcc import PTX_ONLY, NvccError, find_nvcc

    sources = {
        name: ROOT / "examples" / f"{name}.cu" for name in ("vectorAdd", "matmul", "reduction")
    }
    sources |= {name: PROGRAMS / f"{name}.cu" for name in ("tour", "prints")}
    try:
        nvcc = find_nvcc()
    except NvccError as error:
        kit.notes.append(f"no examples and no tour: {error}")
    else:
        wanted: list[tuple[str, Path, tuple[str, ...], tuple[str, ...]]] = [
            (name, source, (), PTX_ONLY) for name, source in sources.items()
        ]
        wanted.append(
            ("kernels.so", PROGRAMS / "kernels.cu", ("-shared", "-Xcompiler", "-fPIC"), PTX_ONLY)
        )
        for code in sorted({sm} if sm else {80, 90}):
            wanted.append(
                (
                    f"reduction-sm{code}",
                    sources["reduction"],
                    (),
                    ("-gencode", f"arch=compute_{code},code=sm_{code}"),
                )
            )
        for name, source, arguments, architectures in wanted:
            try:
                nvcc.compile(source, folder / name, "static", arguments, architectures, [])
                kit.programs[name] = folder / name
            except (NvccError, OSError, subprocess.SubprocessError) as error:
                kit.notes.append(f"{name} does not compile: {str(error).splitlines()[0]}")
    compiler = os.environ.get("CC", "cc").split()
    bench = folder / "driver_bench"
    good, text = run(
        [*compiler, "-O2", "-o", bench, ROOT / "benchmarks" / "native" / "driver_bench.c", "-ldl"],
        dict(os.environ),
        60,
    )
    if good:
        kit.bench = bench
    else:
        kit.notes.append(f"no figures: {text}")


def pack(folder: Path, venv: Path) -> None:
    """All that a machine without tools needs, but for Python 3 of this version and NumPy."""
    kit = checkout_kit(venv)
    programs = folder / "programs"
    shutil.rmtree(folder, ignore_errors=True)
    compile_programs(kit, programs, None)
    if kit.suite:
        shutil.copy2(kit.suite, programs / "cuda_test")
    where = "import orion_shm, orion_server; print(orion_shm.__path__[0]); print(orion_server.__path__[0])"
    found = subprocess.run(
        [kit.python, "-c", where], capture_output=True, text=True, check=True, cwd=folder
    )
    for path in map(Path, found.stdout.split()):
        shutil.copytree(
            path, folder / "site" / path.name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for note in kit.notes:
        say(note)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    say(f"{folder}: {size >> 20} MiB for Python {platform.python_version()}")


# --- running it


def outcome(good: bool) -> str:
    """A word for the table."""
    return "passed" if good else "failed"


def compare(kit: Kit, name: str, command: Sequence[str | os.PathLike[str]]) -> Check:
    """A program natively, then under Orion."""
    check = Check(name)
    good, words = run(command, native_environment(), 60)
    check.native = outcome(good)
    if not good:
        check.words = f"natively: {words[-300:]}"
    good, words = run([*kit.orion, "run", "--device", "cuda", "--", *command], kit.environment, 60)
    check.orion = outcome(good)
    if not good:
        check.words = f"under Orion: {words[-300:]}"
    say(f"{name}: natively {check.native}, under Orion {check.orion}")
    return check


def conformance(kit: Kit) -> list[Check]:
    """Programs that have to do the same on both, and the device's own suite on the driver."""
    checks = []
    programs = kit.programs
    for name in sorted(n for n in programs if n not in ("tour", "kernels.so")):
        checks.append(compare(kit, name, [programs[name]]))
    if "tour" in programs:
        stops = re.findall(
            r'^    \{"(\w+)", \w+\},$', (PROGRAMS / "tour.cu").read_text(), re.MULTILINE
        )
        checks += [compare(kit, f"tour {stop}", [programs["tour"], stop]) for stop in stops]
    if "kernels.so" in programs:
        script = ROOT / "tests" / "e2e" / "kernels_numpy.py"
        names = re.findall(r"^def (\w+)\(kernels", script.read_text(), re.MULTILINE)
        for name in names:
            checks.append(
                compare(kit, f"kernel {name}", [kit.python, script, programs["kernels.so"], name])
            )
    if kit.suite:
        good, words = run([kit.suite], native_environment(), 120)
        check = Check(
            "device suite", "needs no other run", outcome(good), "" if good else words[-600:]
        )
        say(f"device suite on the driver: {check.orion}")
        checks.append(check)
    return checks


def figures(kit: Kit) -> dict[str, Any]:
    """driver_bench natively and under Orion; whatever is not a real GPU's is left out."""
    found: dict[str, Any] = {}
    if kit.bench is None:
        return found
    steps: tuple[tuple[str, list[str | os.PathLike[str]], dict[str, str]], ...] = (
        ("native", [kit.bench], native_environment()),
        ("orion", [*kit.orion, "run", "-q", "--device", "cuda", "--", kit.bench], kit.environment),
    )
    for where, command, environment in steps:
        say(f"figures, {where} ...")
        good, text = run(command, environment, 150)
        try:
            found[where] = json.loads(next(line for line in text.splitlines() if line[:1] == "{"))
        except (StopIteration, ValueError):
            say(f"no figures, {where}: {text[-300:]}")
            kit.notes.append(f"no figures, {where}: {text[-200:]}")
            continue
        if not good or found[where]["device"].startswith("Orion"):
            del found[where]
            kit.notes.append(f"the figures of {where} are not a GPU's: left out")
    return found


# --- the table


def ratio(orion: float, native: float) -> str:
    """Orion's part of the native figure."""
    return f"{orion / native:.2f}" if native else "-"


def markdown(report: dict[str, Any]) -> str:
    """The report for people."""
    gpu, native, orion = (
        report["gpu"],
        report["figures"].get("native"),
        report["figures"].get("orion"),
    )
    lines = [
        f"# {gpu['name']}, {report['date']}",
        "",
        f"Driver CUDA {gpu['cuda'] // 1000}.{gpu['cuda'] % 1000 // 10}, compute capability {gpu['sm'] // 10}."
        f"{gpu['sm'] % 10}, {report['cpu']}. Written by `make gpu-check`; each program ran natively first.",
        "",
    ]
    lines += [f"* {note}" for note in report["notes"]] + ([""] if report["notes"] else [])
    if native and orion:
        lines += ["| call | native, us | Orion, us | Orion / native |", "|---|---|---|---|"]
        for name, value in native.items():
            if isinstance(value, dict) and "p50_us" in value:
                a, b = value["p50_us"], orion[name]["p50_us"]
                lines.append(f"| {name}, p50 | {a:.2f} | {b:.2f} | {ratio(b, a)} |")
        for name in ("launch_issue_us", "load_us"):
            lines.append(
                f"| {name.removesuffix('_us')} | {native[name]:.2f} | {orion[name]:.2f} | "
                f"{ratio(orion[name], native[name])} |"
            )
        a, b = native["launch_sustained_per_s"], orion["launch_sustained_per_s"]
        lines.append(f"| launches sustained, per s | {a:.0f} | {b:.0f} | {ratio(b, a)} |")
        lines += [
            "",
            "| copy, GB/s | "
            + " | ".join(
                f"{kind} {where}"
                for kind in ("pageable in", "pageable out", "pinned in", "pinned out")
                for where in ("native", "Orion")
            )
            + " |",
            "|" + "---|" * 9,
        ]
        for a_row, b_row in zip(native["copies"], orion["copies"], strict=False):
            cells = [
                f"{row[key]:.2f}"
                for key in (
                    "pageable_in_gb_s",
                    "pageable_out_gb_s",
                    "pinned_in_gb_s",
                    "pinned_out_gb_s",
                )
                for row in (a_row, b_row)
            ]
            lines.append(f"| {a_row['bytes'] >> 10} KiB | {' | '.join(cells)} |")
        lines.append("")
    lines += ["| program | natively | under Orion |", "|---|---|---|"]
    lines += [f"| {c['name']} | {c['native']} | {c['orion']} |" for c in report["checks"]]
    wrong = [c for c in report["checks"] if c["words"]]
    lines += [""] + [f"* {c['name']}: `{' '.join(c['words'].split())}`" for c in wrong]
    return "\n".join(lines).rstrip() + "\n"


def write_report(gpu: dict[str, Any], kit: Kit, checks: list[Check], found: dict[str, Any]) -> Path:
    """docs/gpu/DATE-GPU.json and .md."""
    date = datetime.date.today().isoformat()
    report = {
        "date": date,
        "gpu": gpu,
        "cpu": f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}",
        "notes": kit.notes,
        "checks": [asdict(check) for check in checks],
        "figures": found,
    }
    REPORTS.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", gpu["name"].lower()).strip("-")
    path = REPORTS / f"{date}-{slug}.md"
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    path.write_text(markdown(report), encoding="utf-8")
    return path


def run_cascade(venv: Path) -> int:
    """What can be shown without a GPU."""
    kit = checkout_kit(venv)
    say(
        "the cascade: a worker whose driver is our own library, in front of a server with the CPU device"
    )
    command = [kit.python, "-m", "pytest", "-q", "--timeout", "120", "tests/e2e/test_cascade.py"]
    code = subprocess.run(command, cwd=ROOT, env=native_environment()).returncode
    say("the cascade " + ("passed; nothing is written" if code == 0 else "FAILED"))
    return code


def main() -> int:
    """Exit code 0: everything that is right natively is right under Orion."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where Orion is built")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="build into DIR, for --packed")
    parser.add_argument("--packed", type=Path, metavar="DIR", help="use what --pack made")
    options = parser.parse_args()
    if options.pack:
        pack(options.pack.resolve(), options.venv.resolve())
        return 0
    gpu = find_gpu()
    if isinstance(gpu, str):
        say(f"there is no NVIDIA GPU here ({gpu})")
        return run_cascade(options.venv.resolve())
    say(f"{gpu['name']}, compute capability {gpu['sm'] // 10}.{gpu['sm'] % 10}")
    if options.packed:
        kit = packed_kit(options.packed.resolve())
    else:
        kit = checkout_kit(options.venv.resolve())
        compile_programs(kit, ROOT / "build" / "gpu-check", gpu["sm"])
    checks = conformance(kit)
    path = write_report(gpu, kit, checks, figures(kit))
    bad = [check.name for check in checks if not check.good]
    say(f"{path} is written" + (f"; FAILED under Orion: {', '.join(bad)}" if bad else ""))
    return 1 if bad or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
