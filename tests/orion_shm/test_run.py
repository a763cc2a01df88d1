# SPDX-License-Identifier: Apache-2.0
"""`orion run`: environment, exit codes, signals, reports; the server is a stand-in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_fakes import FakeServer, status_of

from orion_shm.cli import main
from orion_shm.cli.run import program_environment, run_program


def shell(script: str) -> list[str]:
    """A command that runs a shell script."""
    return ["sh", "-c", script]


def test_program_gets_the_private_server(
    fake_server: FakeServer, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    script = f'echo "$ORION_SERVER $LD_LIBRARY_PATH ${{ORION_GMEM-none}} $ORION_RATIO" > {out}'
    wishes = ["--gmem", "1G", "--ratio", "30%"]
    assert main(["run", *wishes, "--device", "null", "--", *shell(script)]) == 0
    server, path, gmem, ratio = out.read_text().split()
    assert server == fake_server.embedded.address
    assert path.split(":")[0] == str(library)
    assert gmem == "none"  # the whole device is no more than that
    assert ratio == "30"
    (asked,) = fake_server.started
    expected = {
        "device": "null",
        "gmem_mib": 1024,
        "address": None,
        "bind": None,
        "own_token": False,
        "options": (),
    }
    assert asked == expected
    assert fake_server.embedded.stops >= 1
    said = capsys.readouterr().err.splitlines()
    assert said == ["orion: running on Orion CPU device of a private server"]


def test_named_server_is_used(
    fake_server: FakeServer, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.statuses["unix:/a"] = status_of("unix:/a")
    script = '[ "$ORION_SERVER" = unix:/a ]'
    assert main(["run", "--server", "unix:/a", "--", *shell(script)]) == 0
    assert fake_server.started == []
    assert "of the server at unix:/a" in capsys.readouterr().err


def test_server_of_the_environment_is_used(
    fake_server: FakeServer, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORION_SERVER", "unix:/b")
    fake_server.statuses["unix:/b"] = status_of("unix:/b")
    assert main(["run", "--quiet", "--", *shell('[ "$ORION_SERVER" = unix:/b ]')]) == 0
    assert fake_server.started == []


@pytest.mark.parametrize("option", [["--device", "cpu"], ["--report", "x.json"]])
def test_options_of_a_private_server_do_not_go_with_a_named_one(
    fake_server: FakeServer, library: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--server", "unix:/a", *option, "--", "true"]) == 2
    assert option[0] in capsys.readouterr().err


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -KILL $$", 128 + 9)])
def test_exit_code_is_the_programs(
    fake_server: FakeServer, library: Path, script: str, code: int
) -> None:
    assert main(["run", "--quiet", "--", *shell(script)]) == code


def test_missing_parts_are_named(
    fake_server: FakeServer, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run"]) == 2
    assert "no program named" in capsys.readouterr().err
    assert main(["run", "--", "no-such-program-anywhere"]) == 127
    assert "no-such-program-anywhere" in capsys.readouterr().err
    assert main(["run", "--", str(tmp_path) + "/"]) == 126
    assert "is a directory" in capsys.readouterr().err
    text = tmp_path / "text"
    text.write_text("neither a script nor a binary")
    assert main(["run", "--", str(text)]) == 126
    text.chmod(0o755)
    assert main(["run", "--", str(text)]) == 126
    fake_server.refuse = "llvmlite is not installed; pip install 'orion-vgpu[cpu]'"
    capsys.readouterr()
    assert main(["run", "--", "true"]) == 2
    assert capsys.readouterr().err == f"orion run: {fake_server.refuse}\n"
    (library / "libcuda.so.1").unlink()
    assert main(["run", "--", "true"]) == 2
    assert "ORION_LIBRARY_DIR" in capsys.readouterr().err


def test_report_is_written(fake_server: FakeServer, library: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert main(["run", "--report", str(report), "--", "true"]) == 0
    assert json.loads(report.read_text())["totals"]["calls"] == 17


def test_report_that_cannot_be_written_is_an_error(
    fake_server: FakeServer, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--report", str(tmp_path / "no" / "x"), "--", "true"]) == 2
    assert "could not be written" in capsys.readouterr().err


def test_library_directory_comes_first_and_once(library: Path) -> None:
    base = {"LD_LIBRARY_PATH": f"/a:{library}:/b:", "HOME": "/h"}
    environment = program_environment(base, library, None)
    assert environment == {"LD_LIBRARY_PATH": f"{library}:/a:/b", "HOME": "/h"}


def test_signals_go_on_to_the_program(tmp_path: Path) -> None:
    """Someone sends SIGUSR1 and SIGTERM to `orion run`; the program handles both."""
    ready, log = tmp_path / "ready", tmp_path / "log"
    os.mkfifo(ready)
    script = (
        f"trap 'echo usr1 >> {log}' USR1; trap 'echo term >> {log}; exit 5' TERM; "
        f"echo x > {ready}; while :; do read line < {ready}; done"
    )

    code = f"import sys, test_run; sys.exit(test_run.run_with_sender({script!r}, {str(ready)!r}, {str(log)!r}))"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 5, done.stderr
    assert log.read_text().split() == ["usr1", "term"]


def run_with_sender(script: str, ready: str, log: str) -> int:
    """Runs the script and sends the signals to this process from a child."""
    sender = (
        "import os, pathlib, signal, sys, time\n"
        "pid, ready, log = int(sys.argv[1]), *map(pathlib.Path, sys.argv[2:])\n"
        "ready.read_text()\n"
        "os.kill(pid, signal.SIGUSR1)\n"
        "while not log.exists(): time.sleep(0.01)\n"
        "os.kill(pid, signal.SIGTERM)\n"
    )
    subprocess.Popen([sys.executable, "-c", sender, str(os.getpid()), ready, log])
    return run_program("/bin/sh", ["sh", "-c", script], os.environ)


def test_program_starts_without_blocked_signals(tmp_path: Path) -> None:
    out = tmp_path / "status"
    assert run_program("/bin/sh", ["sh", "-c", f"cat /proc/self/status > {out}"], os.environ) == 0
    lines = dict(line.split(":\t", 1) for line in out.read_text().splitlines() if ":\t" in line)
    assert int(lines["SigBlk"], 16) == 0
    assert int(lines["SigIgn"], 16) & (1 << (signal.SIGPIPE - 1)) == 0
