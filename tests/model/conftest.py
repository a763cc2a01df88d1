# SPDX-License-Identifier: Apache-2.0
"""Makes the model importable by its tests; it is not part of what is installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
