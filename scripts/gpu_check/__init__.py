# SPDX-License-Identifier: Apache-2.0
"""make gpu-check: see __main__.py."""
