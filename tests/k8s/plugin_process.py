# SPDX-License-Identifier: Apache-2.0
"""`orion-device-plugin` as its DaemonSet starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


class PluginProcess:
    def __init__(self, folder: Path, address: str, *arguments: str, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.log = folder / "plugin.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [
                    Path(sys.executable).with_name("orion-device-plugin"),
                    *("--kubelet-dir", str(folder / "kubelet")),
                    *("--pod-resources", str(folder / "pods" / "kubelet.sock")),
                    *("--library-dir", str(folder / "lib")),
                    *("--http", f"127.0.0.1:{self.port}"),
                    *arguments,
                ],
                env={**os.environ, "ORION_SERVER": address, **environment},
                stderr=log,
            )

    def text(self) -> str:
        return self.log.read_text()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)
