# SPDX-License-Identifier: Apache-2.0
"""The tree is in order: every C file is built, every file says its licence, nothing names a machine's paths."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("csrc", "client", "server", "orion_shm")
TEXT = {
    ".c",
    ".h",
    ".py",
    ".pyx",
    ".pxd",
    ".pxi",
    ".pyi",
    ".toml",
    ".build",
    ".sh",
    ".cu",
    ".txt",
    ".md",
}
# A licence line would change what these files are.
NO_LICENCE_LINE = {".md", ".json", ".txt"}


def tracked() -> list[Path]:
    """Everything that is, or would be, committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if finished.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in finished.stdout.splitlines()]
    return [p for p in paths if p.suffix in TEXT and p.is_file()]


@pytest.mark.parametrize("room", ROOMS)
def test_every_c_file_is_built(room: str) -> None:
    listed = "\n".join(
        p.read_text()
        for p in ROOT.rglob("meson.build")
        if "build" not in p.relative_to(ROOT).parts[0]
    )
    forgotten = [
        str(path.relative_to(ROOT))
        for path in (ROOT / room).rglob("*.c")
        if not re.search(rf"'(?:[\w./-]*/)?{re.escape(path.name)}'", listed)
    ]
    assert not forgotten, f"not in any meson.build: {forgotten}"


def test_every_file_says_its_licence() -> None:
    missing = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix not in NO_LICENCE_LINE
        and path.stat().st_size > 0
        and "SPDX-License-Identifier: Apache-2.0" not in path.read_text(encoding="utf-8")[:400]
    ]
    assert not missing, f"no SPDX line at the top of {missing}"


def test_no_file_names_a_machine() -> None:
    path_of_a_machine = re.compile(r"(?<![\w.])/(?:home/\w|root/|work/)")
    wrong = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if path != Path(__file__)
        and (match := path_of_a_machine.search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert not wrong, "\n".join(wrong)


# The calendar is set by people and by NTP. It may be shown; nothing may be measured by it.
CALENDAR = re.compile(
    r"\btime\.time\b|CLOCK_REALTIME\b|\bgettimeofday\(|datetime\.now\b|Date\.now\b"
)
SHOWN = {
    "k8s/orion_elect/election.py": "renewTime of a Lease; its age is measured by another clock",
    "server/devices/cpu/runtime.c": "%globaltimer begins with it",
    "server/orion_server/allocations.py": "when a container's vGPUs were given",
    "server/orion_server/session.py": "when a program has come",
    "server/orion_server/supervisor.py": "when a server has started",
}


def test_nothing_is_measured_by_the_calendar() -> None:
    found = {}
    for path in tracked():
        name = str(path.relative_to(ROOT))
        if name.startswith(tuple(f"{room}/" for room in (*ROOMS, "k8s"))):
            count = len(CALENDAR.findall(path.read_text(encoding="utf-8")))
            if count:
                found[name] = count
    assert found == dict.fromkeys(SHOWN, 1), "once in each of these, and nowhere else"
