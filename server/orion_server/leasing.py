# SPDX-License-Identifier: Apache-2.0
"""What the supervisor does for a controller: its tokens, its orders, and the agent process that talks to it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from . import errors, wire
from .config import Config
from .errors import Refusal
from .greeter import Guest
from .lease_tokens import LeaseTokens, decode_id
from .session import Session

if TYPE_CHECKING:
    from .supervisor import Supervisor

log = logging.getLogger("orion.server")

AGENT_SECONDS = 1.0  # between two starts of it


class Leasing:
    def __init__(self, supervisor: Supervisor, config: Config) -> None:
        self._supervisor = supervisor
        self._config = config
        self.tokens = LeaseTokens()
        self.epoch = time.monotonic_ns() // 1000  # what lives now does not outlive this supervisor
        self._agent: subprocess.Popen[bytes] | None = None
        self._agent_pidfd = -1
        self._agent_due = 0.0

    # --- sessions

    def begin(self, guest: Guest) -> None:
        """Its token is in use from now on. Refusal: it is worth nothing, or used by another."""
        token_id = guest.token_id
        if decode_id(token_id) is None:
            return
        # who tries another transport is the same program, not another one with the same token
        pid = guest.hello.pid
        again = Refusal(wire.STATUS_REFUSED, errors.DEVICE_UNAVAILABLE, "its client has come again")
        self._supervisor.waiting.remove(
            lambda other: other.token_id == token_id and other.hello.pid == pid, again
        )
        for session in self._supervisor.sessions:
            if session.token_id == token_id and not session.used and session.hello.pid == pid:
                self._supersede(session)
        problem = self.tokens.begin(token_id)
        if problem is not None:
            log.info("token %s is refused: %s", token_id, problem)
            why = f"the lease of this token is not to be had: {problem}"
            raise Refusal(wire.STATUS_REFUSED, errors.NOT_PERMITTED, why)

    def give_back(self, guest: Guest) -> None:
        """It was not admitted: its client, or whoever gets the token next, may try again."""
        self.tokens.finish(guest.token_id, used=False)

    def finish(self, session: Session) -> None:
        self.tokens.finish(session.token_id, session.used)
        session.token_id = ""

    def _supersede(self, session: Session) -> None:
        """Its client has tried a transport that did not work, and comes again on another."""
        session.lease.close()
        self.finish(session)
        session.client_gone = True
        self._supervisor.sessions.end(session)

    # --- orders, which come over the administrator's socket

    def token_key(self, request: dict[str, Any]) -> dict[str, Any]:
        """{"op": "token_key", "key": HEX}"""
        try:
            key = bytes.fromhex(str(request.get("key")))
        except ValueError:
            key = b""
        if len(key) != 32:
            return {"error": "a key of tokens is 32 bytes in hex"}
        self.tokens.set_key(key)
        return {"taken": True}

    def revoke(self, request: dict[str, Any]) -> dict[str, Any]:
        """{"op": "revoke", "lease": HEX, "part": N}: whoever uses it is ended, nobody can come any more."""
        try:
            lease, part = int(str(request.get("lease")), 16), int(str(request.get("part")))
        except ValueError:
            return {"error": "a lease is 16 hex digits, a part a number"}
        self.tokens.revoke(lease, part)
        why = "its lease was taken back by the controller"
        refusal = Refusal(wire.STATUS_REFUSED, errors.DEVICE_UNAVAILABLE, why)
        self._supervisor.waiting.remove(lambda g: is_of(g.token_id, lease, part), refusal)
        for session in self._supervisor.sessions:
            if is_of(session.token_id, lease, part):
                session.blame(errors.DEVICE_UNAVAILABLE, why)
                self._supervisor.sessions.end(session)
        return {"revoked": True}

    def status(self) -> dict[str, Any]:
        """What the agent wants to know beyond what `orion smi` shows."""
        return {
            "epoch": self.epoch,
            "clock": time.monotonic(),
            "key_id": self.tokens.key_id,
        }

    # --- the agent

    def turn(self, now: float) -> None:
        """Starts the agent if there should be one, and again after it has died."""
        if not self._config.controller or self._agent_pidfd >= 0 or now < self._agent_due:
            return
        self._agent_due = now + AGENT_SECONDS
        try:
            self._agent = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, env=self._environment()
            )
            self._agent_pidfd = os.pidfd_open(self._agent.pid)
        except OSError as e:
            log.warning("cannot start the process that talks to the controller: %s", e)
            return
        self._supervisor.loop.watch(self._agent_pidfd, self._on_agent_exit)

    def _command(self) -> list[str]:
        config = self._config
        command = [sys.executable, "-m", "orion_server.agent", "--socket", os.fspath(config.socket)]
        command += ["--controller", config.controller]
        for flag, text in (("--name", config.name), ("--address", config.address)):
            command += [flag, text] if text else []
        if config.controller_ca is not None:
            command += ["--ca-file", os.fspath(config.controller_ca)]
        return [*command, "--insecure"] if config.insecure_tcp else command

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        environment["ORION_SERVER_KEY"] = self._config.server_key
        return environment

    def _on_agent_exit(self) -> None:
        self._close_pidfd()
        code = self._agent.wait() if self._agent is not None else None
        log.warning(
            "the process that talks to the controller has ended (%s); it is started anew", code
        )

    def _close_pidfd(self) -> None:
        self._supervisor.loop.unwatch(self._agent_pidfd)
        if self._agent_pidfd >= 0:
            os.close(self._agent_pidfd)
        self._agent_pidfd = -1

    def close(self) -> None:
        """After the control socket has closed: the agent says goodbye to the controller by itself."""
        self._close_pidfd()
        if self._agent is not None:
            try:
                self._agent.wait(4.0)
            except subprocess.TimeoutExpired:
                self._agent.kill()
                self._agent.wait()


def is_of(token_id: str, lease: int, part: int) -> bool:
    terms = decode_id(token_id)
    return terms is not None and terms.key == (lease, part)
