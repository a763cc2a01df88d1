# SPDX-License-Identifier: Apache-2.0
"""The client's settings as libcuda.so.1 reads them: environment, ~/.orion/client.conf, /etc/orion/client.conf."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SYSTEM_FILE = Path("/etc/orion/client.conf")
FILE_MOST = 16384


def setting(
    name: str, environment: Mapping[str, str], system_file: Path = SYSTEM_FILE
) -> str | None:
    """The text of ORION_SOMETHING; None when nobody has set it. The twin of client/settings.c."""
    if name in environment:
        return environment[name]
    files = [system_file]
    if environment.get("HOME"):
        files.insert(0, Path(environment["HOME"], ".orion", "client.conf"))
    for file in files:
        found = values_of(file).get(name.upper())
        if found is not None:
            return found
    return None


def values_of(file: Path) -> dict[str, str]:
    """What the file says, by the full name of each variable; the first line of a name counts."""
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            text = opened.read(FILE_MOST)
    except OSError:
        return {}
    found: dict[str, str] = {}
    if len(text) == FILE_MOST:  # libcuda.so.1 says so
        return found
    for line in text.splitlines():
        key, equals, value = line.split("#")[0].split(";")[0].partition("=")
        key = key.strip().upper()
        if not equals or not key:
            continue
        if key == "CONTROLLER_ADDR":
            key = "CONTROLLER"
        full = key if key.startswith("ORION_") else f"ORION_{key}"
        found.setdefault(full, value.strip().strip('"'))
    return found
