# SPDX-License-Identifier: Apache-2.0
"""Makes the generator importable; it is a build tool and not installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "csrc"))
