# SPDX-License-Identifier: Apache-2.0
"""The images that the manifests name, made of this machine's files: no registry is asked.

Each has what its stage of k8s/images/Dockerfile copies, sets and starts. What the Dockerfile takes from Debian and pip
comes from here: the interpreter of .venv, Orion's wheel with the stage's extras, and the libraries that these load.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import dockerfile
import nvcc

from .layers import Layer
from .shell import ROOT, CannotRun, run, say

TAG = "0.1.0"
PAUSE = "orion-pause:1"  # holds a pod's namespaces
NAMES = ("controller", "server", "plugin", "client-shim", "vectoradd")
PYTHON_IMAGES = ("controller", "server", "plugin")
EXTRAS = "controller,server,k8s"
UNUSED = {"test", "tests", "__pycache__", "idlelib", "site-packages", "dist-packages", "ensurepip"}
LAUNCHER = """\
#!/usr/local/bin/python3
import sys
from {module} import {function}
sys.exit({function}())
"""


def build_wheel(folder: Path) -> Path:
    """Orion as pip would install it into an image."""
    say("building Orion's wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # meson, ninja
    run(
        [*pip, "-Cbuild-dir=build/venv", "-w", str(folder), "."],
        "building the wheel",
        folder=ROOT,
        environment={"PATH": tools},
    )
    (wheel,) = folder.glob("orion_vgpu-*.whl")
    return wheel


def python_layer(layer: Layer, wheel: Path) -> None:
    """The interpreter, Orion with the extras of all its images, and `orion...` in /usr/local/bin."""
    layer.make()
    program = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    layer.add(program)
    (layer.folder / "usr/local/bin/python3").symlink_to(program)
    shutil.copytree(
        library,
        layer.inside(library),
        symlinks=True,
        ignore=lambda _, names: [n for n in names if n in UNUSED or n.endswith(".a")],
    )
    ask = [str(program), "-Ic", "import site; print(site.getsitepackages()[0])"]
    packages = layer.inside(run(ask, "asking Python for its folder").strip())
    say("installing Orion into the images")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--target",
        str(packages),
    ]
    run([*pip, f"{wheel}[{EXTRAS}]"], "installing Orion")
    compiled = ["--invalidation-mode", "unchecked-hash", "-s", str(layer.folder), "-p", "/"]
    run(
        [
            str(program),
            "-m",
            "compileall",
            "-q",
            *compiled,
            str(packages),
            str(layer.inside(library)),
        ],
        "compiling the images' Python",
    )
    shutil.rmtree(packages / "bin", ignore_errors=True)  # they name this machine's Python
    (entries,) = packages.glob("orion_vgpu-*.dist-info/entry_points.txt")
    for name, module, function in re.findall(
        r"(?m)^([\w-]+)\s*=\s*([\w.]+):(\w+)$", entries.read_text()
    ):
        launcher = layer.folder / "usr/local/bin" / name
        launcher.write_text(LAUNCHER.format(module=module, function=function))
        launcher.chmod(0o755)


def program_layer(layer: Layer, programs: Sequence[str], made: Iterable[tuple[Path, str]]) -> None:
    """A small image: programs of this machine, and files of ours at their places."""
    layer.make()
    for name in programs:
        found = shutil.which(name)
        if found is None:
            raise CannotRun(f"{name} is missing, which an image needs")
        shutil.copy2(os.path.realpath(found), layer.folder / "usr/bin" / name)
    for source, path in made:
        layer.add(source, path)
    layer.add_libraries()


def compile_programs(folder: Path) -> dict[str, Path]:
    """CUDA programs: the classic example, and one that waits until it is told to go on."""
    say("compiling CUDA programs")
    try:
        compiler = nvcc.find_nvcc()
        sources = {"vectorAdd": "examples/vectorAdd.cu", "faults": "tests/e2e/programs/faults.cu"}
        return {
            name: compiler.compile(ROOT / file, folder / name) for name, file in sources.items()
        }
    except nvcc.NvccError as error:
        raise CannotRun(str(error)) from None


# --- images


def configuration(stage: dockerfile.Stage, digests: Sequence[str]) -> dict[str, object]:
    """What an image's config.json says."""
    path = "/usr/local/bin:/usr/bin:/bin"
    variables = {"PATH": path, **stage.environment}
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": [f"{name}={value}" for name, value in variables.items()],
            "Entrypoint": stage.entrypoint,
            "Cmd": stage.command or None,
            "User": stage.user,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }


def write_archive(file: Path, images: dict[str, tuple[dict[str, object], list[Path]]]) -> None:
    """An archive as `docker save` writes it. images: name:tag -> its config and its layers' tars."""
    manifest = []
    with tarfile.open(file, "w") as tar:
        packed = set()
        for number, (name, (config, layers)) in enumerate(images.items()):
            text = json.dumps(config).encode()
            path = file.with_name(f"config-{number}.json")
            path.write_bytes(text)
            tar.add(path, arcname=path.name)
            for layer in layers:
                if layer not in packed:
                    tar.add(layer, arcname=f"{layer.stem}/layer.tar")
                    packed.add(layer)
            manifest.append(
                {
                    "Config": path.name,
                    "RepoTags": [f"docker.io/library/{name}"],
                    "Layers": [f"{layer.stem}/layer.tar" for layer in layers],
                }
            )
        path = file.with_name("manifest.json")
        path.write_text(json.dumps(manifest))
        tar.add(path, arcname="manifest.json")


def make_images(folder: Path) -> Path:
    """All images in one archive."""
    wheel = build_wheel(folder)
    programs = compile_programs(folder / "programs")
    stages = dockerfile.stages()
    python, shim, program, pause = (
        Layer(folder / name) for name in ("python", "shim", "program", "pause")
    )
    python_layer(python, wheel)
    for name in PYTHON_IMAGES:
        for source, path in stages[name].copies:
            python.add(ROOT / source, path)
    say("looking for the libraries of the images")
    python.add_libraries()
    library = next(python.folder.rglob("orion_shm/lib/cuda/libcuda.so.1"))
    # what their build stages make, by the names that the Dockerfile gives it
    made = {"libcuda.so.1": library, "vectorAdd": programs["vectorAdd"]}

    def files(name: str) -> list[tuple[Path, str]]:
        stage = stages[name]
        taken = [(made[Path(source).name], path) for _, source, path in stage.taken]
        return [(ROOT / source, path) for source, path in stage.copies] + taken

    program_layer(shim, ("sh", "cp", "chmod", "mv"), files("client-shim"))
    waiting = (programs["faults"], "/usr/local/bin/faults")
    program_layer(program, (), [*files("vectoradd"), waiting])
    program_layer(pause, ("sleep",), ())
    layers = dict.fromkeys(PYTHON_IMAGES, python) | {"client-shim": shim, "vectoradd": program}
    say("packing the images")
    tars = {
        layer: folder / f"layer-{layer.folder.name}.tar" for layer in (python, shim, program, pause)
    }
    digests = {layer: layer.pack(tar) for layer, tar in tars.items()}
    images: dict[str, tuple[dict[str, object], list[Path]]] = {}
    for name in NAMES:
        layer = layers[name]
        images[f"orion-{name}:{TAG}"] = (
            configuration(stages[name], [digests[layer]]),
            [tars[layer]],
        )
    sleep = dockerfile.Stage(
        "pause", "", entrypoint=["/usr/bin/sleep", "infinity"], user="65535:65535"
    )
    images[PAUSE] = (configuration(sleep, [digests[pause]]), [tars[pause]])
    archive = folder / "images.tar"
    write_archive(archive, images)
    for layer, tar in tars.items():
        tar.unlink()
        shutil.rmtree(layer.folder)
    return archive
