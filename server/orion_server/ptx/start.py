# SPDX-License-Identifier: Apache-2.0
"""What has to happen before the process forks or is locked down."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

from .compile import translator_version
from .llvm import learn_helpers


def prepare(helpers: ctypes.CDLL | Mapping[str, int]) -> None:
    """Initialises LLVM, learns where the CPU device's C functions are, and reads what is read only once."""
    learn_helpers(helpers)
    translator_version()
