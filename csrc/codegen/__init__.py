# SPDX-License-Identifier: Apache-2.0
"""Turns csrc/spec into C: load -> check -> emit. Run by meson; writes into the build folder only."""
