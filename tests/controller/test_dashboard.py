# SPDX-License-Identifier: Apache-2.0
"""The built-in dashboard, in a browser: it shows what there is, on a phone too, and asks nobody else."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller_fakes import Clock, FakeServer
from controller_processes import ControllerProcess, wait_for
from orion_controller.model import Client, Use
from orion_server.lease_tokens import decode_id
from test_api import register

GIB = 1 << 30
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    running = ControllerProcess(tmp_path)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(driver)
    started = webdriver.Chrome(options=options, service=service)
    yield started
    started.quit()


@pytest.fixture(scope="module")
def pictures(root: Path) -> Path:
    folder = root / "build" / "dashboard"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def populate(controller: ControllerProcess) -> dict[str, FakeServer]:
    """Two servers, three programs, one that waits for what is not free, and one name that is an attack."""
    first = FakeServer("gpu-host-1:9960", Clock(), slots=4, devices=2, memory=8 * GIB)
    second = FakeServer("gpu-host-2:9960", Clock(), slots=2, memory=16 * GIB)
    servers = {s.name: s for s in (first, second)}
    for server in servers.values():
        register(controller, server)
    wishes = (
        ("train.py", 4096, 50, 3 * GIB),
        ("<img src=x onerror=alert(1)>", 2048, 25, GIB),
        ("notebook", 1024, 0, GIB // 2),
    )
    for number, (command, gmem, ratio, used) in enumerate(wishes, 1):
        status, got = controller.ask(
            "POST", "/v1/leases", {"gmem_mib": gmem, "ratio": ratio, "command": command}
        )
        assert status == 201, got
        grant = got["grants"][0]
        terms = decode_id(grant["token"].partition(".")[0])
        assert terms is not None
        server = servers[grant["server"]]
        server.sessions[number] = Use(
            number,
            grant["device"],
            terms.lease,
            0,
            terms.memory,
            terms.ratio,
            used,
            transport="shm",
            busy_seconds=1.0,
            held=True,
            token_expires=terms.expires,
            client=Client(command, 4000 + number),
        )
    for server in servers.values():
        register(controller, server)
    return servers


def work(controller: ControllerProcess, server: FakeServer) -> None:
    """Its programs have used the device for a while, and have a little more memory."""
    for number, use in server.sessions.items():
        busy = use.busy_seconds + 0.1 * number
        more = min(use.memory_used + (64 << 20), use.memory_limit)
        server.sessions[number] = dataclasses.replace(use, busy_seconds=busy, memory_used=more)
    register(controller, server)


def test_the_dashboard_shows_devices_programs_and_leases(controller, browser, pictures) -> None:
    servers = populate(controller)
    for name, width, height in (("desktop", 1280, 900), ("phone", 390, 844)):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"},
        )
        browser.get(f"http://{controller.address}/")
        text = wait_for(
            lambda: (lambda t: t if "train.py" in t else "")(body(browser)),
            "the programs are shown",
        )
        assert text.count("device 0") == 2
        assert "gpu-host-2:9960" in text
        assert "<img src=x onerror=alert(1)>" in text, "shown as it is, not obeyed"
        assert "2 servers · 3 devices · 3 programs · 0 waiting" in text

        def drawn() -> bool:
            work(controller, servers["gpu-host-1:9960"])
            points = charts(browser)
            return len(points) == 6 and min(points) >= 4

        wait_for(drawn, "a chart of time and one of memory for each device")
        wide = browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{name}: {wide} pixels too wide"
        picture = pictures / f"{name}.png"
        assert browser.save_screenshot(str(picture))
        assert picture.stat().st_size > 10_000
    complaints = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert not complaints
    asked = requested(browser)
    assert asked
    assert all(url.startswith(f"http://{controller.address}/") for url in asked), asked


def test_the_dashboard_asks_for_the_key_and_takes_it(tmp_path, browser) -> None:
    running = ControllerProcess(tmp_path, ORION_CLIENT_KEY="the-clients-key")
    try:
        browser.get(f"http://{running.address}/")
        wait_for(lambda: browser.find_element("id", "key").is_displayed(), "it asks for the key")
        browser.find_element("id", "key").send_keys("the-clients-key\n")
        wait_for(lambda: "No server has registered" in body(browser), "it shows what there is")
        assert not browser.find_element("id", "key").is_displayed()
    finally:
        browser.delete_all_cookies()
        running.stop()


def test_the_dashboard_says_when_the_controller_is_gone(tmp_path, browser) -> None:
    running = ControllerProcess(tmp_path)
    browser.get(f"http://{running.address}/")
    wait_for(lambda: "0 servers" in body(browser), "it is connected")
    running.stop()
    wait_for(lambda: "does not answer" in body(browser), "it says so")


def body(browser: Any) -> str:
    return str(browser.find_element("tag name", "body").text)


def charts(browser: Any) -> list[int]:
    """How many points each chart's line has."""
    program = (
        "return [...document.querySelectorAll('svg.chart polyline')]"
        ".map((line) => line.getAttribute('points').split(' ').length)"
    )
    return list(browser.execute_script(program))


def requested(browser: Any) -> set[str]:
    """Every address that the page has asked for something."""
    import json

    found = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith(("data:", "chrome:")):
                found.add(url)
    return found
