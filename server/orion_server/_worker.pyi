# SPDX-License-Identifier: Apache-2.0
from typing import Any

def run(
    compiler: object,
    *,
    device: str,
    threads: int,
    epoch: int,
    control_fd: int,
    stats_fd: int,
    lease_fd: int,
    parent: int,
    uid: int,
    gid: int,
    data_bytes: int,
    files: int,
) -> int: ...
def describe(device: str, memory: int, threads: int) -> dict[str, Any]: ...
def symbols() -> dict[str, int]: ...
def ask(kind: int, size: int, text: bytes) -> tuple[int, int, int] | None: ...
def tell(kind: int, result: int, text: bytes) -> None: ...
def enter_cage(uid: int, gid: int, data_bytes: int, files: int, driver: bool = False) -> None: ...
