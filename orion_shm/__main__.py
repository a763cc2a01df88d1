# SPDX-License-Identifier: Apache-2.0
"""`python -m orion_shm` is the `orion` command."""

import sys

from orion_shm.cli import main

if __name__ == "__main__":
    sys.exit(main())
