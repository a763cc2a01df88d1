# SPDX-License-Identifier: Apache-2.0
"""Programs that have to do the same natively and under Orion, and the figures of both."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .kit import KERNELS, PACKAGES, PROGRAMS, SCRIPTS, Kit, python_for
from .machine import Done, run, say
from .ways import NATIVE, SHM, TCP, Setting, Way

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
# Memory that both sides have at one address cannot be had over tcp: these have to be refused there.
REFUSED_OVER_TCP = ("tour mapped_memory", "tour managed_memory")
PROGRAM_SECONDS, SCRIPT_SECONDS, BENCH_SECONDS = 60.0, 200.0, 60.0


@dataclass
class Check:
    """One program, by each way that it ran."""

    name: str
    outcome: dict[str, str] = field(default_factory=dict)  # way -> passed, failed, not run
    words: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """Wrong under Orion and right without it."""
        under = [said for way, said in self.outcome.items() if way != NATIVE]
        return FAILED in under and self.shown

    @property
    def complete(self) -> bool:
        """There was time for all of it."""
        return NOT_RUN not in self.outcome.values()

    @property
    def shown(self) -> bool:
        """It says something of Orion: it is right natively."""
        return self.outcome.get(NATIVE) != FAILED


def compare(check: Check, command: Sequence[str | os.PathLike[str]], ways: Sequence[Way]) -> Check:
    """A program by these ways."""
    for way in ways:
        done = run([*way.prefix, *command], way.environment, PROGRAM_SECONDS)
        if way.name == TCP and check.name in REFUSED_OVER_TCP:
            done = Done("cudaErrorNotSupported" in done.words, done.out, done.error, done.began)
        note(check, way, done)
    return check


def note(check: Check, way: Way, done: Done) -> None:
    """Remembers how a program ended, and what it said if not well."""
    check.outcome[way.name] = NOT_RUN if not done.began else PASSED if done.good else FAILED
    if done.began and not done.good:
        check.words.append(f"{way.name}: {' '.join(done.words.split())[-400:]}")


def told(check: Check) -> Check:
    """The same, with a line of progress."""
    say(f"{check.name}: " + ", ".join(f"{way} {said}" for way, said in check.outcome.items()))
    return check


def tour(kit: Kit, ways: Sequence[Way], stops: Sequence[str]) -> list[Check]:
    """The stops of the tour: all in one process, which the first failure ends; then alone those it has not come to."""
    checks = {stop: Check(f"tour {stop}") for stop in stops}
    for way in ways:
        whole = run([*way.prefix, kit.programs["tour"]], way.environment, PROGRAM_SECONDS)
        fine = set(re.findall(r"^(\w+) ok$", whole.out, re.MULTILINE))
        for stop, check in checks.items():
            if stop in fine:
                check.outcome[way.name] = PASSED
            else:
                compare(check, [kit.programs["tour"], stop], [way])
    return [told(check) for check in checks.values()]


def script(kit: Kit, package: str, ways: Sequence[Way]) -> list[Check]:
    """A script of many checks, each of which may be wrong by itself."""
    python = python_for(kit, package) if ways[0].prefix == [] else kit.python
    if python is None:
        return []
    rows: dict[str, Check] = {}
    whole = Check(f"{package} script")
    for way in ways:
        path = kit.root / SCRIPTS / f"{package}_checks.py"
        done = run([*way.prefix, python, path], way.environment, SCRIPT_SECONDS)
        note(whole, way, done)
        for said, name, rest in re.findall(r"^(ok|failed) (\w+) (.*)$", done.out, re.MULTILINE):
            row = rows.setdefault(name, Check(f"{package} {name}"))
            row.outcome[way.name] = PASSED if said == "ok" else FAILED
            if said != "ok":
                row.words.append(f"{way.name}: {rest}")
    for row in rows.values():
        for way in ways:  # a program that ends early has not come to the rest
            row.outcome.setdefault(
                way.name, FAILED if whole.outcome[way.name] == FAILED else NOT_RUN
            )
    say(f"{whole.name}: " + ", ".join(f"{way} {said}" for way, said in whole.outcome.items()))
    return list(rows.values()) or [whole]


def conformance(kit: Kit, setting: Setting, only: re.Pattern[str]) -> list[Check]:
    """All programs whose name matches."""
    ways = setting.ways
    wanted: dict[str, list[str | os.PathLike[str]]] = {
        name: [path]
        for name, path in sorted(kit.programs.items())
        if name not in ("tour", "kernels.so")
    }
    if "kernels.so" in kit.programs:
        path = kit.root / KERNELS
        for name in re.findall(r"^def (\w+)\(kernels", path.read_text(), re.MULTILINE):
            wanted[f"kernel {name}"] = [kit.python, path, kit.programs["kernels.so"], name]
    checks = [
        told(compare(Check(name), command, ways))
        for name, command in wanted.items()
        if only.search(name)
    ]
    if "tour" in kit.programs:
        source = (kit.root / PROGRAMS / "tour.cu").read_text()
        stops = re.findall(r'^    \{"(\w+)", \w+\},$', source, re.MULTILINE)
        if some := [stop for stop in stops if only.search(f"tour {stop}")]:
            checks += tour(kit, ways, some)
    for package in PACKAGES:
        if only.search(f"{package} script"):
            checks += script(kit, package, ways)
    if kit.suite and only.search("device suite"):
        # Orion's own device code on the driver, without client and server: there is nothing native to compare it with
        check = Check("device suite")
        note(check, Way(SHM, [], {}), run([kit.suite], setting.driver, 150))
        checks.append(told(check))
    return checks


def figures(kit: Kit, ways: Sequence[Way]) -> dict[str, Any]:
    """driver_bench by all ways, each with the name of the device that it ran on."""
    found: dict[str, Any] = {}
    for way in ways if kit.bench else ():
        say(f"figures, {way.name} ...")
        done = run([*way.prefix, str(kit.bench)], way.environment, BENCH_SECONDS)
        try:
            rows = json.loads(next(line for line in done.out.splitlines() if line[:1] == "{"))
        except (StopIteration, ValueError):
            rows = None
        if done.good and rows:
            found[way.name] = rows
        else:
            kit.missing.append(f"the figures, {way.name}: {' '.join(done.words.split())[-200:]}")
    return found
