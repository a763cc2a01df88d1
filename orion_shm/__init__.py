# SPDX-License-Identifier: Apache-2.0
"""Orion for Python: channels between processes, where the installed pieces are, and the `orion` command line.

    with orion_shm.listen("camera") as listener:            # in one process
        listener.accept().serve(lambda request: b"answer")
    with orion_shm.connect("camera") as channel:            # in another
        channel.call(b"question")

Importing this package loads nothing but the standard library; channels are loaded when they are first named, NumPy with
the first array. docs/orion_shm.md is the guide. The commands live in `orion_shm.cli`; the CUDA driver library for
applications is found by `library_directory()`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orion_shm._channel import Channel as Channel
    from orion_shm._channel import Listener as Listener
    from orion_shm._channel import ProtocolError as ProtocolError
    from orion_shm._channel import RemoteError as RemoteError
    from orion_shm._channel import connect as connect
    from orion_shm._channel import listen as listen
    from orion_shm._messages import MalformedError as MalformedError

__all__ = [
    "Channel",
    "Listener",
    "MalformedError",
    "ProtocolError",
    "RemoteError",
    "__version__",
    "connect",
    "library_directory",
    "listen",
]

_CHANNEL_NAMES = {"Channel", "Listener", "ProtocolError", "RemoteError", "connect", "listen"}


def library_directory() -> Path:
    """The folder that holds our `libcuda.so.1` and nothing else; it goes into LD_LIBRARY_PATH.

    ORION_LIBRARY_DIR names another one, for example that of a build folder.
    """
    named = os.environ.get("ORION_LIBRARY_DIR")
    return Path(named) if named else Path(__file__).resolve().parent / "lib" / "cuda"


def __getattr__(name: str) -> Any:
    """Reads the version, and loads channels, when they are first asked for: both are slow to import."""
    if name in _CHANNEL_NAMES:
        from orion_shm import _channel

        return globals().setdefault(name, getattr(_channel, name))
    if name == "MalformedError":
        from orion_shm import _messages

        return globals().setdefault(name, _messages.MalformedError)
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("orion-vgpu")
        except metadata.PackageNotFoundError:
            return "0+not.installed"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
