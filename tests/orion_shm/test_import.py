# SPDX-License-Identifier: Apache-2.0
"""What `import orion_shm` loads, and what the command line loads before it knows the command."""

from __future__ import annotations

import subprocess
import sys

ALLOWED = {"orion_shm", "numpy"}
HEAVY = ("orion_server", "llvmlite", "rich", "numpy", "asyncio", "importlib.metadata")


def loaded_by(statement: str) -> set[str]:
    """The modules that are loaded after the statement and not before."""
    code = f"import sys; before = set(sys.modules); {statement}; print('\\n'.join(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_numpy_at_most() -> None:
    roots = {name.partition(".")[0] for name in loaded_by("import orion_shm")}
    foreign = {name for name in roots if name not in sys.stdlib_module_names}
    assert foreign <= ALLOWED


def test_help_loads_nothing_heavy() -> None:
    modules = loaded_by("from orion_shm.cli.main import build_parser; build_parser()")
    assert not [name for name in HEAVY if name in modules and name != "importlib.metadata"]


def test_version_is_text() -> None:
    import orion_shm

    assert orion_shm.__version__[0].isdigit()
