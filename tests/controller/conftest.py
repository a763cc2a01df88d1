# SPDX-License-Identifier: Apache-2.0
"""The tests' own helpers are found beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("orion_controller", reason="orion_controller is not installed")
