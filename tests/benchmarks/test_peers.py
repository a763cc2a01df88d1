# SPDX-License-Identifier: Apache-2.0
"""The programs that measure the peers measure, and a peer that loses or spoils a message is no result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS / "peers"))

import peers  # noqa: E402

TWIN = [BENCHMARKS / "peers" / "native" / "twin.c"]
SAMPLE = [BENCHMARKS / "native" / "sample.c", *sorted((ROOT / "csrc" / "base").glob("*.c"))]

pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="what passes between two processors needs two"
)

SPOILS = """
#define twin whole
#include "unix.c"
#undef twin
static void spoil(void *buffer, size_t bytes)
{
    unix_receive(buffer, bytes);
    ((char *)buffer)[bytes - 1] ^= 1;
    unix_send(buffer, bytes);
}
extern const twin_t twin;
const twin_t twin = {.name = "spoils", .call_max = 64, .open = unix_open, .call = unix_call, .answer = spoil};
"""
DIES = SPOILS.replace("((char *)buffer)[bytes - 1] ^= 1;", "_exit(0);")


def compile_c(target: Path, sources: list[Path], *flags: str) -> Path:
    command = [
        os.environ.get("CC", "cc"),
        "-std=gnu11",
        "-O1",
        "-D_GNU_SOURCE=",
        "-Wall",
        "-Werror",
    ]
    command += ["-fno-strict-aliasing", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}"]
    command += [f"-I{BENCHMARKS}", f"-I{BENCHMARKS / 'native'}", f"-I{BENCHMARKS / 'peers/native'}"]
    command += ["-o", str(target), *map(str, sources), *flags, "-lpthread", "-ldl"]
    subprocess.run(command, check=True)
    return target


def run(command: list[Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "ORION_BENCH_SAMPLES": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )


def page(folder: Path) -> Path:
    path = folder / "page"
    path.write_bytes(bytes(1 << 20))
    return path


def test_the_rows_of_a_c_peer_are_measured(tmp_path: Path) -> None:
    source = BENCHMARKS / "peers" / "native" / "futex.c"
    program = compile_c(tmp_path / "futex", [source, *TWIN, *SAMPLE])
    finished = run([program, page(tmp_path), "call", "one_core", "idle", "attach"])
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(finished.stdout)["figures"]
    assert set(figures) == {
        "call_8", "call_48", "call_64", "one_core_64", "idle", "attach_first", "attach",
    }  # fmt: skip
    assert figures["call_64"]["kept"] + figures["call_64"]["dropped"] == 1
    assert figures["one_core_64"]["median"] > 0
    assert 0 <= figures["idle"]["median"] < 0.9  # it sleeps


def test_calls_of_ours_are_measured_beside_calls_that_never_sleep(tmp_path: Path) -> None:
    sources = [BENCHMARKS / "peers" / "native" / name for name in ("channel.c", "only_spins.c")]
    for part in ("shm", "stream", "channel", "wire"):
        sources += sorted((ROOT / "csrc" / part).glob("*.c"))
    sources.remove(ROOT / "csrc" / "channel" / "wait.c")  # only_spins.c stands for it
    program = compile_c(tmp_path / "spins", [*sources, *TWIN, *SAMPLE])
    finished = run([program, page(tmp_path), "only_spin"])
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(finished.stdout)["figures"]
    for size in (8, 64, 256):
        sample = figures[f"only_spin_{size}"]
        assert sample["kept"] + sample["dropped"] == 1
        assert (figures[f"spin_then_sleep_of_only_spin_{size}"]["median"] > 0) == bool(
            sample["kept"]
        )


def test_the_rows_of_a_python_peer_are_measured(tmp_path: Path) -> None:
    library = compile_c(tmp_path / "sample.so", SAMPLE, "-shared", "-fPIC")
    duo = BENCHMARKS / "peers" / "python" / "duo.py"
    finished = run([sys.executable, duo, "pipe", library, tmp_path, "one_way", "objects", "idle"])
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(finished.stdout)["figures"]
    assert set(figures) == {"one_way_8", "one_way_64", "one_way_256", "object", "idle"}
    assert figures["object"]["kept"] + figures["object"]["dropped"] == 1


def test_what_a_peer_leaves_behind_goes_with_its_folder() -> None:
    with peers.folder() as folder:
        left = Path("/dev/shm") / f"sem.peer.{folder.name}-0"
        other = Path("/dev/shm") / f"another.{os.getpid()}"
        left.touch()
        other.touch()
    kept = other.exists()
    other.unlink()
    assert kept
    assert not folder.exists()
    assert not left.exists()


def test_a_spoilt_message_is_no_result(tmp_path: Path) -> None:
    source = tmp_path / "spoils.c"
    source.write_text(SPOILS)
    program = compile_c(tmp_path / "spoils", [source, *TWIN, *SAMPLE])
    finished = run([program, page(tmp_path), "call"])
    assert finished.returncode == 1
    assert "spoils: finding in a message what was sent failed" in finished.stderr


def test_a_peer_that_dies_ends_the_program(tmp_path: Path) -> None:
    source = tmp_path / "dies.c"
    source.write_text(DIES)
    program = compile_c(tmp_path / "dies", [source, *TWIN, *SAMPLE])
    finished = run([program, page(tmp_path), "call"])
    assert finished.returncode != 0
    assert "failed" in finished.stderr or "ended too soon" in finished.stderr
