# SPDX-License-Identifier: Apache-2.0
"""What is handed to operators beside the programs: it names settings and commands that exist."""

from __future__ import annotations

import argparse
import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from orion_server import server_settings, settings

from orion_shm.cli.client_conf import values_of

UNITS = ("orion-server", "orion-controller")


@pytest.mark.parametrize("unit", UNITS)
def test_units_start_commands_that_are_installed(root: Path, unit: str) -> None:
    reader = configparser.ConfigParser(strict=False, interpolation=None)
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    reader.read(root / f"packaging/systemd/{unit}.service")
    command = reader["Service"]["ExecStart"].split()
    project = (root / "pyproject.toml").read_text()
    assert f"{command[0]} = " in project
    assert reader["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(root: Path, tmp_path: Path, unit: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    text = (root / f"packaging/systemd/{unit}.service").read_text()
    # where the unit's user will have installed it; here it is beside this Python
    text = text.replace(f"ExecStart={unit}", f"ExecStart={Path(sys.executable).parent / unit}")
    copy = tmp_path / f"{unit}.service"
    copy.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd-analyze cannot run here: {done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_restarted_server_is_where_its_containers_have_it_mounted(root: Path) -> None:
    """Without it systemd removes the folder with the server, and containers keep one that is nobody's."""
    text = (root / "packaging/systemd/orion-server.service").read_text()
    assert (
        "\nRuntimeDirectory=orion\nRuntimeDirectoryMode=0755\nRuntimeDirectoryPreserve=yes\n"
        in text
    )


def test_the_sample_files_are_the_defaults(root: Path, tmp_path: Path) -> None:
    from orion_controller import config as controller

    none = argparse.Namespace()
    for name, known, ignored in (
        ("server.conf", server_settings.SETTINGS, server_settings.IGNORED),
        ("controller.conf", controller.SETTINGS, {}),
    ):
        sample = root / "packaging" / "etc" / name
        values = settings.resolve(known, none, {}, sample, required=True, ignored=ignored)
        assert all(value.origin == "default" for value in values.values()), "all is commented out"
        shown = tmp_path / name
        shown.write_text(
            re.sub(r"^# ?(\w[\w-]* *=)", r"\1", sample.read_text(), flags=re.MULTILINE)
        )
        shown.chmod(0o600)
        named = settings.resolve(known, none, {}, shown, required=True, ignored=ignored)
        for setting in known:
            if setting.key:
                assert named[setting.name].origin != "default" or not named[setting.name].text, (
                    f"{name} does not show {setting.key}"
                )
                if setting.default is not None and setting.name != "state_dir":
                    assert named[setting.name].value == values[setting.name].value, setting.key
    text = (root / "packaging/etc/client.conf").read_text()
    (tmp_path / "client.conf").write_text(text.replace("# ORION", "ORION"))
    assert not values_of(root / "packaging/etc/client.conf")
    assert {"ORION_CONTROLLER", "ORION_GMEM", "ORION_RATIO", "ORION_WAIT"} <= set(
        values_of(tmp_path / "client.conf")
    )
