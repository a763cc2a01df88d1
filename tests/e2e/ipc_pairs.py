# SPDX-License-Identifier: Apache-2.0
"""programs/ipc.cu in two processes: one shares memory and an event, the other opens them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e_support import Program


def ask(program: Program, what: str) -> str:
    program.say(what)
    return program.expect("done")


@contextmanager
def started(begin: Callable[..., Program], *command: str | os.PathLike[str]) -> Iterator[Program]:
    program = begin(*command)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.finish()


def handles(giver: Program) -> list[str]:
    """Those of its memory and its event, in hex."""
    return giver.expect("handles ").split()[1:]


def exchange(begin: Callable[..., Program], binary: Path, count: int) -> None:
    """Two processes add in turn to the same memory, ordered by one event alone."""
    with (
        started(begin, binary, "give", str(count)) as giver,
        started(begin, binary, "take", *handles(giver), str(count)) as taker,
    ):
        taker.expect("opened")
        assert ask(taker, "query").split()[0] == "cudaSuccess"
        for _ in range(5):
            ask(giver, "hold")
            ask(giver, "add")
            assert ask(taker, "query").split()[0] == "cudaErrorNotReady"
            taker.say("add")
            ask(giver, "go")
            taker.expect("done")
            ask(giver, "expect")
        ask(giver, "free")
        ask(taker, "read")
        for program in (giver, taker):
            program.say("end")
            code, out, error = program.finish()
            assert code == 0, out + error
