# SPDX-License-Identifier: Apache-2.0
"""Orion's channels and sessions, and everybody else's, through the same rows in the same run (peers.py says who)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers

Figures = dict[str, dict[str, Any]]
DUO = peers.HERE / "python" / "duo.py"


@pytest.fixture
def folder() -> Iterator[Path]:
    with peers.folder() as path:
        yield path


@pytest.fixture
def floor_library(build: Callable[..., Path]) -> Path:
    return build("libsample.so", ["native/sample.c"], parts=("base",), shared=True)


def shared_page(folder: Path) -> Path:
    """What both processes of a C program map."""
    page = folder / "page"
    page.write_bytes(bytes(1 << 20))
    return page


def c_command(peer: peers.Peer, build: Callable[..., Path], folder: Path) -> list[str]:
    flags = peer.flags()
    source = f"peers/native/{peer.program}.c"
    program = build(
        f"peer-{peer.program}",
        [source, "peers/native/twin.c", "native/sample.c"],
        flags=flags,
        **({} if peer.core else {"parts": ("base",)}),
    )
    return [*peer.launcher(), str(program), str(shared_page(folder)), *peer.rows]


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: f"{peer.name} ({peer.language})")
def test_peer(
    benchmark: Any,
    peer: peers.Peer,
    build: Callable[..., Path],
    floor_library: Path,
    run_program: Callable[..., Figures],
    record: Callable[..., None],
    folder: Path,
) -> None:
    try:
        environment = {**peer.environment, **peer.late()}
        if peer.language == "C":
            command = c_command(peer, build, folder)
        else:
            command = [sys.executable, str(DUO), peer.program, str(floor_library), str(folder)]
    except peers.Missing as why:
        pytest.skip(str(why))
    except subprocess.CalledProcessError as failed:
        pytest.fail(f"{peer.name} does not compile: {failed}")
    figures = benchmark.pedantic(run_program, args=(command, environment), rounds=1, iterations=1)
    benchmark.extra_info["figures"] = figures
    record(
        peer.name, figures, language=peer.language, kind=peer.kind, ours=peer.ours,
        command=[Path(part).name for part in command],
        environment=peer.environment,
    )  # fmt: skip
    kept = [value["kept"] for value in figures.values() if "kept" in value]
    assert not kept or max(kept) > 0, "every sample was dropped: the machine is too busy"


@pytest.mark.parametrize("twin", ["session", "channel"])
def test_only_spin(
    benchmark: Any,
    twin: str,
    build: Callable[..., Path],
    run_program: Callable[..., Figures],
    record: Callable[..., None],
    folder: Path,
) -> None:
    """Calls with waits that may sleep beside calls with waits that never do, between the same two processes."""
    names = (f"{twin}.c", "only_spins.c", "twin.c")
    program = build(
        f"spins-{twin}",
        [*(f"peers/native/{name}" for name in names), "native/sample.c"],
        without={"channel/wait.c"},
    )
    command = [str(program), str(shared_page(folder)), "only_spin"]
    figures = benchmark.pedantic(run_program, args=(command, {}), rounds=1, iterations=1)
    record(f"{twin}, only spinning", figures)
    assert figures["only_spin_64"]["kept"] > 0, "every sample was dropped: the machine is too busy"


def test_floors(
    benchmark: Any,
    build: Callable[..., Path],
    run_program: Callable[..., Figures],
    record: Callable[..., None],
) -> None:
    program = build("floors", ["peers/native/floors.c", "native/sample.c"], parts=("base",))
    figures = benchmark.pedantic(run_program, args=([str(program)], {}), rounds=1, iterations=1)
    record("floors", figures)
    assert figures["memcpy_1048576"]["median"] > 0
