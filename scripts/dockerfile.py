# SPDX-License-Identifier: Apache-2.0
"""Reads the stages of our Dockerfile: what each copies, sets and starts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "k8s" / "images" / "Dockerfile"


@dataclass
class Stage:
    name: str
    base: str
    copies: list[tuple[str, str]] = field(default_factory=list)  # from the context: source, target
    taken: list[tuple[str, str, str]] = field(default_factory=list)  # stage, source, target
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    user: str = ""
    healthcheck: str = ""
    run: list[str] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", FILE.read_text()))
    found: dict[str, Stage] = {}
    stage = Stage("", "")
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = found[name] = Stage(name, base)
            if base in found:
                stage.environment |= found[base].environment
        elif word == "COPY":
            flags = [w for w in rest.split() if w.startswith("--from=")]
            *sources, target = [w for w in rest.split() if not w.startswith("--")]
            for source in sources:
                if flags:
                    stage.taken.append((flags[0].partition("=")[2], source, target))
                else:
                    stage.copies.append((source, target))
        elif word == "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in rest.split())
        elif word == "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        elif word == "CMD":
            stage.command = json.loads(rest)
        elif word == "USER":
            stage.user = rest
        elif word == "HEALTHCHECK":
            stage.healthcheck = rest
        elif word == "RUN":
            stage.run.append(rest)
    return found
