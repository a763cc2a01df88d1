# SPDX-License-Identifier: Apache-2.0
"""Makes .venv with Orion built and installed in it, doing only what has not been done.

    python3 scripts/bootstrap.py            Orion alone
    python3 scripts/bootstrap.py test lint  with the extras `test` and `lint` of pyproject.toml

Needs nothing but the standard library. What the machine lacks is named together with the package that brings it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "csrc",
    "client",
    "server",
    "orion_shm",
    "k8s",
    "tests/csrc",
    "tests/client",
    "tests/devices",
    "tests/ptx",
    "tests/server",
    "tests/fuzz",
)
BUILD_FILES = ("pyproject.toml", "meson.build", "meson_options.txt", "tests/meson.build")
COMPILED = (
    ".c",
    ".h",
    ".py",
    ".pyx",
    ".pxd",
    ".pxi",
    ".pyi",
    ".toml",
    ".json",
    ".build",
    ".map",
    ".S",
    ".html",
    ".css",
    ".js",
    ".svg",
)
# One place for what the build itself needs; pyproject.toml says the same to isolated builds.
BUILD_REQUIREMENTS = (
    "meson-python>=0.18",
    "meson>=1.3",
    "ninja>=1.11",
    "Cython>=3.0",
    "tomli>=2.0; python_version < '3.11'",
)


class Missing(Exception):
    """The machine lacks something; the text says what and how to get it."""


def missing(what: str, debian: str, rpm: str) -> Missing:
    return Missing(
        f"{what} is missing: apt-get install {debian} (Debian, Ubuntu) or dnf install {rpm} (Fedora, RHEL)"
    )


def include_folder() -> Path:
    return Path(sysconfig.get_paths()["include"])


def check_machine() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.version_info < (3, 10):  # noqa: UP036 - the machine's Python may be older
        raise missing(
            f"Python 3.10 or newer (this is {version}; choose another with make PYTHON=...)",
            "python3",
            "python3.11",
        )
    if sys.platform != "linux":
        raise Missing(f"Orion runs on Linux; this is {sys.platform}")
    for compiler, variable, debian, rpm in (
        ("cc", "CC", "gcc libc6-dev", "gcc glibc-devel"),
        ("c++", "CXX", "g++", "gcc-c++"),
    ):
        command = os.environ.get(variable, compiler).split()[0]
        if shutil.which(command) is None:
            raise missing(
                f"a {'C' if compiler == 'cc' else 'C++'} compiler ({command})", debian, rpm
            )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise missing(
            f"the venv module of Python {version}", f"python{version}-venv", "python3"
        ) from None
    header = include_folder() / "Python.h"
    if not header.exists():
        raise missing(
            f"the C headers of Python {version} ({header})",
            f"python{version}-dev",
            f"python{version}-devel",
        )


def digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def source_state() -> str:
    """Changes when any file of the build does."""
    paths = [ROOT / name for name in BUILD_FILES]
    for folder in SOURCES:
        paths += [
            p
            for p in (ROOT / folder).rglob("*")
            if p.suffix in COMPILED and "__pycache__" not in p.parts
        ]
    rows = []
    for path in sorted(p for p in paths if p.is_file()):
        status = path.stat()
        rows.append(f"{path.relative_to(ROOT)} {status.st_size} {status.st_mtime_ns}")
    return digest(rows)


class Steps:
    """Runs steps whose inputs changed; a stamp file in the venv remembers the inputs of the last success."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.stamps = venv / ".orion"
        self.begun = time.monotonic()

    def run(self, name: str, state: str, text: str, *commands: Sequence[str]) -> None:
        stamp = self.stamps / name
        if stamp.exists() and stamp.read_text() == state:
            return
        say(f"{text} ...")
        for command in commands:
            finished = subprocess.run(
                [str(part) for part in command], cwd=ROOT, env=self.environment()
            )
            if finished.returncode != 0:
                raise Missing(
                    f"this failed (exit status {finished.returncode}): {' '.join(map(str, command))}"
                )
        self.stamps.mkdir(parents=True, exist_ok=True)
        stamp.write_text(state)
        say(f"{text}: done after {time.monotonic() - self.begun:.0f} s")

    def environment(self) -> dict[str, str]:
        """Tools of the venv first; nothing of the caller's Python."""
        kept = {
            k: v
            for k, v in os.environ.items()
            if k not in ("PYTHONPATH", "PYTHONHOME", "MAKEFLAGS", "MAKELEVEL")
        }
        return {
            **kept,
            "PATH": f"{self.venv / 'bin'}:{os.environ.get('PATH', '')}",
            "VIRTUAL_ENV": str(self.venv),
        }


def say(text: str) -> None:
    print(f"bootstrap: {text}", flush=True)


def pip(venv: Path, *arguments: str) -> list[str]:
    return [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        *arguments,
    ]


def extra_requirements(venv: Path, extras: Sequence[str]) -> list[str]:
    """The requirements behind the extras, Orion's own extras unfolded. Runs in the venv, which can read TOML."""
    program = (
        "import sys\n"
        "try: import tomllib\n"
        "except ImportError: import tomli as tomllib\n"
        "p = tomllib.load(open('pyproject.toml', 'rb'))['project']\n"
        "todo, seen, out = sys.argv[1:], set(), list(p['dependencies'])\n"
        "while todo:\n"
        "    e = todo.pop()\n"
        "    if e in seen: continue\n"
        "    seen.add(e)\n"
        "    for r in p['optional-dependencies'][e]:\n"
        "        own = r.startswith(p['name'] + '[')\n"
        "        (todo if own else out).extend(r.split('[')[1].rstrip(']').split(',') if own else [r])\n"
        "print('\\n'.join(dict.fromkeys(out)))\n"
    )
    command = [str(venv / "bin" / "python"), "-c", program, *extras]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if finished.returncode != 0:
        raise Missing(f"pyproject.toml has no such extra: {' '.join(extras)}\n{finished.stderr}")
    return (
        finished.stdout.split("\n")[:-1]
        if finished.stdout.endswith("\n")
        else finished.stdout.split("\n")
    )


def make(venv: Path, extras: Sequence[str], *, build: bool) -> None:
    steps = Steps(venv)
    python = venv / "bin" / "python"
    if not python.exists():
        shutil.rmtree(venv, ignore_errors=True)
    steps.run("venv", sys.version, f"making {venv.name}", [sys.executable, "-m", "venv", str(venv)])
    build_state = digest([sys.version, *BUILD_REQUIREMENTS])
    steps.run(
        "requirements",
        build_state,
        "installing the build tools",
        pip(venv, "-q", "-U", "pip>=23.1"),
        pip(venv, *BUILD_REQUIREMENTS),
    )
    for extra in extras or [""]:
        wanted = extra_requirements(venv, [extra] if extra else [])
        steps.run(
            f"extra-{extra or 'base'}",
            digest(wanted),
            f"installing {extra or 'NumPy'}",
            pip(venv, *wanted),
        )
    if build:
        own = [
            "--no-build-isolation",
            "--no-deps",
            "--force-reinstall",
            "-Cbuild-dir=build/venv",
            ".",
        ]
        steps.run(
            "orion",
            digest([build_state, source_state()]),
            "building and installing Orion",
            pip(venv, *own),
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("extras", nargs="*", help="extras of pyproject.toml")
    parser.add_argument(
        "--venv", type=Path, default=Path(os.environ.get("ORION_VENV", ROOT / ".venv"))
    )
    parser.add_argument("--no-build", action="store_true", help="install the requirements alone")
    options = parser.parse_args()
    try:
        check_machine()
        make(options.venv.resolve(), options.extras, build=not options.no_build)
    except Missing as problem:
        print(f"bootstrap: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
