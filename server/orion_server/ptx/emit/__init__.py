# SPDX-License-Identifier: Apache-2.0
"""Emitters: one handler per opcode, grouped by chapter. Importing this fills the opcode table."""

from __future__ import annotations

from . import atomics, bits, control, convert, floats, integer, memory, move, scalar, warp  # noqa: F401
