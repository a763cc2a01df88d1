# SPDX-License-Identifier: Apache-2.0
"""The series behind the dashboard's charts."""

from __future__ import annotations

import dataclasses

import pytest
from controller_fakes import Clock, FakeServer
from orion_controller.history import SAMPLE_SECONDS, History
from orion_controller.ledger import Ledger
from orion_controller.model import Use


@pytest.mark.parametrize(("threads", "busy"), [(1, 1.0), (4, 0.25)])
def test_busy_is_a_part_of_all_that_the_device_could_do(threads, busy):
    """Busy seconds are of threads: one busy thread of four is a quarter of the device."""
    clock = Clock()
    ledger, history, server = Ledger(clock), History(), FakeServer("s", clock)
    for second in range(5):
        server.sessions[1] = Use(1, 0, busy_seconds=second * SAMPLE_SECONDS)
        report = server.report()
        devices = tuple(dataclasses.replace(d, threads=threads) for d in report.devices)
        ledger.report(dataclasses.replace(report, devices=devices))
        history.sample(clock.now, ledger)
        clock.now += SAMPLE_SECONDS
    assert list(history.devices["s", 0].busy) == pytest.approx([0.0, *[busy] * 4])


def test_a_session_that_has_ended_takes_no_time_back():
    clock = Clock()
    ledger, history, server = Ledger(clock), History(), FakeServer("s", clock)
    for used in (1.0, 2.0, None, None):
        server.sessions = {} if used is None else {1: Use(1, 0, busy_seconds=used)}
        ledger.report(server.report())
        history.sample(clock.now, ledger)
        clock.now += SAMPLE_SECONDS
    assert list(history.devices["s", 0].busy) == pytest.approx([0.0, 1 / SAMPLE_SECONDS, 0.0, 0.0])
