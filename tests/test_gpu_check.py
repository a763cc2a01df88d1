# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu_check.py as far as it goes without a GPU: the table, and what never enters it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def gpu_check() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "scripts" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


def figures_of(device: str, factor: float) -> dict[str, Any]:
    """What driver_bench writes."""
    return {
        "device": device,
        "version": 13000,
        "cuMemGetInfo": {"p50_us": 2.0 * factor, "p99_us": 3.0, "samples": 10},
        "load_us": 100.0 * factor,
        "launch_issue_us": 2.0 * factor,
        "launch_sustained_per_s": 400000.0 / factor,
        "copies": [
            {
                "bytes": 4096,
                "pageable_in_gb_s": 1.0,
                "pageable_out_gb_s": 1.0,
                "pinned_in_gb_s": 1.0 / factor,
                "pinned_out_gb_s": 1.0,
            }
        ],
    }


def bench(folder: Path, device: str) -> Path:
    """A program that writes such figures."""
    path = folder / "bench"
    path.write_text(f"#!{sys.executable}\nprint({json.dumps(figures_of(device, 1.0))!r})\n")
    path.chmod(0o755)
    return path


def test_table_has_every_figure_and_its_ratio(gpu_check: ModuleType) -> None:
    text = gpu_check.markdown(
        {
            "date": "2026-01-01",
            "gpu": {"name": "NVIDIA Test", "cuda": 12080, "sm": 90},
            "cpu": "4 CPUs",
            "notes": ["a note"],
            "checks": [
                {"name": "vectorAdd", "native": "passed", "orion": "failed", "words": "x\ny"}
            ],
            "figures": {
                "native": figures_of("NVIDIA Test", 1.0),
                "orion": figures_of("NVIDIA Test", 2.0),
            },
        }
    )
    assert "Driver CUDA 12.8, compute capability 9.0" in text
    assert "| cuMemGetInfo, p50 | 2.00 | 4.00 | 2.00 |" in text
    assert "| launches sustained, per s | 400000 | 200000 | 0.50 |" in text
    assert "| 4 KiB | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 0.50 | 1.00 | 1.00 |" in text
    assert "* vectorAdd: `x y`" in text


def test_figures_of_the_cascade_are_left_out(gpu_check: ModuleType, tmp_path: Path) -> None:
    kit = gpu_check.Kit(
        sys.executable, ["false"], {}, bench=bench(tmp_path, "Orion CPU device (x)")
    )
    assert gpu_check.figures(kit) == {}
    assert any("not a GPU's" in note for note in kit.notes)


def test_figures_of_a_gpu_are_kept(gpu_check: ModuleType, tmp_path: Path) -> None:
    kit = gpu_check.Kit(sys.executable, ["false"], {}, bench=bench(tmp_path, "NVIDIA Test"))
    assert gpu_check.figures(kit)["native"]["launch_issue_us"] == 2.0


def test_program_that_fails_natively_says_nothing_of_orion(gpu_check: ModuleType) -> None:
    assert gpu_check.Check("a", native="failed", orion="failed").good
    assert not gpu_check.Check("a", native="passed", orion="failed").good
    assert gpu_check.Check("a", native="passed", orion="passed").good
