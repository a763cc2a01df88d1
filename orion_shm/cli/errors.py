# SPDX-License-Identifier: Apache-2.0
"""How commands fail: an exception with one sentence for the user and the exit code to use."""

from __future__ import annotations

EXIT_FAILED = 1  # the command did its work and the answer is no
EXIT_USAGE = 2  # it could not begin: wrong arguments, no server, something not installed
EXIT_NOT_EXECUTABLE = 126  # as shells do
EXIT_NOT_FOUND = 127
EXIT_SIGNAL = 128  # plus the signal's number


class CommandError(Exception):
    """Ends the command; the text names the cause and the remedy."""

    def __init__(self, sentence: str, code: int = EXIT_USAGE) -> None:
        super().__init__(sentence)
        self.code = code
