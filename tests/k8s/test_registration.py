# SPDX-License-Identifier: Apache-2.0
"""Registration with kubelets that take their time, within this process: its patience is made short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fake_kubelet import FakeKubelet
from orion_device_plugin import registration
from orion_device_plugin.plugin import Gmem
from orion_device_plugin.registration import Registration

NAME = "virtaitech.com/gmem"


async def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


def register(
    folder: Path, story: Callable[[Registration], Awaitable[None]], kubelet: FakeKubelet
) -> Registration:
    """A plugin's registration for as long as the story takes."""

    async def both() -> Registration:
        resource = Gmem(NAME)
        await resource.offer(["gmem-0", "gmem-1"], healthy=True)
        made = Registration(resource, folder / "kubelet")
        running = asyncio.create_task(made.run())
        try:
            await story(made)
            assert not running.done(), running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return made

    with kubelet:
        return asyncio.run(both())


def test_kubelet_that_does_not_answer_in_time_is_asked_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "REGISTER_SECONDS", 0.3)
    kubelet = FakeKubelet(folder / "kubelet", delay=1.0)

    async def story(made: Registration) -> None:
        await until(lambda: kubelet.asked >= 2, "a second question")
        assert made.count == 0  # DEADLINE_EXCEEDED, each time
        kubelet.delay = 0.0
        await until(lambda: made.registered, "the registration")
        await until(lambda: made.resource.watchers > 0, "a kubelet that listens")

    made = register(folder, story, kubelet)
    assert made.count == 1
    assert not made._failures  # a busy kubelet has refused nothing


def test_kubelet_that_calls_back_late_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registering again would remove the socket that it is about to call: it would never be done."""
    monkeypatch.setattr(registration, "DEAF_SECONDS", 0.1)
    kubelet = FakeKubelet(folder / "kubelet", dial_delay=1.5)

    async def story(made: Registration) -> None:
        await until(lambda: made.resource.watchers > 0, "a kubelet that listens")
        await until(lambda: bool(kubelet.endpoints[NAME].devices), "its list")

    made = register(folder, story, kubelet)
    assert (made.count, kubelet.asked) == (1, 1)


def test_kubelet_that_never_calls_back_is_told_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "CALL_BACK_SECONDS", 0.3)
    kubelet = FakeKubelet(folder / "kubelet", dial_delay=3600.0)

    async def story(made: Registration) -> None:
        await until(lambda: kubelet.asked >= 2, "a second registration")
        kubelet.dial_delay = None
        await until(lambda: made.resource.watchers > 0, "a kubelet that listens")

    assert register(folder, story, kubelet).count >= 2
