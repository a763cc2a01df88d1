# SPDX-License-Identifier: Apache-2.0
"""A controller for a demonstration, and a picture of its dashboard where there is a browser to take it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 30.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """HOST:PORT of a controller on a free port, for the time of the block; its log is in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "orion_controller", "--port", "0"]
    command += ["--state-dir", str(folder / "state")]
    kept = {k: v for k, v in os.environ.items() if k not in ("BIND", "PORT", "LOG")}
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=kept, stderr=log)
    try:
        yield f"127.0.0.1:{_port(process, folder / 'log')}"
    finally:
        process.terminate()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """The controller's log is one JSON object a line."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            said = json.loads(line) if line.endswith("\n") else {}
            if said.get("event") == "listening":
                return int(said["port"])
        time.sleep(0.02)
    raise SystemExit(f"demo: the controller did not start:\n{log.read_text(encoding='utf-8')}")


def overview(controller: str) -> dict[str, Any]:
    """What its dashboard shows."""
    with urllib.request.urlopen(f"http://{controller}/v1/overview", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def await_server(controller: str) -> None:
    """Until a server takes what the controller leases."""
    deadline = time.monotonic() + START_SECONDS
    while not any(s["state"] == "live" for s in overview(controller)["servers"]):
        if time.monotonic() > deadline:
            raise SystemExit("demo: the server did not register with the controller")
        time.sleep(0.02)


def photograph(controller: str, picture: Path, expected: list[str]) -> str:
    """Saves the dashboard once it shows all that is expected and its charts have a line. Returns what became of it."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        return "no picture: there is no chromium with chromedriver here"
    try:
        from selenium import webdriver
    except ImportError:
        return "no picture: selenium is not installed (pip install selenium)"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, "--hide-scrollbars", "--window-size=1280,1200"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.get(f"http://{controller}/")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            text = browser.find_element("tag name", "body").text
            if all(e in text for e in expected) and "waiting · up" in text and _drawn(browser):
                picture.parent.mkdir(parents=True, exist_ok=True)
                browser.save_screenshot(str(picture))
                return f"the dashboard as it was then: {picture}"
            time.sleep(0.1)
    finally:
        browser.quit()
    return f"no picture: the dashboard does not show {', '.join(expected)}"


def _drawn(browser: Any) -> bool:
    """A line needs some samples."""
    program = (
        "return [...document.querySelectorAll('svg.chart polyline')].map((l) => l.points.length)"
    )
    points = browser.execute_script(program)
    return bool(points) and min(points) >= 4
