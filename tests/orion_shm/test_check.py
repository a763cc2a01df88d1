# SPDX-License-Identifier: Apache-2.0
"""`orion check`: rows, states, remedies, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_fakes import FakeServer

from orion_shm.cli import check, main, probes
from orion_shm.cli.probes import MISSING, OK, WARN, Finding, all_probes


def test_every_probe_gives_a_finding(fake_server: FakeServer) -> None:
    findings = [probe() for probe in all_probes()]
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names) >= 20
    for finding in findings:
        assert finding.state in (OK, WARN, MISSING)
        assert finding.found
        assert finding.remedy or finding.state == OK, finding


def test_exit_code_says_whether_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Finding("a", OK, "there"), Finding("b", WARN, "slow", "speed it up")]
    monkeypatch.setattr(check, "all_probes", lambda: [lambda row=row: row for row in rows])
    assert main(["check"]) == 0
    assert "Orion can run here." in capsys.readouterr().out
    rows.append(Finding("c", MISSING, "not there", "install c"))
    assert main(["check"]) == 1
    out = capsys.readouterr().out
    assert "Missing: c." in out
    assert "missing: c: install c" in out
    assert main(["check", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ready"] is False
    assert answer["rows"][2] == {
        "name": "c",
        "state": "missing",
        "found": "not there",
        "remedy": "install c",
    }


def test_library_must_be_ours(library: Path) -> None:
    assert probes.check_library().state == OK
    (library / "libcuda.so.1").write_bytes(b"\x7fELF of somebody else")
    assert probes.check_library().state == MISSING
    (library / "libcuda.so.1").unlink()
    assert probes.check_library().state == MISSING


def test_missing_package_names_the_extra() -> None:
    finding = probes.check_package("no-such-package-at-all", "flies", "wings", needed=True)
    assert finding.state == MISSING
    assert finding.remedy == "flies: pip install 'orion-vgpu[wings]'"


def test_openssl_is_named_with_its_version_or_with_what_is_lost() -> None:
    finding = probes.check_openssl()
    if finding.state == OK:
        assert "libssl.so" in finding.found
        assert "OpenSSL" in finding.found
    else:
        assert "cannot be encrypted" in finding.remedy
