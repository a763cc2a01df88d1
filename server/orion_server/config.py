# SPDX-License-Identifier: Apache-2.0
"""The server's configuration: one frozen dataclass that command line, environment and documentation derive from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from .errors import OrionServerError
from .limits import Mode, Policy
from .paths import default_socket

DEFAULT_PORT = 9960
TLS_MODES = ("auto", "off", "required")
UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Config:
    socket: Path = field(metadata={"help": "unix socket that clients on this host connect to"})
    bind: tuple[str, int] | None = field(
        default=None,
        metadata={
            "help": "ADDR:PORT for clients without the unix socket; environment BIND_ADDR and PORT"
        },
    )
    insecure_tcp: bool = field(
        default=False,
        metadata={
            "help": "data of clients on other hosts may travel unencrypted; environment ORION_INSECURE_TCP=1"
        },
    )
    token_file: Path | None = field(
        default=None,
        metadata={
            "help": "file with a line ID.SECRET for each token, mode 0600; TCP clients need one then"
        },
    )
    require_token: bool = field(
        default=False, metadata={"help": "clients on the unix socket need a token as well"}
    )
    tls: str = field(
        default="auto",
        metadata={
            "help": "encryption over TCP, which needs tokens: auto (clients that want it), off, required; "
            "environment ORION_TLS"
        },
    )
    enable_shm: bool = field(
        default=True, metadata={"help": "clients on this host may use shared memory"}
    )
    enable_rdma: bool = field(default=True, metadata={"help": "clients may use UCX"})
    controller: str = field(
        default="", metadata={"help": "HOST:PORT of the controller to register with"}
    )
    controller_ca: Path | None = None
    name: str = field(default="", metadata={"help": "this server's, at the controller"})
    address: str = field(
        default="", metadata={"help": "HOST:PORT for clients, where that is not the bound one"}
    )
    server_key: str = field(default="", repr=False)
    device: str = field(
        default="cpu",
        metadata={"help": "cpu (runs kernels), cuda (a GPU's driver does), null (counts them)"},
    )
    memory: int = field(default=0, metadata={"help": "device memory; default: half of the host's"})
    vgpu: int = field(default=64, metadata={"help": "clients at a time; environment VGPU"})
    threads: int = field(
        default=0, metadata={"help": "multiprocessors of the CPU device; default: one per core"}
    )
    sharing: Policy = field(
        default_factory=Policy, metadata={"help": "of memory and time; docs/sharing.md"}
    )
    metrics: tuple[str, int] | None = field(
        default=None, metadata={"help": "where Prometheus may ask; docs/metrics.md"}
    )
    state_dir: Path = field(
        default_factory=lambda: default_state_dir(), metadata={"help": "object cache"}
    )
    cache_bytes: int = field(
        default=1 << 30, metadata={"help": "object cache of one user, at most"}
    )
    mode: int = field(default=0o600, metadata={"help": "permissions of the socket, octal"})


def default_state_dir() -> Path:
    named = os.environ.get("ORION_CACHE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "orion"


def host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def default_memory() -> int:
    """Half of what the host, or the control group we are in, has; whole 64 MiB."""
    most = host_memory()
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            most = min(most, int(text))
    return max(most // 2 >> 26 << 26, 64 << 20)


def parse_size(text: str, name: str) -> int:
    """ "4G", "512M", "2048" (MiB) as bytes."""
    number, unit = text.strip().upper().removesuffix("IB").removesuffix("B"), ""
    if number and number[-1] in "KMGT":
        number, unit = number[:-1], number[-1]
    try:
        value = float(number) * UNITS[unit]
    except ValueError:
        value = -1
    if not 1 << 20 <= value <= 1 << 50:
        raise OrionServerError(
            f"{name}={text!r} is no memory size: write for example 4G, 512M or 2048 (MiB)"
        )
    return int(value)


def parse_count(text: str, name: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise OrionServerError(f"{name}={text!r} is no whole number from {least} to {most}")
    return value


def parse_mode(text: str, name: str) -> Mode:
    try:
        return Mode(text)
    except ValueError:
        known = ", ".join(mode.value for mode in Mode)
        raise OrionServerError(f"{name}={text!r} is no way to share: choose {known}") from None


def parse_factor(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1.0 <= value <= 1024.0:
        raise OrionServerError(f"{name}={text!r} is no factor from 1 to 1024")
    return value


def parse_lease_memory(text: str, name: str, memory: int, vgpu: int) -> int:
    """ "share" is the device's memory divided by its vGPUs; "rest" promises nothing."""
    if text == "rest":
        return 0
    if text != "share":
        return parse_size(text, name)
    if not memory:
        raise OrionServerError(f"{name}=share needs --memory on this device")
    return memory // vgpu


def parse_bind(text: str, name: str) -> tuple[str, int]:
    address, colon, port = text.rpartition(":")
    if not colon:
        address, port = text, str(DEFAULT_PORT)
    return address.strip("[]") or "127.0.0.1", parse_count(port, name, 0, 65535)


def parse_metrics(text: str, name: str) -> tuple[str, int]:
    """PORT on loopback, or ADDR:PORT."""
    address, _, port = text.rpartition(":")
    return address.strip("[]") or "127.0.0.1", parse_count(port, name, 0, 65535)


def default_config() -> Config:
    return Config(socket=default_socket())
