# SPDX-License-Identifier: Apache-2.0
"""What Orion does on this machine's NVIDIA GPU, against what the machine does without it.

    make gpu-check                                 everything, from the checkout
    make gpu-check ARGS='--pack DIR'               builds all that is needed into DIR, on a machine with the tools
    python3 -m scripts.gpu_check --packed .        uses that, in DIR, on a machine that has a GPU and little else

Each program runs natively first: one that fails there is a wrong test and says nothing of Orion. Then it runs as a
client of a server with the cuda device, over shared memory and over tcp. The table of docs/gpu/ holds a real GPU's
figures only; where there is none, the cascade runs instead (two servers, the second on the CPU device) and nothing is
written.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from . import table
from .checks import FAILED, Check, conformance, figures
from .kit import Kit, checkout_kit, compile_programs, pack, packed_kit
from .machine import CASCADE_SECONDS, CHECK_SECONDS, CLOCK, ROOT, find_gpu, say
from .ways import NATIVE, in_cascade, on_gpu


def verdict(checks: list[Check], notes: list[str]) -> int:
    """Says what was found; the exit code. 0: everything that is right natively is right under Orion."""
    for note in notes:
        say(f"note: {note}")
    bad = [check for check in checks if check.bad]
    for check in bad:
        say(f"FAILED under Orion: {check.name}: {'; '.join(check.words)}")
    unfinished = [check.name for check in checks if not check.complete]
    if unfinished:
        say(f"no time was left for {len(unfinished)} checks, {unfinished[0]} the first")
    if not checks:
        say("no program could be run at all")
    elif all(check.outcome.get(NATIVE) == FAILED for check in checks):
        say("no program ran natively: nothing is shown of Orion")
    elif not bad and not unfinished:
        say(f"all {len(checks)} checks that are right natively are right under Orion")
        return 0
    return 1


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
        pack(options.pack.resolve(), options.venv.resolve())
        return 0
    gpu = find_gpu()
    if isinstance(gpu, str):
        say(f"there is no NVIDIA GPU here ({gpu}): the cascade runs, and nothing is written")
    else:
        say(f"{gpu.name}, compute capability {gpu.sm // 10}.{gpu.sm % 10}, CUDA {gpu.cuda_text}")
    kit: Kit
    if options.packed:
        kit = packed_kit(options.packed.resolve())
    else:
        kit = checkout_kit(options.venv.resolve())
        known = None if isinstance(gpu, str) else gpu
        compile_programs(kit, ROOT / "build" / "gpu-check", known)
    if isinstance(gpu, str):
        kit.programs = {k: p for k, p in kit.programs.items() if "-sm" not in k}
        CLOCK.restart(CASCADE_SECONDS)
        with in_cascade(kit) as setting:
            return verdict(conformance(kit, setting, options.only), kit.notes)
    CLOCK.restart(CHECK_SECONDS)
    with on_gpu(kit) as setting:
        found = figures(
            kit, setting.ways
        )  # first: the table is about them, and the time may be short
        checks = conformance(kit, setting, options.only)
    say(f"{table.write(kit.root / 'docs' / 'gpu', gpu, kit, checks, found)} is written")
    return verdict(checks, kit.notes)


if __name__ == "__main__":
    sys.exit(main())
