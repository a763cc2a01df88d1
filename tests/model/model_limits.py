# SPDX-License-Identifier: Apache-2.0
"""Which models are for make soak: minutes, where make test has seconds."""

from __future__ import annotations

import os

import pytest

DEEP = pytest.mark.skipif(
    not os.environ.get("ORION_SOAK"), reason="takes minutes: make soak (ORION_SOAK=1)"
)
