# SPDX-License-Identifier: Apache-2.0
"""Runs the checks of a program, the functions named check_*, and prints one line for each: `ok NAME` or what it raised.

python cupy_checks.py            all of them
python cupy_checks.py sort take  these
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any


def failure(call: Callable[[], Any]) -> str:
    """Type and text of the exception that the call has to raise."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("it did not fail")


def use_or_be_refused(what: str, supported: bool, use: Callable[[], None]) -> None:
    """Uses memory that a device may lack, as its attribute says, and says which it was.

    Where the attribute is 0 the driver has to refuse; a program would have asked and gone another way.
    """
    if supported:
        use()
    else:
        words = failure(use)
        assert "notsupported" in words.replace("_", "").lower(), words
    print(f"{what} memory: {'used' if supported else 'refused'}", flush=True)


def main(scope: Mapping[str, Any]) -> int:
    """Runs the checks that the command line names, or all."""
    checks: dict[str, Callable[[], None]] = {
        name.removeprefix("check_"): value
        for name, value in scope.items()
        if name.startswith("check_")
    }
    failed = 0
    for name in sys.argv[1:] or list(checks):
        began = time.monotonic()
        try:
            checks[name]()
            print(f"ok {name} {time.monotonic() - began:.2f} s", flush=True)
        except Exception as error:
            failed += 1
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"failed {name} {text[:400]}", flush=True)
    return 1 if failed else 0
