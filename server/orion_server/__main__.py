# SPDX-License-Identifier: Apache-2.0
"""`python -m orion_server` is `orion-server`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
