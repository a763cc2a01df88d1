# SPDX-License-Identifier: Apache-2.0
"""Reads the command line and calls the command. Each command's module loads only when it is used."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from orion_shm.cli.errors import EXIT_SIGNAL, EXIT_USAGE, CommandError

COMMANDS = {
    "run": "run a CUDA program on an Orion device",
    "up": "start a server in the foreground and watch it",
    "smi": "show devices and the programs that use them",
    "limit": "change the memory limit or the share of a running program",
    "drain": "let no new program onto a server, wait for the last one to end",
    "check": "say what this machine has, what it lacks and how to get it",
    "install": "make programs find Orion without `orion run`",
    "uninstall": "take `orion install` back",
}

EXIT_CODES = """\
exit codes:
  0        done
  1        the answer is no: `check` found something missing, `smi` found no server,
           `drain` gave up waiting
  2        could not begin: wrong arguments, no such server, a part that is not installed
  126,127  `run`: the program cannot be executed, or was not found
  128+n    `run`: the program was ended by signal n; all other codes of `run` are the program's own
"""


class VersionAction(argparse.Action):
    """Prints the version; looks it up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_ignored: object) -> None:
        import orion_shm

        print(f"orion {orion_shm.__version__}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of `orion`; each command adds its own arguments and names its function."""
    parser = argparse.ArgumentParser(
        prog="orion",
        description="Virtual GPUs for unmodified CUDA programs.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=VersionAction, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"orion_shm.cli.{name}")
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(function=module.execute)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has printed what there is to say
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    try:
        return int(options.function(options))
    except CommandError as error:
        print(f"orion {options.command}: {error}", file=sys.stderr)
        return error.code
    except BrokenPipeError:  # `orion smi | head`
        sys.stderr.close()
        return EXIT_SIGNAL + 13
    except KeyboardInterrupt:
        return EXIT_SIGNAL + 2


def smi() -> int:
    """`orion-smi`, for those who know it by that name."""
    return main(["smi", *sys.argv[1:]])


def check() -> int:
    """`orion-check`, likewise."""
    return main(["check", *sys.argv[1:]])
