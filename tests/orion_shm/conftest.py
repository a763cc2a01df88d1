# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the command line's tests; cli_fakes.py holds them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cli_fakes import fake_server, library

__all__ = ["fake_server", "library"]
