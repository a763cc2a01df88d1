# SPDX-License-Identifier: Apache-2.0
"""What Orion does on this machine's NVIDIA GPU, against what the machine does without it.

    make gpu-check                                 everything, from the checkout
    make gpu-check ARGS='--pack DIR'               builds all that is needed into DIR, on a machine with the tools
    python3 -m scripts.gpu_check --packed .        uses that, in DIR, on a machine that has a GPU and little else

Each program runs natively first: one that fails there is a wrong test and says nothing of Orion. Then it runs as a
client of a server with the cuda device, over shared memory and over tcp. The table of docs/gpu/ holds a real GPU's
figures only; where there is none, the cascade runs instead (two servers, the second on the CPU device) and nothing is
written. On a GPU all of it takes less than ten minutes.

exit status:
  0   everything was checked, and what is right natively is right under Orion
  1   something is wrong under Orion, or Orion could not be built or started
  3   incomplete: nothing is wrong, but something could not be checked (no nvcc, no CuPy, no time); it is named
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from . import table
from .checks import Check, conformance, figures
from .kit import Kit, checkout_kit, compile_programs, pack, packed_kit
from .machine import BUILD_SECONDS, CASCADE_SECONDS, CLOCK, ROOT, find_gpu, say
from .ways import in_cascade, on_gpu

WRONG, INCOMPLETE = 1, 3  # exit statuses; 2 is a wrong command line


def verdict(checks: list[Check], kit: Kit) -> int:
    """Says what was found; the exit status. 0: everything was checked, and is right under Orion."""
    for note in kit.notes:
        say(f"note: {note}")
    for check in checks:
        if check.bad:
            say(f"FAILED under Orion: {check.name}: {'; '.join(check.words)}")
    missing = list(kit.missing)
    if silent := [check.name for check in checks if not check.shown]:
        missing.append(f"{', '.join(silent)}: wrong natively, so nothing is shown of Orion")
    if unfinished := [check.name for check in checks if not check.complete]:
        missing.append(f"{len(unfinished)} checks, {unfinished[0]} the first: no time was left")
    if not checks:
        missing.append("any program: none could be run")
    for what in missing:
        say(f"not checked: {what}")
    right = sum(check.shown and check.complete and not check.bad for check in checks)
    if any(check.bad for check in checks):
        return WRONG
    if missing:
        say(f"incomplete: {right} checks are right natively and under Orion, the rest is not known")
        return INCOMPLETE
    say(f"all {right} checks are right natively and under Orion")
    return 0


def main() -> int:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where Orion is built")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="build into DIR, for --packed")
    parser.add_argument("--packed", type=Path, metavar="DIR", help="use what --pack made")
    parser.add_argument(
        "--only", type=re.compile, default=re.compile(""), metavar="REGEX", help="these checks"
    )
    options = parser.parse_args()
    if options.pack:
        CLOCK.restart(CASCADE_SECONDS)
        pack(options.pack.resolve(), options.venv.resolve())
        return 0
    gpu = find_gpu()
    if isinstance(gpu, str):
        say(f"there is no NVIDIA GPU here ({gpu}): the cascade runs, and nothing is written")
        CLOCK.restart(CASCADE_SECONDS)
    else:
        say(f"{gpu.name}, compute capability {gpu.sm // 10}.{gpu.sm % 10}, CUDA {gpu.cuda_text}")
    kit: Kit
    if options.packed:
        kit = packed_kit(options.packed.resolve())
    else:
        seconds = CASCADE_SECONDS if isinstance(gpu, str) else BUILD_SECONDS
        kit = checkout_kit(options.venv.resolve(), seconds)
        known = None if isinstance(gpu, str) else gpu
        compile_programs(kit, ROOT / "build" / "gpu-check", known)
    if isinstance(gpu, str):
        kit.programs = {k: p for k, p in kit.programs.items() if "-sm" not in k}
        with in_cascade(kit) as setting:
            return verdict(conformance(kit, setting, options.only), kit)
    with on_gpu(kit) as setting:
        found = figures(
            kit, setting.ways
        )  # first: the table is about them, and the time may be short
        checks = conformance(kit, setting, options.only)
    say(f"{table.write(kit.root / 'docs' / 'gpu', gpu, kit, checks, found)} is written")
    return verdict(checks, kit)


if __name__ == "__main__":
    sys.exit(main())
