# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes on this machine, and Orion's manifests on it."""

import sys
from pathlib import Path

# the scripts beside this package are modules by themselves: they are run by their paths, too
sys.path.append(str(Path(__file__).resolve().parent.parent))
