# SPDX-License-Identifier: Apache-2.0
"""Features of the CUDA runtime, one by one, with cudart 13 and 12."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from e2e_support import Build, OrionRun

SOURCE = Path(__file__).parent / "programs" / "tour.cu"
STOPS = re.findall(r'^    \{"(\w+)", \w+\},$', SOURCE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("stop", STOPS)
def test_feature(build: Build, orion_run: OrionRun, stop: str) -> None:
    done = orion_run(build("tour"), stop)
    assert done.code == 0, done.said()
    assert f"{stop} ok" in done.out


@pytest.mark.parametrize("cudart", ["static", "shared", "12-static", "12-shared"])
def test_all_features_in_one_process(build: Build, orion_run: OrionRun, cudart: str) -> None:
    done = orion_run(build("tour", cudart))
    assert done.code == 0, done.said()
    assert [line.removesuffix(" ok") for line in done.out.splitlines()] == STOPS


def test_features_with_a_default_stream_for_each_thread(build: Build, orion_run: OrionRun) -> None:
    done = orion_run(build("tour", arguments=("--default-stream", "per-thread")))
    assert done.code == 0, done.said()


def test_managed_variable(build: Build, orion_run: OrionRun) -> None:
    """Host and kernels use one variable by its name."""
    done = orion_run(build("managed_variable"))
    assert done.code == 0, done.said()
    assert "managed variable ok" in done.out
