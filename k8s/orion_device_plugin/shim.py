# SPDX-License-Identifier: Apache-2.0
"""The client library on the host, from where it is mounted into containers.

It has to lie on a file system that allows execution (/run often does not), at the same path for host and plugin. A
newer one takes the place of the old one by rename: containers that run keep theirs.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

from orion_server.errors import OrionServerError

NAME = "libcuda.so.1"
# Where the dynamic loader of an image looks by itself, before and after its cache: Debian and Ubuntu; Fedora and RHEL;
# the folder that NVIDIA's images have in LD_LIBRARY_PATH. No variable has to be set, so none of the image's is lost.
TARGETS = (
    "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
    "/usr/lib64/libcuda.so.1",
    "/usr/local/nvidia/lib64/libcuda.so.1",
)


def install(source: Path, directory: Path) -> Path:
    """The library's path on the host; copied only when it differs. OrionServerError says what is missing."""
    target = directory / NAME
    temporary = directory / f".{NAME}.{os.getpid()}"
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if target.exists() and filecmp.cmp(source, target, shallow=False):
            return target
        shutil.copyfile(source, temporary)
        temporary.chmod(0o755)
        temporary.replace(target)
    except OSError as e:
        raise OrionServerError(
            f"the client library cannot be put on the host: {e.filename}: {e.strerror}; mount {directory}, "
            "or give --library-dir '' and images that bring it along"
        ) from e
    return target
