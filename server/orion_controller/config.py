# SPDX-License-Identifier: Apache-2.0
"""The controller's settings: /etc/orion/controller.conf, environment, flags."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orion_server import settings
from orion_server.errors import OrionServerError
from orion_server.settings import Setting, Value

from .ledger import Rules
from .placement import POLICIES

DEFAULT_FILE = Path("/etc/orion/controller.conf")
DEFAULT_PORT = 9123
LEVELS = ("debug", "info", "warning", "error")


def default_state_dir() -> str:
    if os.geteuid() == 0:
        return "/var/lib/orion"
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(
        os.path.expanduser("~"), ".local", "state"
    )
    return os.path.join(base, "orion")


def key(value: str, name: str) -> str:
    """An HTTP header's credentials: RFC 6750 says which characters they may have."""
    allowed = "-._~+/="
    if len(value) < 8 or not all(c.isascii() and (c.isalnum() or c in allowed) for c in value):
        raise OrionServerError(
            f"{name} is no key: 8 or more letters, digits or any of {allowed} (openssl rand -hex 32 makes one)"
        )
    return value


SETTINGS = (
    Setting(
        "bind",
        "addresses to listen on, separated by commas",
        settings.text,
        "127.0.0.1",
        "controller",
        "listen_ip",
        ("BIND",),
        "ADDR[,ADDR]",
    ),
    Setting(
        "port",
        "port for HTTP and for programs that look for a server",
        settings.whole(0, 65535),
        str(DEFAULT_PORT),
        "controller",
        "listen_port",
        ("PORT",),
        "N",
    ),
    Setting(
        "state_dir",
        "folder of the database",
        settings.folder,
        default_state_dir(),
        "controller",
        "state_dir",
        (),
        "DIR",
    ),
    Setting(
        "policy",
        "where vGPUs go: pack fills one device after another, spread uses all",
        settings.choice(*POLICIES),
        "pack",
        "controller",
        "policy",
        (),
        "|".join(POLICIES),
    ),
    Setting(
        "insecure",
        "serve other hosts without keys, and send tokens there unencrypted",
        settings.switch,
        "false",
        "controller",
        "insecure",
        ("ORION_INSECURE_TCP",),
        switch=True,
    ),
    Setting(
        "token_seconds",
        "in which a granted vGPU must be used for the first time",
        settings.seconds(1, 3600),
        "30",
        "controller",
        "token_seconds",
        (),
        "S",
    ),
    Setting(
        "lost_seconds",
        "without a heartbeat, and a server gets no new programs",
        settings.seconds(2, 3600),
        "10",
        "controller",
        "lost_seconds",
        (),
        "S",
    ),
    Setting(
        "forget_seconds",
        "without a heartbeat, and its leases are dropped",
        settings.seconds(5, 86400),
        "60",
        "controller",
        "forget_seconds",
        (),
        "S",
    ),
    Setting(
        "queue",
        "programs that may wait for a vGPU",
        settings.whole(0, 1000000),
        "10000",
        "controller",
        "queue",
        (),
        "N",
    ),
    Setting(
        "wait_most",
        "that one HTTP request may wait for a vGPU",
        settings.seconds(0, 86400),
        "3600",
        "controller",
        "wait_most",
        (),
        "S",
    ),
    Setting(
        "request_seconds",
        "in which a request must be here in full",
        settings.seconds(0.1, 60),
        "5",
        "controller",
        "request_seconds",
        (),
        "S",
    ),
    Setting(
        "log",
        "least level of the log: " + ", ".join(LEVELS),
        settings.choice(*LEVELS),
        "info",
        "controller",
        "log_level",
        ("LOG", "LOG_LEVEL"),
        "LEVEL",
    ),
    Setting(
        "tls_port",
        "port for HTTPS, beside the other one",
        settings.whole(0, 65535),
        "9124",
        "tls",
        "port",
        (),
        "N",
    ),
    Setting(
        "certificate",
        "PEM file: speak HTTPS at the TLS port",
        settings.folder,
        None,
        "tls",
        "certificate",
        (),
        "FILE",
    ),
    Setting(
        "certificate_key",
        "PEM file of its private key",
        settings.folder,
        None,
        "tls",
        "key",
        (),
        "FILE",
    ),
    Setting(
        "client_key",
        "who asks for leases must have it",
        key,
        None,
        "authentication",
        "client-key",
        ("ORION_CLIENT_KEY",),
        secret=True,
    ),
    Setting(
        "server_key",
        "servers must have it",
        key,
        None,
        "authentication",
        "server-key",
        ("ORION_SERVER_KEY",),
        secret=True,
    ),
    Setting(
        "administrator_key",
        "whoever drains servers or ends leases must have it; without one, STATE_DIR/administrator.key is made",
        key,
        None,
        "authentication",
        "administrator-key",
        ("ORION_ADMINISTRATOR_KEY",),
        secret=True,
    ),
)


@dataclass(frozen=True)
class Config:
    bind: tuple[str, ...] = ("127.0.0.1",)
    port: int = DEFAULT_PORT
    state_dir: Path = Path(".")
    insecure: bool = False
    log: str = "info"
    tls_port: int = 9124
    certificate: Path | None = None
    certificate_key: Path | None = None
    client_key: str = ""
    server_key: str = ""
    administrator_key: str = ""
    rules: Rules = field(default_factory=Rules)
    heartbeat_seconds: float = 1.0
    wait_most: float = 3600.0  # of one HTTP request
    request_seconds: float = 5.0  # in which a request must be here in full
    body_most: int = 1 << 20


def read(
    arguments: argparse.Namespace, environment: Mapping[str, str], path: Path | None
) -> tuple[Config, dict[str, Value]]:
    values = settings.resolve(
        SETTINGS, arguments, environment, path or DEFAULT_FILE, required=path is not None
    )
    v = {name: value.value for name, value in values.items()}
    if (v["certificate"] is None) != (v["certificate_key"] is None):
        raise OrionServerError(
            "certificate and certificate_key go together: one of them is not set"
        )
    if v["forget_seconds"] <= v["lost_seconds"]:
        raise OrionServerError("forget_seconds must be more than lost_seconds")
    config = Config(
        tuple(a.strip() for a in v["bind"].split(",") if a.strip()),
        v["port"],
        v["state_dir"],
        v["insecure"],
        v["log"],
        v["tls_port"],
        v["certificate"],
        v["certificate_key"],
        v["client_key"] or "",
        v["server_key"] or "",
        v["administrator_key"] or "",
        Rules(
            v["policy"],
            v["token_seconds"],
            v["lost_seconds"],
            v["forget_seconds"],
            queue_most=v["queue"],
        ),
        wait_most=v["wait_most"],
        request_seconds=v["request_seconds"],
    )
    return config, values
