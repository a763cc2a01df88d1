# SPDX-License-Identifier: Apache-2.0
"""Tables of ratios, a JSON file and a plot of a run of `make bench`.

python benchmarks/report.py build/bench/results.json FOLDER     the same again, from a kept run
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """The figures of one program; of a peer also who it is and how it was run."""

    title: str
    figures: Figures
    language: str = ""  # "" = not a peer
    kind: str = ""
    ours: bool = False
    command: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def peer(self) -> str:
        return f"{self.title} ({self.kind})"


@dataclass(frozen=True)
class Run:
    when: str
    machine: str
    entries: list[Entry]

    @classmethod
    def here(cls, entries: list[Entry]) -> Run:
        """With today's date and what this machine is; no names of hosts or paths."""
        return cls(date.today().isoformat(), machine(), entries)

    @classmethod
    def load(cls, path: Path) -> Run:
        kept = json.loads(path.read_text())
        return cls(kept["when"], kept["machine"], [Entry(**entry) for entry in kept["entries"]])

    def of(self, language: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.language == language]


def machine() -> str:
    model = "a processor"
    flags = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = " ".join(value.split())
        if name.strip() == "flags":
            flags = value
    virtual = ", virtual" if " hypervisor" in flags else ""
    release = platform.release().split("-")[0]
    python = platform.python_version()
    usable = len(os.sched_getaffinity(0))
    return f"{usable} processors of {model}{virtual}, Linux {release}, Python {python}"


# ---- one cell ----


def ratio(name: str) -> Callable[[Figures], float | None]:
    """Of a line pair, probed around the same samples."""
    return lambda figures: value(figures, name, "ratio_to_pair")


def value(figures: Figures, name: str, key: str = "median") -> float | None:
    found = figures.get(name, {})
    if key not in found or found.get("kept", 1) == 0:
        return None
    return float(found[key])


def first(*names: str) -> Callable[[Figures], float | None]:
    """A session's longest answer is 4080 bytes, the others' row is 4096."""
    return lambda figures: next(
        (found for name in names if (found := ratio(name)(figures)) is not None), None
    )


def hops(name: str) -> Callable[[Figures], float | None]:
    """ns per message, of one way of a line between the processors."""

    def cell(figures: Figures) -> float | None:
        ns, line = value(figures, name), value(figures, name, "line")
        return ns / (line / 2) if ns is not None and line else None

    return cell


def spread(*names: str) -> Callable[[Figures], float | None]:
    """Of the first of these rows that there is."""

    def cell(figures: Figures) -> float | None:
        name = next((name for name in names if name in figures), names[0])
        return value(figures, name, "p99_of_p50")

    return cell


def number(name: str, key: str = "median", scale: float = 1) -> Callable[[Figures], float | None]:
    def cell(figures: Figures) -> float | None:
        found = value(figures, name, key)
        return found * scale if found is not None else None

    return cell


# ---- tables ----


@dataclass(frozen=True)
class Column:
    title: str
    cell: Callable[[Figures], float | None]
    more_is_better: bool = False


@dataclass(frozen=True)
class Table:
    title: str
    language: str
    columns: Sequence[Column]
    order: int = 0  # the column by which rows are sorted


ROUND_TRIP = "Round trip, of a line pair"


def tables() -> list[Table]:
    sizes = [("8 B", "8"), ("64 B", "64"), ("256 B", "256")]
    found = []
    for language in ("C", "Python"):
        bulk = "bulk" if language == "C" else "array"
        calls = [Column(title, ratio(f"call_{size}")) for title, size in sizes]
        if language == "C":
            calls.insert(1, Column("48 B", ratio("call_48")))
        calls += [
            Column("4 KiB", first("call_4096", "call_4080")),
            Column("64 KiB", ratio("call_65536")),
        ]
        if language == "Python":
            calls.append(Column("object", ratio("object")))
        by = 2 if language == "C" else 1
        found.append(Table(ROUND_TRIP, language, calls, by))
        found.append(Table("Round trip, p99 / p50", language, spreads(language), by))
        rates = [Column(f"{title}, hops", hops(f"one_way_{size}")) for title, size in sizes]
        rates.append(Column("64 B, M/s", rate("one_way_64"), True))
        found.append(Table("One way, per message in hops of a line", language, rates, 1))
        sized = [("64 KiB", "65536"), ("1 MiB", "1048576"), ("64 MiB", "67108864")]
        copies = [
            Column(title, number(f"{bulk}_{size}", "of_memcpy"), True) for title, size in sized
        ]
        copies += [Column(f"handed over, {t}: pairs", ratio(f"hand_{s}")) for t, s in sized[1:]]
        title = "Bulk, of memcpy" if language == "C" else "NumPy arrays, of a copy"
        found.append(Table(title, language, copies, 1))
        waits = [
            Column("to a sleeper, us", number("asleep_64", scale=1e-3)),
            Column("on one core, us", number("one_core_64", scale=1e-3)),
            Column("idle, cores", number("idle")),
            Column("attach, us", number("attach")),
        ]
        if language == "C":
            waits.insert(1, Column("unpinned, pairs", ratio("unpinned_64")))
        found.append(Table("Waiting", language, waits))
    return found


def spreads(language: str) -> list[Column]:
    """Of every row that has a 99th percentile."""
    sized = [("8 B", 8), ("48 B", 48), ("64 B", 64), ("256 B", 256), ("4 KiB", 4096)]
    found = [
        Column(title, spread(f"call_{size}", *(["call_4080"] if size == 4096 else [])))
        for title, size in sized
        if language == "C" or size != 48
    ]
    found.append(Column("64 KiB", spread("call_65536")))
    if language == "Python":
        return [*found, Column("object", spread("object"))]
    return [
        *found,
        Column("to a sleeper", spread("asleep_64")),
        Column("unpinned", spread("unpinned_64")),
    ]


def rate(name: str) -> Callable[[Figures], float | None]:
    return lambda figures: 1e3 / ns if (ns := value(figures, name)) else None


Row = tuple[Entry, list[float | None]]


def rows(table: Table, run: Run) -> list[Row]:
    found = [
        (entry, [c.cell(entry.figures) for c in table.columns]) for entry in run.of(table.language)
    ]
    found = [row for row in found if any(cell is not None for cell in row[1])]
    sign = -1 if table.columns[table.order].more_is_better else 1

    def key(row: Row) -> tuple[bool, float]:
        cell = row[1][table.order]
        return cell is None, sign * (cell or 0)

    return sorted(found, key=key)


def shown(cell: float | None) -> str:
    if cell is None:
        return ""
    digits = 0 if cell >= 100 else 1 if cell >= 10 else 2 if cell >= 0.1 else 3
    return f"{cell:.{digits}f}"


def markdown(run: Run) -> str:
    """Everything, as a page of docs/benchmarks.md has it."""
    lines = [f"{run.when}, {run.machine}; line pair {pair(run)} ns.", ""]
    for table in tables():
        found = rows(table, run)
        if not found:
            continue
        lines.append(f"### {table.title} ({table.language})\n")
        lines.append(f"| | {' | '.join(column.title for column in table.columns)} |")
        lines.append("|---" * (len(table.columns) + 1) + "|")
        for entry, cells in found:
            name = f"**{entry.title}**" if entry.ours else entry.title
            lines.append(f"| {name} ({entry.kind}) | {' | '.join(map(shown, cells))} |")
        lines.append("")
    if tail := list(other_rows(run)):
        lines += ["### Other programs\n", f"| {' | '.join(OTHER_COLUMNS)} |"]
        lines.append("|---" * len(OTHER_COLUMNS) + "|")
        lines += [f"| {' | '.join(row)} |" for row in tail]
        lines.append("")
    lines.append("### Where others are ahead\n")
    for ours in (entry for entry in run.entries if entry.ours):
        found_ahead = [f"* {ahead}" for ahead in behind(run) if ahead.ours is ours]
        lines += [f"Of {ours.title} ({ours.language}):\n", *(found_ahead or ["* nobody"]), ""]
    lines.append(f"Samples dropped because the floor moved: {dropped(run)}.")
    return "\n".join(lines) + "\n"


def pair(run: Run) -> str:
    found = sorted(v["pair"] for e in run.entries for v in e.figures.values() if v.get("pair"))
    return f"{found[0]:.0f}-{found[-1]:.0f}, median {found[len(found) // 2]:.0f}" if found else "?"


def dropped(run: Run) -> str:
    figures = [v for e in run.entries for v in e.figures.values() if "kept" in v]
    gone = sum(v["dropped"] for v in figures)
    return f"{gone} of {gone + sum(v['kept'] for v in figures)}"


@dataclass(frozen=True)
class Ahead:
    """A cell in which a peer is better than one of our rows."""

    ours: Entry
    peer: Entry
    figure: str
    theirs: float
    mine: float

    def __str__(self) -> str:
        figures = f"{shown(self.theirs)} against {shown(self.mine)}"
        return f"{self.peer.title} ({self.peer.language}): {self.figure}: {figures}"


def behind(run: Run) -> list[Ahead]:
    """Each of our rows against each peer: who uses a channel has nothing of a session that is faster."""
    found = []
    for table in tables():
        all_rows = rows(table, run)
        for at, column in enumerate(table.columns):
            sign = -1 if column.more_is_better else 1
            figure = f"{table.title}, {column.title}"
            measured = [
                (entry, cell) for entry, cells in all_rows if (cell := cells[at]) is not None
            ]
            found += [
                Ahead(ours, peer, figure, theirs, mine)
                for ours, mine in measured
                if ours.ours
                for peer, theirs in measured
                if not peer.ours and sign * theirs < sign * mine
            ]
    return found


def show(run: Run) -> None:
    """The tables on the terminal; the other programs' figures below them."""
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console(width=max(130, Console().width))
    console.print(f"{run.when}, {run.machine}; line pair {pair(run)} ns", style="bold")
    for table in tables():
        found = rows(table, run)
        if not found:
            continue
        grid = Grid(title=f"{table.title} ({table.language})", title_justify="left")
        grid.add_column("")
        for column in table.columns:
            grid.add_column(column.title, justify="right")
        for entry, cells in found:
            grid.add_row(entry.peer, *map(shown, cells), style="bold" if entry.ours else "")
        console.print(grid)
    others(console, run)
    for ahead in behind(run):
        console.print(f"ahead of {ahead.ours.title}: {ahead}")
    console.print(f"samples dropped because the floor moved: {dropped(run)}")


OTHER_COLUMNS = ("program", "figure", "median", "unit", "/ pair", "pair ns", "dropped")


def other_rows(run: Run) -> Iterable[tuple[str, ...]]:
    """The figures of the programs that are no peers, one a row."""
    for entry in run.entries:
        if entry.language:
            continue
        for name, figure in entry.figures.items():
            tail: tuple[str, ...] = ("", "", "")
            if "ratio_to_pair" in figure and figure["unit"].startswith("ns"):
                ratio, pair = shown(figure["ratio_to_pair"]), f"{figure['pair']:.0f}"
                tail = (ratio, pair, str(figure["dropped"]))
            yield entry.title, name, shown(figure["median"]), figure["unit"], *tail


def others(console: Any, run: Run) -> None:
    from rich.table import Table as Grid

    grid = Grid(title="Other programs", title_justify="left")
    for at, name in enumerate(OTHER_COLUMNS):
        grid.add_column(name, justify="left" if at < 2 else "right")
    for row in other_rows(run):
        grid.add_row(*row)
    if grid.row_count:
        console.print(grid)


# ---- the plot ----

COLOURS = {"both": "#2f6f4f", "polls": "#c2702f", "blocks": "#8a8fa0"}


def panels_of(run: Run) -> list[tuple[str, list[Row], int]]:
    """Language, rows, and the column that is shown, for each language that has any."""
    found = []
    for table in tables():
        if table.title == ROUND_TRIP:
            shown_rows = [row for row in reversed(rows(table, run)) if row[1][table.order]]
            if shown_rows:
                found.append((table.language, shown_rows, table.order))
    return found


def plot(run: Run, folder: Path) -> str | None:
    """Round trips of 64 bytes, C and Python, as peers.svg and peers.png; or why there is no plot."""
    try:
        import matplotlib
    except ImportError:
        return "no plot: matplotlib is not installed (extra bench)"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "orion", "font.size": 9})
    panels = panels_of(run)
    if not panels:
        return "no plot: no round trip was measured"
    heights = [len(found) for _, found, _ in panels]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(7.5, 1.3 + 0.27 * sum(heights)), sharex=True, squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for (language, found, at), axis in zip(panels, axes[:, 0], strict=True):
        names = [entry.title for entry, _ in found]
        cells = [cells[at] for _, cells in found]
        places = range(len(found))
        axis.barh(places, cells, color=[COLOURS[entry.kind] for entry, _ in found])
        axis.set_yticks(places, names)
        for place, (entry, _) in zip(places, found, strict=True):
            axis.text(cells[place] * 1.08, place, shown(cells[place]), va="center", fontsize=8)
            if entry.ours:
                axis.get_yticklabels()[place].set_fontweight("bold")
        axis.set_xscale("log")
        axis.set_xlim(0.8, 4 * max(max(row[1][at] or 1 for row in p[1]) for p in panels))
        axis.set_title(language, loc="left", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel(
        "round trip of 64 bytes, in round trips of a pair of cache lines (less is better)"
    )
    marks = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    labels = ["looks, then sleeps", "only polls", "sleeps in the kernel"]
    figure.legend(marks, labels, loc="upper right", ncols=3, frameon=False, fontsize=8)
    figure.text(0.01, 0.005, f"{run.when}, {run.machine}", fontsize=6.5, color="#666666")
    figure.tight_layout(rect=(0, 0.02, 1, 0.96))
    figure.savefig(folder / "peers.svg", metadata={"Date": None})
    figure.savefig(folder / "peers.png", dpi=150)
    pyplot.close(figure)
    return None


def write(run: Run, folder: Path) -> None:
    """Shows the run and keeps it in the folder: results.json, report.md, peers.svg and peers.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(asdict(run), indent=1) + "\n")
    (folder / "report.md").write_text(markdown(run))
    show(run)
    problem = plot(run, folder)
    if problem:
        print(problem)


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    write(Run.load(Path(sys.argv[1])), Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
