# SPDX-License-Identifier: Apache-2.0
"""The client's settings as the commands read them: the same as libcuda.so.1 does."""

from __future__ import annotations

from pathlib import Path

from orion_shm.cli.client_conf import setting


def test_environment_beats_the_users_file_beats_the_systems(tmp_path: Path) -> None:
    system = tmp_path / "system.conf"
    system.write_text("gmem = 200\nratio=30\n[controller]\nwait = 5 ; seconds\n")
    own = tmp_path / ".orion" / "client.conf"
    own.parent.mkdir()
    own.write_text('# mine\nORION_GMEM = 100\ncontroller_addr = "here:1"\ngmem = 7\n')
    environment = {"HOME": str(tmp_path)}

    def ask(name: str, **more: str) -> str | None:
        return setting(name, {**environment, **more}, system)

    assert ask("ORION_GMEM") == "100"
    assert ask("ORION_GMEM", ORION_GMEM="300") == "300"
    assert ask("ORION_RATIO") == "30"
    assert ask("ORION_WAIT") == "5"
    assert ask("ORION_CONTROLLER") == "here:1"
    assert ask("ORION_VGPU") is None


def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert setting("ORION_GMEM", {"HOME": str(tmp_path)}, tmp_path) is None
