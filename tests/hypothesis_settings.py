# SPDX-License-Identifier: Apache-2.0
"""How many examples hypothesis makes up: the same few in `make test`, others each time and many more in `make soak`."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

TIMES = int(os.environ.get("ORION_EXAMPLES", "1"))


def examples(count: int, **more: Any) -> settings:
    """`count` examples, which do not differ from run to run: whoever changes nothing breaks nothing.

    With ORION_EXAMPLES=N, N times as many, and new ones at each run.
    """
    return settings(
        max_examples=count * TIMES, derandomize=TIMES == 1, database=None, deadline=None, **more
    )
