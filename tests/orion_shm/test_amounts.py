# SPDX-License-Identifier: Apache-2.0
"""How users write memory and how we print it."""

from __future__ import annotations

import argparse

import pytest

from orion_shm.cli.amounts import format_bytes, format_seconds, parse_mebibytes


@pytest.mark.parametrize(
    ("text", "mebibytes"),
    [
        ("1", 1),
        ("512", 512),
        ("512M", 512),
        ("2g", 2048),
        ("1.5GiB", 1536),
        ("2048K", 2),
        ("1T", 1 << 20),
    ],
)
def test_amounts_are_read(text: str, mebibytes: int) -> None:
    assert parse_mebibytes(text) == mebibytes


@pytest.mark.parametrize("text", ["", "abc", "-5", "12X", "0", "1K", "1e3", "5 5"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="MiB"):
        parse_mebibytes(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (4096, "4.00 KiB"),
        (600000, "586 KiB"),
        (64 << 20, "64.0 MiB"),
        (3 << 29, "1.50 GiB"),
    ],
)
def test_bytes_are_written(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.423, "0.42 s"), (12.0, "12 s"), (200.0, "3 min 20 s"), (18200.0, "5 h 3 min")],
)
def test_seconds_are_written(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
