# SPDX-License-Identifier: Apache-2.0
"""Writes /etc/orion/server.conf from the environment, as the classic image does, and becomes orion-server.

A variable that is not set leaves its key out, so the server's own default holds. A file that is mounted there, and so
cannot be written, is taken as it is.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path

FILE = Path("/etc/orion/server.conf")
# variable -> section, key
KEYS = {
    "PORT": ("server", "listen_port"),
    "BIND_ADDR": ("server", "bind_addr"),
    "BIND_NET": ("server", "bind_net"),
    "VGPU": ("server", "vgpu_count"),
    "ENABLE_SHM": ("server", "enable_shm"),
    "ENABLE_RDMA": ("server", "enable_rdma"),
    "LOG_LEVEL": ("server-log", "log_level"),
    "ORION_CONTROLLER": ("controller", "controller_addr"),
}


def configuration(environment: Mapping[str, str]) -> configparser.ConfigParser:
    """The file's content."""
    file = configparser.ConfigParser(interpolation=None)
    for variable, (section, key) in KEYS.items():
        value = environment.get(variable)
        if value:
            if not file.has_section(section):
                file.add_section(section)
            file.set(section, key, value)
    return file


def main() -> int:
    try:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        with open(FILE, "w", encoding="utf-8") as out:
            configuration(os.environ).write(out)
    except OSError as e:
        if not FILE.exists():
            print(
                f"orion-server: cannot write {FILE}: {e.strerror}; mount an emptyDir at {FILE.parent}",
                file=sys.stderr,
            )
            return 2
        print(f"orion-server: {FILE} is taken as it is ({e.strerror})", file=sys.stderr)
    try:
        os.execvp("orion-server", ["orion-server", *sys.argv[1:]])
    except OSError as e:
        print(f"orion-server cannot be started: {e.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
