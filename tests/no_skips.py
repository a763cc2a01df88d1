# SPDX-License-Identifier: Apache-2.0
"""With ORION_NO_SKIP=1 a test that is skipped fails, unless its reason is one that this machine cannot help.

Continuous integration sets it once all tools are installed: then a test that is skipped is a test that was lost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any

import pytest

VARIABLE = "ORION_NO_SKIP"
# reasons that are a property of the machine, or that say that another run is the place for the test
ALLOWED = re.compile(
    "|".join(
        (
            r"needs a GPU",
            r"there is a GPU",
            r"no driver to test: there is no libcuda\.so\.1 here",
            r"this kernel has no seal against future writing",
            r"what passes between two processors needs two",
            r"no CPython \S+ with headers and venv is installed here",
            r"the other tests run with CPython",
            r"takes minutes: make soak",
            r"needs packages of CUDA 12, in ORION_CUDA12_SITE",
            r"the loader of this machine finds an NVRTC",
            r"a loop over plain loads is not a poll",  # one case of many is none for fibers
        )
    )
)


def _judge(report: Any) -> None:
    """Makes a failure of a skip that is not allowed."""
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get(VARIABLE) != "1":
        return
    place, line, reason = report.longrepr
    if not ALLOWED.search(reason):
        report.outcome = "failed"
        report.longrepr = f"{place}:{line}: {reason} ({VARIABLE}=1: nothing may be skipped here)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    _judge(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    _judge(report)
    return report
