# SPDX-License-Identifier: Apache-2.0
"""`make manifests-scan` without checkov: what is scanned, and what it may find."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="needs PyYAML")
sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
import manifests  # noqa: E402
import manifests_scan  # noqa: E402
from manifests_scan import Found, judge  # noqa: E402

ACCEPTED: dict[str, Any] = {"C_1": {"why": "so", "in": ["a*.yaml Job.ours", "b.yaml *"]}}
A, B = Found("a-1.yaml", "Job.ours", "C_1", "no"), Found("b.yaml", "Pod.x", "C_1", "no")


def test_accepted_findings_are_no_failure() -> None:
    assert judge([A, B], ACCEPTED) == []


@pytest.mark.parametrize(
    "other",
    [
        Found("a-1.yaml", "Job.theirs", "C_1", "no"),
        Found("c.yaml", "Job.ours", "C_1", "no"),
        Found("a-1.yaml", "Job.ours", "C_2", "no"),
    ],
)
def test_the_same_check_elsewhere_and_another_one_are_failures(other: Found) -> None:
    said = f"{other.check} {other.file} {other.resource}: no"
    assert judge([A, B, other], ACCEPTED) == [said]


def test_entry_that_nothing_needs_is_a_failure() -> None:
    assert judge([A], ACCEPTED) == ["C_1 b.yaml *: nothing needs this entry of checkov.yaml"]


def test_report_without_and_with_findings_is_read() -> None:
    assert manifests_scan.findings({"passed": 0, "failed": 0}) == []
    failed = {
        "file_path": "/deep/a-1.yaml",
        "resource": "Job.ours",
        "check_id": "C_1",
        "check_name": "no",
    }
    assert manifests_scan.findings({"results": {"failed_checks": [failed, failed]}}) == [A]


def test_every_entry_has_a_reason() -> None:
    accepted = yaml.safe_load(manifests_scan.ACCEPTED.read_text())
    for check, entry in accepted.items():
        assert set(entry) == {"why", "in"}, check
        assert len(entry["why"]) > 20


def test_every_kustomization_of_the_tree_is_scanned() -> None:
    """Each is a unit, a component of one, or a part of one."""
    units = manifests_scan.units()
    parts = {path.parent for path in manifests.DEPLOY.rglob("kustomization.yaml")}
    for folder in parts:
        name = folder.relative_to(
            manifests.DEPLOY / "overlays" if "overlays" in folder.parts else manifests.DEPLOY
        )
        alone = f"{name.as_posix().replace('/', '-')}.yaml"
        component = any(unit.endswith(f"+{name}.yaml") for unit in units)
        part = name.parts[0] in ("base", "shm-hostipc")
        assert alone in units or component or part, folder
    assert {p.name for p in manifests.DEPLOY.glob("deploy-*.yaml")} <= set(units)
