# SPDX-License-Identifier: Apache-2.0
"""The manifests of k8s/deploy on a real Kubernetes: one node, in namespaces of its own, on this machine.

    make k8s-real                          about half an hour the first time, some minutes later on
    make k8s-real ARGS='--build-only'      Kubernetes' programs alone

Kubernetes is built from Debian's source package; what was built stays in ~/.cache/orion/k8s-real (ORION_K8S_CACHE).
Debian's mirror and PyPI are asked, nothing else; no image is pulled, and the node has no way to any network. What was
asked and answered is written to docs/k8s-real.md. Needs root. Ends with 0 when all held, 1 when a check failed, 2 when
this machine cannot run it, 130 after Ctrl-C; in each case all processes, mounts and control groups are gone.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import images, needs, story
from .asking import Asking
from .build import Cache
from .cluster import Cluster
from .node import Node
from .shell import ROOT, CannotRun, WentWrong, complain, say
from .transcript import Transcript

PAGE = ROOT / "docs/k8s-real.md"
LEFT = ROOT / "build/k8s-real"  # after a failure: logs, and the transcript so far
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One at a time: control groups and cache are shared."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"another `make k8s-real` uses {folder}: wait for its end") from None
        yield


def keep_traces(node: Node, transcript: Transcript) -> None:
    """What helps to understand a failure."""
    shutil.rmtree(LEFT, ignore_errors=True)
    LEFT.mkdir(parents=True)
    for program in node.programs:
        shutil.copy(program.log, LEFT)
    shutil.copytree(node.folder / "log", LEFT / "log", ignore_dangling_symlinks=True)
    (LEFT / "transcript.md").write_text("\n".join(transcript.lines) + "\n")
    say(f"logs and the transcript so far: {LEFT.relative_to(ROOT)}")


def tell(cache: Cache, work: Path, page: Path) -> None:
    """The cluster from its start to its end. work: an empty folder."""
    archive = images.make_images(work)
    debian = cache.debian
    path = [cache.programs, debian / "usr/bin", debian / "usr/sbin"]
    node = Node(work / "node", path, debian / LIBRARIES)
    transcript = Transcript()
    try:
        cluster = Cluster(node, cache)
        cluster.start(archive)
        ask = Asking(node, cluster, transcript)
        try:
            story.tell(ask)
        except CannotRun:
            print(ask.answer("get", "events", "-A"), file=sys.stderr)
            raise
        page.write_text(transcript.page(cluster.versions(), ask.device))
        say(f"all held; written: {page.relative_to(ROOT) if page.is_relative_to(ROOT) else page}")
    except BaseException:
        keep_traces(node, transcript)
        raise
    finally:
        say("removing the node")
        node.close()


def main() -> int:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build-only", action="store_true", help="fill the cache, start nothing")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/k8s-real.md")
    options = parser.parse_args()
    folder = os.environ.get("ORION_K8S_CACHE") or "~/.cache/orion/k8s-real"
    cache = Cache(Path(folder).expanduser().absolute())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        needs.look(cache.folder, cache.version is not None)
        with alone(cache.folder):
            say(f"Kubernetes {cache.fill()}")
            if not options.build_only:
                work = cache.folder / "work"
                shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
                work.mkdir()
                try:
                    tell(cache, work, options.page)
                finally:
                    shutil.rmtree(work)
    except CannotRun as error:
        complain(error)
        return 1 if isinstance(error, WentWrong) else 2
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
