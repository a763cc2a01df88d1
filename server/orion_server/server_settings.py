# SPDX-License-Identifier: Apache-2.0
"""The settings of orion-server: /etc/orion/server.conf, environment, flags, and the Config that they come to."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import addresses, drivers, settings
from .config import (
    DEFAULT_PORT,
    TLS_MODES,
    Config,
    default_memory,
    default_state_dir,
    parse_bind,
    parse_factor,
    parse_lease_memory,
    parse_metrics,
    parse_mode,
    parse_size,
)
from .errors import OrionServerError
from .limits import Mode, Policy
from .paths import default_socket, socket_path
from .settings import Setting, Value

DEFAULT_FILE = Path("/etc/orion/server.conf")
LEVELS = ("debug", "info", "warning", "error")


def level(value: str, name: str) -> str:
    """Programs know a level more, and take it from the same variable."""
    return "debug" if value == "trace" else settings.choice(*LEVELS)(value, name)


def octal(value: str, name: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise OrionServerError(f"{name} {value!r} is no octal number such as 660") from None


def devshm(value: str, name: str) -> str:
    if value.rstrip("/") != "/dev/shm":
        raise OrionServerError(
            f"{name}={value!r}: clients look for shared memory in /dev/shm alone"
        )
    return value


SETTINGS = (
    Setting(
        "socket",
        "unix socket for clients",
        lambda v, _: socket_path(v),
        metavar="PATH",
        section="server",
        key="socket",
    ),
    Setting(
        "mode",
        "permissions of the socket (666 for root, else 600)",
        octal,
        metavar="OCTAL",
        section="server",
        key="socket_mode",
    ),
    Setting(
        "bind",
        "also listen on TCP; the same as bind_addr and listen_port together",
        parse_bind,
        metavar="ADDR:PORT",
    ),
    Setting(
        "bind_addr",
        "address of the TCP socket; auto: the container bridge's, else HOST_IP",
        settings.text,
        None,
        "server",
        "bind_addr",
        ("BIND_ADDR",),
        "ADDR",
    ),
    Setting(
        "bind_net",
        "network interface whose address it shall be",
        settings.text,
        None,
        "server",
        "bind_net",
        ("BIND_NET",),
        "NAME",
    ),
    Setting(
        "port",
        f"port of the TCP socket ({DEFAULT_PORT} if only an address is given; with neither, there is none)",
        settings.whole(0, 65535),
        None,
        "server",
        "listen_port",
        ("PORT",),
        "N",
    ),
    Setting(
        "insecure_tcp",
        "send data of clients on other hosts unencrypted; else they are refused",
        settings.switch,
        "false",
        "server",
        "insecure_tcp",
        ("ORION_INSECURE_TCP",),
        switch=True,
    ),
    Setting(
        "token_file",
        "a line ID.SECRET for each token, mode 0600; clients over TCP then need one",
        settings.folder,
        None,
        "authentication",
        "token_file",
        ("ORION_TOKEN_FILE",),
        "FILE",
    ),
    Setting(
        "require_token",
        "clients on the unix socket need a token, too",
        settings.switch,
        "false",
        "authentication",
        "require_token",
        switch=True,
    ),
    Setting(
        "tls",
        "encrypt what travels over TCP, by keys made of tokens: auto (clients that want it), off, required",
        settings.choice(*TLS_MODES),
        "auto",
        "server",
        "tls",
        ("ORION_TLS",),
        "|".join(TLS_MODES),
    ),
    Setting(
        "enable_shm",
        "let clients on this host use shared memory",
        settings.switch,
        "true",
        "server",
        "enable_shm",
        metavar="BOOL",
    ),
    Setting(
        "enable_rdma",
        "let clients that ask for it use UCX, which uses RDMA where it finds it",
        settings.switch,
        "true",
        "server",
        "enable_rdma",
        metavar="BOOL",
    ),
    Setting(
        "shm_path_base",
        "folder of shared memory files",
        devshm,
        "/dev/shm/",
        "server-shm",
        "shm_path_base",
        metavar="DIR",
    ),
    Setting(
        "controller",
        "controller to register with: HOST:PORT or https://HOST:PORT",
        settings.text,
        None,
        "controller",
        "controller_addr",
        ("ORION_CONTROLLER",),
        "ADDR",
    ),
    Setting(
        "controller_ca",
        "PEM file of the authority behind the controller's certificate",
        settings.folder,
        None,
        "controller",
        "ca_file",
        metavar="FILE",
    ),
    Setting(
        "name",
        "this server's at the controller (host name and port)",
        settings.text,
        None,
        "controller",
        "server_name",
        ("ORION_SERVER_NAME",),
        "NAME",
    ),
    Setting(
        "address",
        "HOST:PORT for clients, where they cannot use the bound one",
        settings.text,
        None,
        "controller",
        "server_addr",
        metavar="HOST:PORT",
    ),
    Setting(
        "server_key",
        "this server's key at the controller",
        settings.text,
        None,
        "authentication",
        "server-key",
        ("ORION_SERVER_KEY",),
        secret=True,
    ),
    Setting(
        "device",
        "auto, " + ", ".join(drivers.DEVICES),
        settings.choice("auto", *drivers.DEVICES),
        "cpu",
        "server",
        "device",
        ("ORION_DEVICE",),
        "NAME",
    ),
    Setting(
        "memory",
        "device memory, e.g. 4G (half of the host's)",
        parse_size,
        None,
        "server",
        "memory",
        metavar="SIZE",
    ),
    Setting(
        "vgpu",
        "clients at a time",
        settings.whole(1, 4096),
        "64",
        "server",
        "vgpu_count",
        ("VGPU",),
        "N",
    ),
    Setting(
        "share_mode",
        "how clients share the device's time: " + ", ".join(mode.value for mode in Mode),
        parse_mode,
        "fair",
        "server",
        "share_mode",
        ("ORION_SHARE_MODE",),
        "|".join(mode.value for mode in Mode),
    ),
    Setting(
        "lease_memory",
        "memory promised to a client that does not ask for any; rest: nothing, it takes what is not promised to "
        "others; share: memory divided by the vGPUs",
        settings.text,
        "rest",
        "server",
        "lease_memory",
        ("ORION_LEASE_MEMORY",),
        "SIZE|share|rest",
    ),
    Setting(
        "memory_overcommit",
        "promise clients up to that many times the memory there is",
        parse_factor,
        "1",
        "server",
        "memory_overcommit",
        metavar="FACTOR",
    ),
    Setting(
        "metrics_port",
        "metrics for Prometheus, on 127.0.0.1 unless ADDR is named",
        parse_metrics,
        None,
        "server",
        "metrics_port",
        ("ORION_METRICS_PORT",),
        "[ADDR:]PORT",
    ),
    Setting(
        "threads",
        "multiprocessors of the CPU device, 0: all cores",
        settings.whole(0, 1024),
        "0",
        "server",
        "threads",
        metavar="N",
    ),
    Setting(
        "state_dir",
        "object cache (~/.cache/orion)",
        settings.folder,
        None,
        "server",
        "state_dir",
        ("ORION_CACHE_DIR",),
        "DIR",
    ),
    Setting(
        "log_level",
        ", ".join(LEVELS),
        level,
        "info",
        "server-log",
        "log_level",
        ("LOG_LEVEL", "ORION_LOG"),
        "LEVEL",
    ),
    Setting(
        "log_with_time",
        "each line begins with the time",
        settings.switch,
        "true",
        "server-log",
        "log_with_time",
        metavar="BOOL",
    ),
    Setting(
        "log_to_screen",
        "log to stderr",
        settings.switch,
        "true",
        "server-log",
        "log_to_screen",
        metavar="BOOL",
    ),
    Setting(
        "log_to_file",
        "log to the file as well",
        settings.switch,
        "false",
        "server-log",
        "log_to_file",
        metavar="BOOL",
    ),
    Setting(
        "log_file",
        "that file",
        settings.folder,
        "/var/log/orion/server.log",
        "server-log",
        "log_file",
        metavar="FILE",
    ),
)

THROTTLE = "share_mode and each program's ORION_RATIO share the device's time, docs/sharing.md"

# Keys that files written for other servers may have. They are no mistakes, and do nothing here.
IGNORED = {
    "server.enable_kvm": "virtual machines come over TCP",
    "server.ibverbs_device": "UCX finds devices by itself, or by UCX_NET_DEVICES",
    "server-nccl.comm_id": "NCCL runs in the program, unchanged",
    "server-log.file_log_level": "log_level is for both",
    "server-shm.shm_group_name": "files belong to the client's user",
    "server-shm.shm_user_name": "files belong to the client's user",
    "server-shm.shm_buffer_size": "buffers have the size that the wire format gives them",
    "throttle.throttle_level": THROTTLE,
    "throttle.enable_computation_throttle": THROTTLE,
    "throttle.computation_throttle_mode2": THROTTLE,
}


def read(
    arguments: argparse.Namespace, environment: Mapping[str, str], private: bool
) -> tuple[Config, dict[str, Value]]:
    """A private server, which has a program for a parent, follows its flags alone."""
    if private:
        kept = ("ORION_DEVICE", "ORION_INSECURE_TCP", "ORION_TLS", "ORION_CACHE_DIR", "ORION_LOG")
        environment = {k: v for k, v in environment.items() if k in kept}
    path = arguments.config or (Path(os.devnull) if private else DEFAULT_FILE)
    values = settings.resolve(
        SETTINGS,
        arguments,
        environment,
        path,
        required=arguments.config is not None,
        ignored=IGNORED,
    )
    return config_of({n: v.value for n, v in values.items()}, environment, private), values


def config_of(v: Mapping[str, Any], environment: Mapping[str, str], private: bool) -> Config:
    device = drivers.choose(v["device"])
    if v["require_token"] and not (v["token_file"] or v["controller"]):
        raise OrionServerError("--require-token needs --token-file, or nobody could come in")
    if v["tls"] == "required" and not (v["token_file"] or v["controller"]):
        raise OrionServerError("--tls required needs --token-file: keys are made of tokens")
    mode = v["mode"]
    if mode is None:
        mode = 0o666 if os.geteuid() == 0 and not private else 0o600
    memory = v["memory"]
    if memory is None:
        memory = 0 if device == "cuda" else default_memory()
    return Config(
        socket=v["socket"] or default_socket(),
        bind=bind_of(v, environment),
        insecure_tcp=v["insecure_tcp"],
        token_file=v["token_file"],
        require_token=v["require_token"],
        tls=v["tls"],
        enable_shm=v["enable_shm"],
        enable_rdma=v["enable_rdma"],
        controller=v["controller"] or "",
        controller_ca=v["controller_ca"],
        name=v["name"] or "",
        address=v["address"] or "",
        server_key=v["server_key"] or "",
        device=device,
        memory=memory,
        vgpu=v["vgpu"],
        sharing=Policy(
            mode=v["share_mode"],
            lease_memory=parse_lease_memory(v["lease_memory"], "lease_memory", memory, v["vgpu"]),
            overcommit=v["memory_overcommit"],
        ),
        metrics=v["metrics_port"],
        threads=v["threads"],
        state_dir=v["state_dir"] or default_state_dir(),
        mode=mode,
    )


def bind_of(v: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, int] | None:
    """Where to listen on TCP; None: nobody asked for it."""
    if v["bind"] is not None:
        found: tuple[str, int] = v["bind"]
        return found
    address, net, port = v["bind_addr"], v["bind_net"], v["port"]
    if address is None and net is None and port is None:
        return None
    if net is not None:
        address = addresses.of_net(net, "bind_net")
    elif address == "auto":
        address = addresses.automatic(environment, "bind_addr")
    return (address or "127.0.0.1").strip("[]"), DEFAULT_PORT if port is None else port
