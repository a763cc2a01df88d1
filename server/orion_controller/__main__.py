# SPDX-License-Identifier: Apache-2.0
"""`python -m orion_controller`, and the `orion-controller` command."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
