# SPDX-License-Identifier: Apache-2.0
"""Says what this machine has, what it lacks and how to get it.

`missing` rows stop Orion from working here (exit code 1); `warn` rows make it slower or smaller.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from orion_shm.cli.errors import EXIT_FAILED
from orion_shm.cli.pod_probe import check_pod
from orion_shm.cli.probes import MISSING, WARN, Finding, all_probes
from orion_shm.cli.tables import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `orion check`."""
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")


def execute(options: argparse.Namespace) -> int:
    """Looks at everything, prints it; exit code 1 when something is missing."""
    findings = [probe() for probe in (*all_probes(), check_pod)]
    missing = [finding.name for finding in findings if finding.state == MISSING]
    if options.json:
        rows = [asdict(finding) for finding in findings]
        print(json.dumps({"schema": 1, "ready": not missing, "rows": rows}, indent=2))
    else:
        print_table(findings)
        print(f"\nMissing: {', '.join(missing)}." if missing else "\nOrion can run here.")
    return EXIT_FAILED if missing else 0


def print_table(findings: list[Finding]) -> None:
    """The table, then a line for each remedy, which may be long."""
    table = Table("what", "state", "found")
    for finding in findings:
        table.add(finding.name, finding.state, finding.found)
    table.print()
    remedies = [finding for finding in findings if finding.remedy]
    if remedies:
        print()
    for finding in remedies:
        mark = "warn" if finding.state == WARN else finding.state
        print(f"{mark}: {finding.name}: {finding.remedy}")
