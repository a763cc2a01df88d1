# SPDX-License-Identifier: Apache-2.0
"""What goes wrong outside of us: each gives the right error and one sentence, soon, and leaves nothing."""

from __future__ import annotations

import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e_support import (
    ERROR_SECONDS,
    Build,
    OrionRun,
    Result,
    Server,
    client_environment,
    run,
    running_server,
)
from nvcc import Nvcc

DRIVER_API = Path(__file__).parent / "driver_api.py"
NO_DEVICE, INVALID_VALUE, INVALID_IMAGE, NO_BINARY = 100, 1, 200, 209


def init(environment: dict[str, str]) -> Result:
    """A program that calls cuInit and nothing else."""
    return run([sys.executable, DRIVER_API, "init"], environment)


def assert_refused(done: Result, result: int, *words: str) -> None:
    """cuInit gave `result`; one sentence on stderr has all the words; it took no time."""
    assert done.code == 1, done.said()
    assert f"cuInit {result}\n" in done.out, done.said()
    said = [line for line in done.err.splitlines() if line.startswith("orion: ")]
    assert len(said) == 1, done.said()
    for word in words:
        assert word in said[0], done.said()
    assert done.seconds < ERROR_SECONDS


def test_missing_server(environment: dict[str, str], tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/nobody.sock"
    done = init(client_environment(environment, address))
    assert_refused(done, NO_DEVICE, address, "orion up")


def test_no_server_configured(environment: dict[str, str]) -> None:
    if Path("/run/orion/orion.sock").exists():
        pytest.skip("a server runs at the default socket of this machine")
    without = client_environment(environment, "")
    del without["ORION_SERVER"]
    assert_refused(init(without), NO_DEVICE, "ORION_SERVER", "orion up", "orion run")


@pytest.mark.parametrize("address", ["nonsense", "unix:", "localhost:notaport", "http://x"])
def test_wrong_address(environment: dict[str, str], address: str) -> None:
    done = init(client_environment(environment, address))
    assert_refused(done, NO_DEVICE, f"ORION_SERVER={address}", "unix:PATH")


def test_nobody_listens_at_a_port(environment: dict[str, str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    assert_refused(init(client_environment(environment, address)), NO_DEVICE, address)


def test_orion_run_names_a_server_that_does_not_answer(
    orion: Callable[..., Result], tmp_path: Path
) -> None:
    done = orion("run", "--server", f"unix:{tmp_path}/nobody.sock", "--", "true")
    assert done.code == 2, done.said()
    assert "nobody.sock" in done.err
    assert "orion up" in done.err
    assert done.seconds < ERROR_SECONDS


@contextmanager
def fake_server(environment: dict[str, str], answer: bytes | None) -> Iterator[str]:
    """Accepts, reads the hello, answers, closes; None: never answers."""
    path = f"{environment['XDG_RUNTIME_DIR']}/fake.sock"
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            held.append(peer)
            peer.recv(4096)
            if answer is not None:
                peer.sendall(answer)
                peer.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for peer in held:
                peer.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 30, b"\0" * 568, None],
    ids=["nothing", "http", "zeros", "silence"],
)
def test_something_else_listens_there(environment: dict[str, str], answer: bytes | None) -> None:
    with fake_server(environment, answer) as address:
        done = init(client_environment(environment, address))
    assert_refused(done, NO_DEVICE)


def test_server_of_another_version(environment: dict[str, str]) -> None:
    magic, bytes_ = 0x316F636C6557724F, 568
    welcome = struct.pack("<QIIIi", magic, 99, bytes_, 9, NO_DEVICE).ljust(bytes_, b"\0")
    with fake_server(environment, welcome) as address:
        done = init(client_environment(environment, address))
    assert_refused(done, NO_DEVICE, "version")


def test_hello_of_another_version_is_refused(server: Server) -> None:
    magic, bytes_ = 0x316F6C6C6548724F, 312
    hello = struct.pack("<QIIIIII", magic, 99, bytes_, 0, 1, 0, 0).ljust(bytes_, b"\0")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ERROR_SECONDS)
        client.connect(str(server.socket))
        client.sendall(hello)
        answer = client.recv(4096)
        assert struct.unpack_from("<Q", answer)[0] == 0x316F636C6557724F
        assert struct.unpack_from("<I", answer, 16)[0] != 0
        assert b"version" in answer
    assert server.clients() == []


@pytest.mark.parametrize("variable", ["ORION_GMEM", "ORION_RATIO", "ORION_VGPU"])
def test_wish_that_is_no_number(server: Server, variable: str) -> None:
    done = server.run(sys.executable, DRIVER_API, "init", **{variable: "abc"})
    assert_refused(done, INVALID_VALUE, f"{variable}=abc")


def test_gmem_option_that_is_no_amount(orion: Callable[..., Result]) -> None:
    done = orion("run", "--gmem", "lots", "--", "true")
    assert done.code == 2
    assert "lots" in done.err
    assert "512M" in done.err


def test_missing_program(orion_run: OrionRun, tmp_path: Path) -> None:
    done = orion_run(tmp_path / "nothing")
    assert done.code == 127
    assert "nothing" in done.err
    plain = tmp_path / "plain"
    plain.write_text("no program")
    done = orion_run(plain)
    assert done.code == 126
    assert "not executable" in done.err


@pytest.fixture
def fatbin(nvcc: Nvcc, tmp_path: Path) -> Path:
    """An image with PTX alone, as `nvcc -fatbin` writes it."""
    source = Path(__file__).parent.parent.parent / "examples" / "vectorAdd.cu"
    return nvcc.compile(source, tmp_path / "whole.fatbin", arguments=("-fatbin",))


def test_whole_fatbin_loads(fatbin: Path, orion_run: OrionRun) -> None:
    for mode in ("load", "data"):
        done = orion_run(sys.executable, DRIVER_API, mode, fatbin)
        assert done.code == 0, done.said()


@pytest.mark.parametrize("kept", [0, 10, 40, 100, 300])
def test_truncated_fatbin(fatbin: Path, orion_run: OrionRun, tmp_path: Path, kept: int) -> None:
    short = tmp_path / "short.fatbin"
    short.write_bytes(fatbin.read_bytes()[:kept])
    done = orion_run(sys.executable, DRIVER_API, "load", short)
    assert done.code == 1, done.said()
    assert re.search(rf"^load ({INVALID_IMAGE}|{NO_BINARY})$", done.out, re.MULTILINE), done.said()
    assert done.seconds < ERROR_SECONDS


@pytest.mark.parametrize("kept", [16, 40, 100, 300])
def test_fatbin_whose_entries_do_not_fit(
    fatbin: Path, orion_run: OrionRun, tmp_path: Path, kept: int
) -> None:
    """The header admits that the image is short; the entry still claims its whole length."""
    image = bytearray(fatbin.read_bytes()[:kept])
    struct.pack_into("<Q", image, 8, kept - 16)
    short = tmp_path / "short.fatbin"
    short.write_bytes(image)
    for mode in ("load", "data"):
        done = orion_run(sys.executable, DRIVER_API, mode, short)
        assert done.code == 1, done.said()
        found = re.search(rf"^{mode} ({INVALID_IMAGE}|{NO_BINARY})$", done.out, re.MULTILINE)
        assert found, done.said()


def test_machine_code_alone_is_refused(build: Build, orion_run: OrionRun) -> None:
    done = orion_run(build("vectorAdd", code=("-gencode", "arch=compute_90,code=sm_90")))
    assert done.code == 1, done.said()
    assert "cudaErrorNoKernelImageForDevice" in done.err
    assert re.search(r"^orion: .*PTX", done.err, re.MULTILINE), done.said()
    assert done.seconds < ERROR_SECONDS + 5  # the whole program, server start included


def test_kernel_that_writes_through_null(build: Build, orion_run: OrionRun) -> None:
    done = orion_run(build("faults"), "null_write")
    assert done.code == 1, done.said()
    assert "launch: cudaSuccess" in done.out
    assert "synchronize: cudaErrorIllegalAddress" in done.out
    assert "malloc: cudaErrorIllegalAddress" in done.out
    assert re.search(r"^orion: .*address", done.err, re.MULTILINE), done.said()


def test_others_go_on_when_a_kernel_faults(build: Build, server: Server) -> None:
    waiting = server.start(build("faults"), "wait")
    waiting.expect("ready")
    faulty = server.run(build("faults"), "null_write")
    assert faulty.code == 1, faulty.said()
    waiting.say("go on")
    code, out, error = waiting.finish()
    assert code == 0, out + error


def test_memory_limit_is_hard(build: Build, orion_run: OrionRun) -> None:
    done = orion_run(build("faults"), "hog", "1000", options=("--gmem", "64"))
    assert done.code == 1, done.said()
    assert "malloc: cudaErrorMemoryAllocation" in done.out
    got = re.search(r"^got (\d+) MiB$", done.out, re.MULTILINE)
    assert got, done.said()
    assert 48 <= int(got[1]) <= 64, done.said()
    assert "total 64 MiB" in done.out


def test_memory_limit_by_environment(build: Build, server: Server) -> None:
    done = server.run(build("faults"), "hog", "1000", ORION_GMEM="32")
    assert "total 32 MiB" in done.out, done.said()


def test_memory_limit_of_the_server_wins(build: Build, environment: dict[str, str]) -> None:
    with running_server(environment, "--gmem", "64") as server:
        done = server.run(build("faults"), "hog", "1000", ORION_GMEM="4096")
        assert "total 64 MiB" in done.out, done.said()
