# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu_check as far as it goes without a GPU: the table, what never enters it, and the packed kit in the
cascade."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # last: what is tested besides is what is installed

from scripts.gpu_check import checks, kit, machine, table, ways  # noqa: E402
from scripts.gpu_check.__main__ import INCOMPLETE, WRONG, verdict  # noqa: E402


def figures_of(device: str, factor: float) -> dict[str, Any]:
    """What driver_bench writes."""
    copy = {f"{kind}_gb_s": 1.0 for kind in table.COPIES}
    return {
        "device": device,
        "version": 13000,
        "cuMemGetInfo": {"p50_us": 2.0 * factor, "p99_us": 3.0, "samples": 10},
        "load_us": 100.0 * factor,
        "launch_issue_us": 2.0 * factor,
        "launch_sustained_per_s": 400000.0 / factor,
        "copies": [{**copy, "bytes": 4096, "pinned_in_gb_s": 1.0 / factor}],
    }


def kit_with_bench(folder: Path, device: str) -> kit.Kit:
    """A kit whose benchmark writes such figures."""
    path = folder / "bench"
    path.write_text(f"#!{sys.executable}\nprint({json.dumps(figures_of(device, 1.0))!r})\n")
    path.chmod(0o755)
    return kit.Kit(sys.executable, [], {}, bench=path)


NATIVE_WAY = ways.Way(ways.NATIVE, [], {})


@pytest.fixture(autouse=True)
def time_left() -> None:
    """The clock began when the module was imported: at the collection of what may be a long suite."""
    machine.CLOCK.restart(300.0)


def test_table_has_every_figure_and_its_ratio() -> None:
    outcome = {"native": "passed", "shm": "failed", "tcp": "passed"}
    text = table.markdown(
        {
            "date": "2026-01-01",
            "gpu": {"name": "NVIDIA Test", "cuda": 12080, "sm": 90},
            "cpu": "4 CPUs",
            "notes": ["a note"],
            "missing": ["the cupy script: no CuPy"],
            "checks": [{"name": "vectorAdd", "outcome": outcome, "words": ["shm: x `y`"]}],
            "figures": {
                "native": figures_of("NVIDIA Test", 1.0),
                "shm": figures_of("NVIDIA Test", 2.0),
                "tcp": figures_of("NVIDIA Test", 4.0),
            },
        }
    )
    assert "Driver CUDA 12.8, compute capability 9.0" in text
    assert "| cuMemGetInfo, p50 | 2.00 | 4.00 | 2.00 | 8.00 | 4.00 |" in text
    assert "| launches sustained, per s | 400000 | 200000 | 0.50 | 100000 | 0.25 |" in text
    assert "| 4 KiB |" + " 1.00 |" * 6 + " 1.00 | 0.50 | 0.25 |" + " 1.00 |" * 3 in text
    assert "| vectorAdd | passed | failed | passed |" in text
    assert "* vectorAdd, shm: x 'y'" in text
    assert "* a note\n* not checked: the cupy script: no CuPy\n" in text


GPU = machine.Gpu("NVIDIA Test", 12080, 90)


def written(folder: Path, devices: dict[str, str]) -> tuple[dict[str, Any], str]:
    """The JSON and the Markdown of a run whose figures came from these devices."""
    made = kit.Kit(sys.executable, [], {}, notes=["a note"])
    found = {way: figures_of(device, 1.0) for way, device in devices.items()}
    rows = [checks.Check("vectorAdd", {"native": "passed", "shm": "passed"})]
    path = table.write(folder, GPU, made, rows, found)
    assert sorted(folder.iterdir()) == [path.with_suffix(".json"), path]
    assert path.name == f"{datetime.date.today().isoformat()}-nvidia-test.md"
    return json.loads(path.with_suffix(".json").read_text()), path.read_text()


def test_report_is_dated_and_says_the_same_as_json_and_as_markdown(tmp_path: Path) -> None:
    report, text = written(tmp_path / "gpu", dict.fromkeys(("native", "shm", "tcp"), GPU.name))
    assert report["gpu"] == {"name": "NVIDIA Test", "cuda": 12080, "sm": 90}
    assert report["date"] == datetime.date.today().isoformat()
    assert report["checks"][0]["outcome"] == {"native": "passed", "shm": "passed"}
    assert set(report["figures"]) == {"native", "shm", "tcp"}
    assert report["missing"] == []
    assert text == table.markdown(report)
    assert f"# NVIDIA Test, {report['date']}" in text


def test_figures_of_the_cascade_never_enter_the_table(tmp_path: Path) -> None:
    devices = {"native": GPU.name, "shm": GPU.name, "tcp": "Orion CPU device (x)"}
    report, text = written(tmp_path / "gpu", devices)
    assert set(report["figures"]) == {"native", "shm"}
    assert report["missing"] == [
        "the figures, tcp: they are of Orion CPU device (x), not of the GPU"
    ]
    assert "tcp, us" not in text
    report, text = written(tmp_path / "none", dict.fromkeys(devices, "Orion CPU device (x)"))
    assert report["figures"] == {}
    assert "cuMemGetInfo" not in text


def test_figures_are_those_that_the_benchmark_gave(tmp_path: Path) -> None:
    made = kit_with_bench(tmp_path, "NVIDIA Test")
    assert checks.figures(made, [NATIVE_WAY])["native"]["launch_issue_us"] == 2.0
    assert made.bench is not None
    made.bench.write_text("#!/bin/sh\necho it broke\nexit 1\n")
    assert checks.figures(made, [NATIVE_WAY]) == {}
    assert made.missing == ["the figures, native: it broke"]


def test_program_that_fails_natively_says_nothing_of_orion() -> None:
    assert not checks.Check("a", {"native": "failed", "shm": "failed"}).bad
    assert checks.Check("a", {"native": "passed", "shm": "passed", "tcp": "failed"}).bad
    assert not checks.Check("a", {"native": "passed", "shm": "passed"}).bad
    assert checks.Check("device suite", {"shm": "failed"}).bad


RIGHT = {"native": "passed", "shm": "passed"}


@pytest.mark.parametrize(
    ("outcomes", "missing", "code", "says"),
    [
        ([RIGHT], [], 0, "all 1 checks"),
        ([{"native": "passed", "shm": "failed"}], [], WRONG, "FAILED under Orion: x0"),
        ([{"native": "passed", "shm": "failed"}, RIGHT], ["y: z"], WRONG, "not checked: y: z"),
        ([{"native": "failed", "shm": "failed"}], [], INCOMPLETE, "x0: wrong natively"),
        ([RIGHT, {"native": "failed", "shm": "passed"}], [], INCOMPLETE, "incomplete: 1 checks"),
        ([{"native": "passed", "shm": "not run"}], [], INCOMPLETE, "1 checks, x0 the first: no t"),
        ([RIGHT], ["the cupy script: no CuPy"], INCOMPLETE, "not checked: the cupy script: no"),
        ([], [], INCOMPLETE, "not checked: any program"),
    ],
)
def test_only_what_was_shown_counts_as_success(
    outcomes: list[dict[str, str]],
    missing: list[str],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = kit.Kit(sys.executable, [], {}, missing=missing)
    rows = [checks.Check(f"x{number}", outcome) for number, outcome in enumerate(outcomes)]
    assert verdict(rows, made) == code
    said = capsys.readouterr().out
    assert says in said
    assert ("all " in said.splitlines()[-1]) == (code == 0)


def test_no_compiler_and_no_package_are_named_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU whose driver is older than every nvcc, a C compiler that fails, no Python with CuPy."""
    python = tmp_path / "python"
    words = "case $1 in -c) echo no CuPy here; exit 1;; esac; echo nvcc, release 13.0"
    python.write_text(f"#!/bin/sh\n{words}\n")
    python.chmod(0o755)
    monkeypatch.setenv("CC", "false")
    monkeypatch.setitem(kit.PACKAGES, "cupy", "raise ImportError('no CuPy here')")
    made = kit.Kit(str(python), [], dict(os.environ))
    kit.compile_programs(made, tmp_path / "out", machine.Gpu("NVIDIA Test", 12080, 90))
    assert checks.script(made, "cupy", [NATIVE_WAY]) == []
    assert made.programs == {}
    assert [what.partition(":")[0] for what in made.missing] == [
        "the examples, the tour, the kernels",
        "the figures",
        "the cupy script",
    ]
    assert "newer than the driver (CUDA 12)" in made.missing[0]
    assert "no CuPy here" in made.missing[2]
    assert verdict([checks.Check("x", RIGHT)], made) == INCOMPLETE


def test_whole_run_on_a_gpu_has_one_clock_of_less_than_ten_minutes() -> None:
    assert machine.GPU_SECONDS < 600
    assert machine.BUILD_SECONDS < machine.GPU_SECONDS - 3 * checks.BENCH_SECONDS


def test_checkout_without_network_says_how_to_pack(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.gpu_check", "--venv", str(tmp_path / "venv")]
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "gpu-check: Orion cannot be built here: " in done.stderr
    assert "make gpu-check ARGS='--pack DIR'" in done.stderr
    assert "python3 -m scripts.gpu_check --packed ." in done.stderr


def test_program_beyond_its_time_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    done = machine.run(["sh", "-c", f"sleep 600 & echo $! > {told}; wait"], dict(os.environ), 0.5)
    assert not done.good
    assert "no end within" in done.words
    end = time.monotonic() + 10
    while is_running(int(told.read_text())):
        assert time.monotonic() < end, "what it started still runs"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_begins_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CLOCK", machine.Clock(0.0))
    done = machine.run(["true"], {}, 60.0)
    assert (done.good, done.began) == (False, False)


def test_native_environment_has_nothing_of_ours(
    libcuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{libcuda.parent}:{tmp_path}")
    monkeypatch.setenv("LD_PRELOAD", "/x/liborion_compilers.so:/y/libother.so")
    monkeypatch.setenv("ORION_SERVER", "unix:/nowhere")
    environment = machine.native_environment()
    assert environment["LD_LIBRARY_PATH"] == str(tmp_path)
    assert environment["LD_PRELOAD"] == "/y/libother.so"
    assert "ORION_SERVER" not in environment


def test_kit_of_another_python_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "kit.json").write_text(json.dumps({"python": "2.7", "missing": []}))
    with pytest.raises(SystemExit, match=r"packed for Python 2\.7"):
        kit.packed_kit(tmp_path)
    with pytest.raises(SystemExit, match="holds nothing"):
        kit.packed_kit(tmp_path / "nothing")


@pytest.mark.skipif(
    any(os.path.exists(node) for node in machine.DEVICE_NODES), reason="there is a GPU"
)
def test_packed_kit_runs_the_cascade_without_the_checkout(tmp_path: Path) -> None:
    """As a person does it who carries the folder to a machine with a GPU, but for the GPU."""
    folder = tmp_path / "kit"
    module = [sys.executable, "-m", "scripts.gpu_check"]
    venv = ["--venv", str(Path(sys.executable).parent.parent)]
    packed = subprocess.run(
        [*module, *venv, "--pack", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert packed.returncode == 0, packed.stdout + packed.stderr
    only = "vectorAdd|mapped_memory|kernel saxpy|cuda_python|device suite"
    done = subprocess.run(
        [*module, "--packed", ".", "--only", only], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "there is no NVIDIA GPU here" in done.stdout
    for name in ("vectorAdd", "tour mapped_memory", "kernel saxpy", "cuda_python script"):
        assert f"{name}: native passed, shm passed, tcp passed" in done.stdout, done.stdout
    assert "device suite: shm passed" in done.stdout
    assert not (folder / "docs").exists()
