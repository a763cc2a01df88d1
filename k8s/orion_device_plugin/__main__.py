# SPDX-License-Identifier: Apache-2.0
"""`python -m orion_device_plugin` is `orion-device-plugin`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
