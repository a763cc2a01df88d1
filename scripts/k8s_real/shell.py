# SPDX-License-Identifier: Apache-2.0
"""Words for who watches, the one error of this package, and programs that are run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TELL_SECONDS = 30.0  # between two words about something that takes long


class CannotRun(Exception):
    """What is wrong, in a sentence, and what to do about it."""


class WentWrong(CannotRun):
    """A check of the cluster failed: Orion or the cluster is at fault, not the machine."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"k8s-real: {text}", flush=True)


def run(
    command: Sequence[str | os.PathLike[str]],
    what: str,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> str:
    """Its output. Says every half a minute that it still runs; CannotRun with the end of what it said if it fails.

    environment: beside ours. log: a file that gets what it says, which then is not returned.
    """
    began = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=log.open("a") if log else subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            out = ""
            while True:
                try:
                    out = process.communicate(timeout=TELL_SECONDS)[0] or ""
                    break
                except subprocess.TimeoutExpired:
                    say(f"{what}: {time.monotonic() - began:.0f} s")
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        said = log.read_text() if log else out
        end = "\n".join(said.strip().splitlines()[-15:])
        raise CannotRun(f"{what} failed (exit {process.returncode}):\n{end}")
    return out


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> float:
    """The seconds until it held. WentWrong if it does not within the time."""
    began = time.monotonic()
    told = began
    while not condition():
        now = time.monotonic()
        if now - began > seconds:
            raise WentWrong(f"{what}: not within {seconds:.0f} s")
        if now - told > TELL_SECONDS:
            told = now
            say(f"waiting for {what}: {now - began:.0f} s")
        time.sleep(0.2)
    return time.monotonic() - began


def complain(error: CannotRun) -> None:
    """On stderr."""
    print(f"k8s-real: {error}", file=sys.stderr, flush=True)
