# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the server, each with a sentence that names the object and the remedy."""

from __future__ import annotations

# CUresult values that the server itself gives; csrc/spec names them all.
SUCCESS = 0
INVALID_VALUE = 1
OUT_OF_MEMORY = 2
DEVICE_UNAVAILABLE = 46
NO_DEVICE = 100
INVALID_IMAGE = 200
INVALID_CONTEXT = 201
NO_BINARY_FOR_GPU = 209
INVALID_PTX = 218
UNSUPPORTED_PTX_VERSION = 222
INVALID_HANDLE = 400
NOT_FOUND = 500
ILLEGAL_ADDRESS = 700
LAUNCH_FAILED = 719
NOT_PERMITTED = 800
NOT_SUPPORTED = 801
SYSTEM_NOT_READY = 802
UNKNOWN = 999


class OrionServerError(Exception):
    """The server cannot start or go on; the text is meant for the person who started it."""


class RequestRefused(OrionServerError):
    """A running server has answered an administrator's request with an error."""


class Refusal(Exception):
    """A client is sent away: the sentence and the CUresult travel in the welcome."""

    def __init__(self, status: int, cuda_result: int, message: str) -> None:
        self.status = status
        self.cuda_result = cuda_result
        super().__init__(message)


class ProtocolError(Exception):
    """A peer sent bytes that no correct peer sends."""


class ImageError(Exception):
    """A module image cannot be loaded; `result` is what cuModuleLoadData returns."""

    def __init__(self, result: int, message: str) -> None:
        self.result = result
        super().__init__(message)
