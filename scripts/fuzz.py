# SPDX-License-Identifier: Apache-2.0
"""`make fuzz`: every decoder against hostile input, under AddressSanitizer and UndefinedBehaviorSanitizer.

Where clang has libFuzzer, each target of tests/fuzz runs with it, the core instrumented: it keeps every input that
takes a branch nothing has taken before, from the committed seeds on (in build/fuzz/corpus, so a later run goes on from
there). Elsewhere our own driver mutates the seeds blindly; such a run finds far less.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEEDS = ROOT / "tests" / "fuzz" / "corpus"
# A record may announce gigabytes, of which nothing is touched; a leak of a run is looked for at its end.
SANITIZERS = {
    "ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


@dataclass(frozen=True)
class Run:
    target: str
    executions: int
    coverage: str
    failed: bool


def libfuzzer() -> str | None:
    """The clang that links libFuzzer, if there is one."""
    clang = os.environ.get("CLANG") or shutil.which("clang")
    if not clang:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text(
            "int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && !n; }\n"
        )
        command = [
            clang,
            "-fsanitize=fuzzer,address,undefined",
            str(source),
            "-o",
            f"{folder}/probe",
        ]
        made = subprocess.run(command, capture_output=True, check=False)
    return clang if made.returncode == 0 else None


def build(folder: Path, clang: str | None, targets: list[str]) -> None:
    if not (folder / "build.ninja").exists():
        options = ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=1"]
        environment = dict(os.environ)
        if clang:
            options.append("-Dfuzz=true")
            environment["CC"] = clang
        setup = ["meson", "setup", str(folder), *options]
        subprocess.run(setup, cwd=ROOT, env=environment, check=True)
    programs = [f"fuzz_{target}" for target in targets]
    subprocess.run(["meson", "compile", "-C", str(folder), *programs], check=True)


def run(folder: Path, target: str, seconds: int, guided: bool) -> Run:
    program = folder / "tests" / "fuzz" / f"fuzz_{target}"
    environment = {**os.environ, **SANITIZERS, "ORION_FUZZ_SECONDS": str(seconds)}
    command = [str(program)]
    if guided:
        found = folder / "corpus" / target
        found.mkdir(parents=True, exist_ok=True)
        command += [
            f"-max_total_time={seconds}",
            "-max_len=65536",
            "-rss_limit_mb=4096",
            f"-artifact_prefix={folder}/{target}-",
            str(found),
        ]
    command.append(str(SEEDS / target))
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    text = done.stdout.decode(errors="replace")
    failed = done.returncode != 0
    if failed:
        print("\n".join(text.splitlines()[-80:]))
        print(f"{target}: failed; to see it again: {program} FILE, with the file named above")
    return Run(target, *counts(text, guided), failed)


def counts(text: str, guided: bool) -> tuple[int, str]:
    """How many inputs there were, and what of the code they reached."""
    if not guided:
        inputs = re.search(r"(\d+) inputs", text)
        return int(inputs[1]) if inputs else 0, "not measured"
    status = re.findall(r"^#(\d+)\s.*cov: (\d+) ft: (\d+)", text, re.MULTILINE)
    done = re.search(r"Done (\d+) runs", text)
    if not status:
        return 0, "none"
    executions, edges, features = status[-1]
    return int(done[1] if done else executions), f"{edges} edges, {features} features"


def main() -> int:
    known = sorted(path.name for path in SEEDS.iterdir())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("target", nargs="*", help=f"of {', '.join(known)}; all, if none is named")
    options = parser.parse_args()
    targets = options.target or known
    if unknown := set(targets) - set(known):
        parser.error(f"no target {', '.join(sorted(unknown))} in {SEEDS}")
    clang = libfuzzer()
    if not clang:
        print(
            "no clang with libFuzzer here (Debian: clang, libclang-rt-14-dev): our own driver mutates the seeds blindly"
        )
    folder = ROOT / "build" / ("fuzz" if clang else "sanitize")
    build(folder, clang, targets)
    print(f"{'target':12} {'executions':>12} {'per second':>11}  coverage", flush=True)
    failed = []
    for target in targets:
        one = run(folder, target, options.seconds, clang is not None)
        rate = one.executions // max(options.seconds, 1)
        print(f"{target:12} {one.executions:12} {rate:11}  {one.coverage}", flush=True)
        if one.failed:
            failed.append(target)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
