# SPDX-License-Identifier: Apache-2.0
"""The dated table of docs/gpu: a GPU natively and under Orion."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .checks import Check
from .kit import Kit
from .machine import Gpu
from .ways import NATIVE, SHM, TCP

COPIES = ("pageable_in", "pageable_out", "pinned_in", "pinned_out")


def ratio(orion: float, native: float) -> str:
    """Orion's part of the native figure."""
    return f"{orion / native:.2f}" if native else "-"


def times(found: dict[str, Any], ways: Sequence[str]) -> list[str]:
    """Calls and launches: microseconds, and launches a second."""
    native = found[NATIVE]
    names = [f"{way}, us | {way} / native" for way in ways]
    lines = [f"| call | native, us | {' | '.join(names)} |", "|---|---|" + "---|---|" * len(ways)]

    def row(name: str, digits: int, *path: str) -> None:
        values = []
        for way in (NATIVE, *ways):
            value: Any = found[way]
            for part in path:
                value = value[part]
            values.append(float(value))
        cells = [f"{v:.{digits}f} | {ratio(v, values[0])}" for v in values[1:]]
        lines.append(f"| {name} | {values[0]:.{digits}f} | {' | '.join(cells)} |")

    for name, value in native.items():
        if isinstance(value, dict) and "p50_us" in value:
            row(f"{name}, p50", 2, name, "p50_us")
    row("launch_issue", 2, "launch_issue_us")
    row("load", 2, "load_us")
    row("launches sustained, per s", 0, "launch_sustained_per_s")
    return [*lines, ""]


def copies(found: dict[str, Any], ways: Sequence[str]) -> list[str]:
    """Copies in GB/s, native and each way side by side."""
    heads = [f"{kind.replace('_', ' ')} {way}" for kind in COPIES for way in (NATIVE, *ways)]
    lines = [f"| copy, GB/s | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 1)]
    for rows in zip(*(found[way]["copies"] for way in (NATIVE, *ways)), strict=False):
        cells = [f"{row[f'{kind}_gb_s']:.2f}" for kind in COPIES for row in rows]
        lines.append(f"| {rows[0]['bytes'] >> 10} KiB | {' | '.join(cells)} |")
    return [*lines, ""]


def markdown(report: dict[str, Any]) -> str:
    """The report for people."""
    gpu = Gpu(**report["gpu"])
    lines = [
        f"# {gpu.name}, {report['date']}",
        "",
        f"Driver CUDA {gpu.cuda_text}, compute capability {gpu.sm // 10}.{gpu.sm % 10}, {report['cpu']}. Written by "
        "`make gpu-check`; each program ran natively first.",
        "",
    ]
    notes = [*report["notes"], *(f"not checked: {what}" for what in report["missing"])]
    lines += [f"* {note}" for note in notes] + ([""] if notes else [])
    found = report["figures"]
    ways = [way for way in (SHM, TCP) if way in found]
    if NATIVE in found and ways:
        lines += times(found, ways) + copies(found, ways)
    lines += [f"| program | natively | {SHM} | {TCP} |", "|---|---|---|---|"]
    for check in report["checks"]:
        cells = [check["outcome"].get(way, "-") for way in (NATIVE, SHM, TCP)]
        lines.append(f"| {check['name']} | {' | '.join(cells)} |")
    lines.append("")
    for check in report["checks"]:
        lines += [f"* {check['name']}, {words.replace('`', chr(39))}" for words in check["words"]]
    return "\n".join(lines).rstrip() + "\n"


def of_gpu(found: dict[str, Any], gpu: Gpu, kit: Kit) -> dict[str, Any]:
    """The figures that this GPU gave; those of any other device (the cascade's) never enter the table."""
    kept = {way: rows for way, rows in found.items() if rows["device"] == gpu.name}
    for way in sorted(found.keys() - kept.keys()):
        kit.missing.append(
            f"the figures, {way}: they are of {found[way]['device']}, not of the GPU"
        )
    return kept


def write(folder: Path, gpu: Gpu, kit: Kit, checks: list[Check], found: dict[str, Any]) -> Path:
    """DATE-GPU.json and .md in the folder."""
    date = datetime.date.today().isoformat()
    figures = of_gpu(found, gpu, kit)
    report = {
        "date": date,
        "gpu": asdict(gpu),
        "cpu": f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}",
        "notes": kit.notes,
        "missing": kit.missing,
        "checks": [asdict(check) for check in checks],
        "figures": figures,
    }
    folder.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
    path = folder / f"{date}-{slug}.md"
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    path.write_text(markdown(report), encoding="utf-8")
    return path
