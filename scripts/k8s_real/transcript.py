# SPDX-License-Identifier: Apache-2.0
"""What was asked of the cluster and what it answered, as a page of docs/."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from .shell import ROOT, CannotRun

NETWORKS = ("172.17.0.0/16", "10.0.0.0/24", "10.96.0.0/16", "127.0.0.0/8", "0.0.0.0/32")
ADDRESS = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?![\w.]*\d)")
HEADER = """\
# A real cluster

`make k8s-real` builds Kubernetes from Debian's source package, starts it on a node of its own network, applies the
files of `k8s/deploy` and asks the questions below. This page is what its last run wrote; it is not edited. Images are
made of local files, as the stages of `k8s/images/Dockerfile` say; containers, kubelet, API server, scheduler and
network plugins are real. Lines that begin with `$` were run; words after a `#` say what is shown of the answer.

| | |
|---|---|
| date | {day} |
{versions}
| device | {device} |
"""


def foreign(text: str, private: Iterable[str]) -> list[str]:
    """What must not be in a page: addresses outside the cluster's networks, and the private words."""
    # a short name may be part of a random one by chance
    found = {
        word for word in private if word and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    }
    networks = [ipaddress.ip_network(n) for n in NETWORKS]
    for word in ADDRESS.findall(text):
        try:
            address = ipaddress.ip_address(word)
        except ValueError:
            continue  # a version
        if not any(address in network for network in networks):
            found.add(word)
    return sorted(found)


def private_words() -> list[str]:
    """This machine's name, and folders."""
    home = Path.home()
    folders = [str(ROOT), str(home) if home != Path("/") else ""]
    return [*folders, socket.gethostname(), os.environ.get("ORION_K8S_CACHE", "")]


class Transcript:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self._open = False  # in a block of commands

    def heading(self, text: str) -> None:
        """A part of the story."""
        self._close()
        self.lines += ["", f"## {text}"]

    def say(self, text: str) -> None:
        """A sentence between commands."""
        self._close()
        self.lines += ["", text]

    def command(self, command: str, output: str) -> None:
        """What was asked, and the answer."""
        if not self._open:
            self.lines += ["", "```"]
            self._open = True
        self.lines += [f"$ {command}", *(line.rstrip() for line in output.strip().splitlines())]

    def _close(self) -> None:
        if self._open:
            self.lines.append("```")
            self._open = False

    def page(self, versions: Mapping[str, str], device: str) -> str:
        """All of it. CannotRun if something of this machine is in it."""
        self._close()
        head = HEADER.format(
            day=date.today().isoformat(),
            versions="\n".join(f"| {name} | {version} |" for name, version in versions.items()),
            device=device,
        )
        text = head + "\n".join(self.lines) + "\n"
        found = foreign(text, private_words())
        if found:
            raise CannotRun(f"the transcript would show {', '.join(found)}: it is not written")
        return text
