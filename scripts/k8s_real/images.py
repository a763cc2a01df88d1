# SPDX-License-Identifier: Apache-2.0
"""The images that the manifests name, made of this machine's files: no registry is asked.

Each has what its stage of k8s/images/Dockerfile copies, sets and starts. What the Dockerfile takes from Debian and pip
comes from here: the interpreter of .venv, Orion's wheel with the stage's extras, and the libraries that these load.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts import dockerfile, nvcc

from .shell import ROOT, CannotRun, run, say

TAG = "0.1.0"
PAUSE = "orion-pause:1"  # holds a pod's namespaces
NAMES = ("controller", "server", "plugin", "client-shim", "vectoradd")
PYTHON_IMAGES = ("controller", "server", "plugin")
EXTRAS = "controller,server,k8s"
PASSWD = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
FOLDERS = (
    "dev",
    "etc",
    "proc",
    "sys",
    "run",
    "usr/bin",
    "usr/sbin",
    "usr/local/bin",
    "usr/lib",
    "usr/lib64",
)
UNUSED = {"test", "tests", "__pycache__", "idlelib", "site-packages", "dist-packages", "ensurepip"}
LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)
LAUNCHER = """\
#!/usr/local/bin/python3
import sys
from {module} import {function}
sys.exit({function}())
"""


def libraries_in(text: str) -> list[Path]:
    """The files that ldd's output names."""
    return [Path(found) for found in LIBRARY.findall(text)]


@dataclass(frozen=True)
class Layer:
    """A tree, as an image has it."""

    folder: Path

    def make(self) -> None:
        """The empty tree."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.folder / name).symlink_to(f"usr/{name}")
        (self.folder / "tmp").mkdir()
        (self.folder / "tmp").chmod(0o1777)
        (self.folder / "etc/passwd").write_text(PASSWD)

    def inside(self, path: str | Path) -> Path:
        """Where a file of the machine lies in the tree; its folders are made."""
        path = Path(path)
        target = self.folder / str(path.parent.resolve()).lstrip("/") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def add(self, source: Path, path: str | None = None) -> None:
        """A file, at `path` or where the machine has it."""
        target = self.folder / path.lstrip("/") if path else self.inside(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        if path and path.startswith("/usr/local/bin/"):
            target.chmod(0o755)

    def add_libraries(self) -> None:
        """What the programs and libraries of the tree load and it does not have."""
        for library in sorted(set(self._needed())):
            if not self.inside(library).exists():
                shutil.copy2(library, self.inside(library))

    def _needed(self) -> Iterator[Path]:
        loaded = [p for p in self.folder.rglob("*") if p.is_file() and is_elf(p)]
        for start in range(0, len(loaded), 100):
            done = subprocess.run(
                ["ldd", *loaded[start : start + 100]], capture_output=True, text=True
            )
            for library in libraries_in(done.stdout):
                if not library.is_relative_to(self.folder):
                    yield library

    def pack(self, file: Path) -> str:
        """The tree as a tar; its digest."""
        with tarfile.open(file, "w") as tar:
            tar.add(self.folder, arcname=".", filter=_as_root)
        with open(file, "rb") as read:
            hashed = hashlib.sha256()
            while block := read.read(1 << 20):
                hashed.update(block)
        return hashed.hexdigest()


def is_elf(path: Path) -> bool:
    """Something that the dynamic loader may load."""
    if path.is_symlink():
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = 0
    return info


# --- layers


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
        [str(program), "-m", "compileall", "-q", *compiled, str(packages), str(layer.inside(library))],
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
