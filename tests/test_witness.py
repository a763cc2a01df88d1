# SPDX-License-Identifier: Apache-2.0
"""The witness of promises in milliseconds excuses what the machine took, and nothing else."""

from __future__ import annotations

import os
import signal
import time

import pytest
from witness import PROMISE, Stretch, witnessed


def test_what_a_processor_was_kept_from_is_excused() -> None:
    with witnessed() as stretch:
        for lane in stretch.lanes:
            os.kill(lane.pid, signal.SIGSTOP)
        time.sleep(3 * PROMISE)
        for lane in stretch.lanes:
            os.kill(lane.pid, signal.SIGCONT)
    assert stretch.lost >= 2.5 * PROMISE
    stretch.check("a stop of the machine")


def test_what_the_program_took_is_not() -> None:
    stretch = Stretch()
    with pytest.raises(AssertionError, match="too late: 101 ms"):
        stretch.check("too late", PROMISE + 0.001)
    stretch.check("in time", PROMISE - 0.001)
