# SPDX-License-Identifier: Apache-2.0
"""The one exception that PTX input can cause."""

from __future__ import annotations


class PtxError(ValueError):
    """PTX that is malformed, or that uses a form which the CPU device does not run. Names the line."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.line = line
        super().__init__(message if line is None else f"{message} at line {line}")
