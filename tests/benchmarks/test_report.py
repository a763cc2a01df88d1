# SPDX-License-Identifier: Apache-2.0
"""The report of make bench says who is ahead, of whatever comes out."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import report


def call(ns: float, dropped: int = 0, kept: int = 5) -> dict[str, Any]:
    return {
        "unit": "ns", "median": ns, "least": ns, "most": ns, "ratio_to_pair": ns / 100, "line": 80,
        "pair": 100, "kept": kept, "dropped": dropped, "p99_of_p50": 2,
    }  # fmt: skip


def run(ours: float, theirs: float, **more: Any) -> report.Run:
    return report.Run(
        "2026-01-02",
        "two processors",
        [
            report.Entry("orion channel", {"call_64": call(ours)}, "C", "both", ours=True),
            report.Entry("peer", {"call_64": call(theirs), **more}, "C", "polls"),
        ],
    )


def ahead(of: report.Run) -> list[tuple[str, str]]:
    return [(found.ours.title, str(found)) for found in report.behind(of)]


def test_a_peer_that_is_ahead_is_listed_with_both_figures() -> None:
    assert ahead(run(200, 150)) == [
        ("orion channel", "peer (C): Round trip, of a line pair, 64 B: 1.50 against 2.00")
    ]


def test_a_faster_row_of_ours_does_not_hide_what_another_loses() -> None:
    slower = run(200, 150)
    session = report.Entry("orion session", {"call_64": call(140)}, "C", "both", ours=True)
    both = report.Run("", "", [session, *slower.entries])
    assert ahead(both) == ahead(slower)
    page = report.markdown(both)
    assert "Of orion session (C):\n\n* nobody" in page
    assert "Of orion channel (C):\n\n* peer (C)" in page


def test_a_wider_spread_is_listed_for_every_size() -> None:
    ours, peer = run(200, 200).entries
    for size in (8, 48, 64, 256, 4096, 65536):
        calls = {f"call_{size}": call(200)}
        tail = {f"call_{size}": {**call(200), "p99_of_p50": 1.5}}
        entries = [replace(ours, figures=calls), replace(peer, figures=tail)]
        (found,) = report.behind(report.Run("", "", entries))
        assert found.figure.startswith("Round trip, p99 / p50")
        assert (found.theirs, found.mine) == (1.5, 2)


def test_programs_that_are_no_peers_are_in_the_page() -> None:
    floors = report.Entry(
        "floors", {"memcpy_65536": {"median": 41.2, "unit": "GB/s"}, "x": call(50)}
    )
    page = report.markdown(report.Run("", "", [floors]))
    assert "| floors | memcpy_65536 | 41.2 | GB/s |  |  |  |" in page
    assert "| floors | x | 50.0 | ns | 0.50 | 100 | 0 |" in page


def test_a_peer_that_is_behind_is_not_listed() -> None:
    assert ahead(run(150, 200)) == []


def test_more_is_better_where_it_is() -> None:
    bulk = {**call(30), "of_memcpy": 0.5}
    ours = report.Entry("orion channel", {"bulk_1048576": bulk}, "C", "both", ours=True)
    peer = report.Entry("peer", {"bulk_1048576": {**bulk, "of_memcpy": 0.6}}, "C", "polls")
    found = ahead(report.Run("", "", [ours, peer]))
    assert found == [("orion channel", "peer (C): Bulk, of memcpy, 1 MiB: 0.60 against 0.50")]
    assert ahead(report.Run("", "", [peer])) == []


def test_rows_are_sorted_and_ours_stand_out() -> None:
    page = report.markdown(run(200, 150))
    assert page.index("| peer (polls)") < page.index("| **orion channel** (both)")
    assert "2026-01-02, two processors; line pair 100-100, median 100 ns." in page


def test_a_row_without_a_kept_sample_shows_nothing() -> None:
    page = report.markdown(run(200, 150, call_8=call(0, dropped=15, kept=0)))
    line = next(line for line in page.splitlines() if line.startswith("| peer"))
    assert line.split("|")[2].strip() == ""
    assert "15 of 25" in page


def test_a_kept_run_gives_the_same_report(tmp_path: Path) -> None:
    first = run(200, 150)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(asdict(first)))
    assert report.markdown(report.Run.load(path)) == report.markdown(first)


def test_the_machine_is_described_without_its_name() -> None:
    assert socket.gethostname() not in report.machine()
    assert "processors of " in report.machine()


def test_the_plot_shows_round_trips_of_64_bytes() -> None:
    (panel,) = report.panels_of(run(200, 150))
    language, rows, at = panel
    assert language == "C"
    assert [(entry.title, cells[at]) for entry, cells in rows] == [
        ("orion channel", 2),
        ("peer", 1.5),
    ]


def test_a_missing_plotting_library_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "matplotlib is not installed" in (report.plot(run(200, 150), tmp_path) or "")
