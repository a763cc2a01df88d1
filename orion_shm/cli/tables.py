# SPDX-License-Identifier: Apache-2.0
"""Tables for people: drawn by rich where it is installed and a terminal looks on, else plain."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

LEFT, RIGHT = "left", "right"
STYLES = {"ok": "green", "PASSED": "green", "warn": "yellow", "missing": "red", "FAILED": "red"}


class Table:
    """Columns with a side to align to, and rows of text."""

    def __init__(self, *columns: str | tuple[str, str], title: str = "") -> None:
        pairs = [(column, LEFT) if isinstance(column, str) else column for column in columns]
        self.names = [name for name, _ in pairs]
        self.sides = [side for _, side in pairs]
        self.title = title
        self.rows: list[list[str]] = []

    def add(self, *cells: object) -> None:
        """Appends one row; it must have as many cells as there are columns."""
        if len(cells) != len(self.names):
            raise ValueError(f"{len(cells)} cells for {len(self.names)} columns")
        self.rows.append([str(cell) for cell in cells])

    def plain(self) -> str:
        """The table as text with columns two spaces apart."""
        widths = [
            max(len(row[i]) for row in [self.names, *self.rows]) for i in range(len(self.names))
        ]
        lines = [self.title] if self.title else []
        lines.append(self._line(self.names, widths))
        lines.append("  ".join("-" * width for width in widths))
        lines += [self._line(row, widths) for row in self.rows]
        return "\n".join(lines)

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = [
            cell.rjust(width) if side == RIGHT else cell.ljust(width)
            for cell, width, side in zip(row, widths, self.sides, strict=True)
        ]
        return "  ".join(cells).rstrip()

    def rich(self) -> object | None:
        """The same as a rich table, or None without rich."""
        try:
            from rich import box
            from rich.table import Table as RichTable
            from rich.text import Text
        except ImportError:
            return None
        drawn = RichTable(
            title=self.title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for name, side in zip(self.names, self.sides, strict=True):
            drawn.add_column(name, justify="right" if side == RIGHT else "left")
        for row in self.rows:
            drawn.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        return drawn

    def print(self, stream: TextIO | None = None) -> None:
        """Writes the table to `stream` (standard output)."""
        out = stream or sys.stdout
        drawn = self.rich() if out.isatty() else None
        if drawn is None:
            print(self.plain(), file=out)
            return
        from rich.console import Console

        Console(file=out).print(drawn)
