# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu_check as far as it goes without a GPU: the table, what never enters it, and the packed kit in the
cascade."""

from __future__ import annotations

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
from scripts.gpu_check.__main__ import verdict  # noqa: E402


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


def test_figures_of_the_cascade_are_left_out(tmp_path: Path) -> None:
    made = kit_with_bench(tmp_path, "Orion CPU device (x)")
    assert checks.figures(made, [NATIVE_WAY]) == {}
    assert any("not a GPU's" in note for note in made.notes)


def test_figures_of_a_gpu_are_kept(tmp_path: Path) -> None:
    made = kit_with_bench(tmp_path, "NVIDIA Test")
    assert checks.figures(made, [NATIVE_WAY])["native"]["launch_issue_us"] == 2.0


def test_program_that_fails_natively_says_nothing_of_orion() -> None:
    assert not checks.Check("a", {"native": "failed", "shm": "failed"}).bad
    assert checks.Check("a", {"native": "passed", "shm": "passed", "tcp": "failed"}).bad
    assert not checks.Check("a", {"native": "passed", "shm": "passed"}).bad
    assert checks.Check("device suite", {"shm": "failed"}).bad


@pytest.mark.parametrize(
    ("outcomes", "code", "says"),
    [
        ([{"native": "passed", "shm": "passed"}], 0, "all 1 checks"),
        ([{"native": "passed", "shm": "failed"}], 1, "FAILED under Orion: x"),
        ([{"native": "failed", "shm": "failed"}], 1, "no program ran natively"),
        ([{"native": "passed", "shm": "not run"}], 1, "no time was left for 1 checks"),
        ([], 1, "no program could be run"),
    ],
)
def test_only_what_was_shown_counts_as_success(
    outcomes: list[dict[str, str]], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict([checks.Check("x", outcome) for outcome in outcomes], []) == code
    assert says in capsys.readouterr().out


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
    (tmp_path / "kit.json").write_text(json.dumps({"python": "2.7", "notes": []}))
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
