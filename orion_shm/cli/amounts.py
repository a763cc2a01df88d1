# SPDX-License-Identifier: Apache-2.0
"""Amounts of memory and time: how users write them, and how we print them."""

from __future__ import annotations

import argparse
import re

MIB = 1 << 20
_FACTORS_MIB = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}


def parse_mebibytes(text: str) -> int:
    """Reads "512", "512M", "2G" or "1.5GiB" as whole MiB (a number alone is MiB)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no amount of memory; write MiB as a number, or 512M, 2G"
        )
    amount = int(float(match[1]) * _FACTORS_MIB[match[2].upper()])
    if amount < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than one MiB")
    return amount


def format_bytes(count: int) -> str:
    """Writes a number of bytes with at most four digits: "999 B", "48.8 KiB", "1.50 GiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1000 or unit == "GiB":
            break
        amount /= 1024
    if unit == "B":
        return f"{count} B"
    return f"{amount:.{2 if amount < 10 else 1 if amount < 100 else 0}f} {unit}"


def format_part(part: float | None) -> str:
    """Writes a part of a whole: "37 %"; "-" when nobody has said."""
    return "-" if part is None else f"{100 * part:.0f} %"


def parse_percent(text: str) -> int:
    """Reads "30" or "30%" as a whole number from 1 to 100."""
    digits = text.strip().removesuffix("%").strip()
    if not digits.isdecimal() or not 1 <= int(digits) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 1 to 100")
    return int(digits)


def format_seconds(seconds: float) -> str:
    """Writes a duration: "0.42 s", "3 min 20 s", "5 h 3 min"."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
