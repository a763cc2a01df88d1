# SPDX-License-Identifier: Apache-2.0
"""Of several pods with the same program, lets the one that holds a Lease of Kubernetes run it."""
