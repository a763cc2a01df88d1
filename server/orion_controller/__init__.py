# SPDX-License-Identifier: Apache-2.0
"""The controller: knows the servers by their heartbeats, leases their vGPUs, and shows who uses what."""
