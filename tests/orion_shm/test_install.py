# SPDX-License-Identifier: Apache-2.0
"""`orion install` and `orion uninstall`: what they leave, and what they don't touch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orion_shm.cli import install, uninstall
from orion_shm.cli.errors import CommandError
from orion_shm.cli.main import main


def test_links_are_made_and_removed(libcuda: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "cuda"
    for _ in range(2):  # again is no error
        assert main(["install", "--path", str(folder)]) == 0
    assert f"LD_LIBRARY_PATH={folder}" in capsys.readouterr().out
    assert {p.name: p.resolve() for p in folder.iterdir()} == dict.fromkeys(
        install.LINKS, libcuda.resolve()
    )
    loads = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuDriverGetVersion(None))"
    done = subprocess.run(
        [sys.executable, "-c", loads],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert main(["uninstall", "--path", str(folder)]) == 0
    assert not folder.exists()
    assert main(["uninstall", "--path", str(folder)]) == 0


def test_a_library_of_others_is_not_touched(libcuda: Path, tmp_path: Path, capsys) -> None:
    real = tmp_path / "libcuda.so.1"
    real.write_text("a driver's")
    assert main(["install", "--path", str(tmp_path)]) == 2
    assert "is not Orion's" in capsys.readouterr().err
    assert main(["uninstall", "--path", str(tmp_path)]) == 0
    assert real.read_text() == "a driver's"


def test_the_linker_finds_the_library_and_forgets_it(libcuda: Path, tmp_path: Path) -> None:
    program = shutil.which("ldconfig", path="/sbin:/usr/sbin:" + os.environ["PATH"])
    if program is None:
        pytest.skip("no ldconfig here")
    open_folder = tmp_path / "opt"
    open_folder.mkdir()
    library = open_folder / install.LIBRARY
    shutil.copy(libcuda, library)
    file = tmp_path / "ld.so.conf.d" / "000-orion.conf"
    main_file = tmp_path / "ld.so.conf"
    main_file.write_text(f"include {file.parent}/*.conf\n")
    ldconfig = (program, "-f", str(main_file), "-C", str(tmp_path / "cache"))
    closed = [p for p in (open_folder, *open_folder.parents) if not p.stat().st_mode & 1]
    if closed:
        with pytest.raises(CommandError, match="other users cannot reach"):
            install.enter(library, file, ldconfig)
        assert not file.exists()
        for folder in closed:
            if tmp_path not in folder.parents and os.geteuid() != 0:
                pytest.skip(f"{folder} is closed to others")
            folder.chmod(folder.stat().st_mode | 1)
    assert install.enter(library, file, ldconfig) == library
    assert uninstall.leave(file, ldconfig)
    assert install.loaded(ldconfig) != library
    assert not uninstall.leave(file, ldconfig)


def test_a_linker_file_of_others_is_not_touched(libcuda: Path, tmp_path: Path) -> None:
    file = tmp_path / "000-orion.conf"
    file.write_text("/opt/else\n")
    with pytest.raises(CommandError, match="not Orion's"):
        install.enter(libcuda, file, ("true",))
    with pytest.raises(CommandError, match="not Orion's"):
        uninstall.leave(file, ("true",))
    assert file.read_text() == "/opt/else\n"
