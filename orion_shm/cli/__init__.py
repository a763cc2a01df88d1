# SPDX-License-Identifier: Apache-2.0
"""The `orion` command: run, up, smi, check. One module for each, joined in `main`."""

from orion_shm.cli.main import main

__all__ = ["main"]
