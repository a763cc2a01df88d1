# SPDX-License-Identifier: Apache-2.0
"""The device plugin: offers the vGPUs of this node's orion-server to the kubelet."""
