# SPDX-License-Identifier: Apache-2.0
"""The cuGetProcAddress table against what a real driver answers, and the search in it."""

from __future__ import annotations

import ctypes
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from codegen.__main__ import generate, read_spec
from codegen.emit_proc import variants
from codegen.model import Spec

HERE = Path(__file__).resolve().parent
SPEC = HERE.parents[1] / "csrc" / "spec"


@pytest.fixture(scope="module")
def spec() -> Spec:
    return read_spec(SPEC)


def known_variants() -> dict[str, list[tuple[int, str]]]:
    result = {}
    for line in (HERE / "variants.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        base, *pairs = line.split()
        result[base] = [
            (int(v), "" if s == "-" else s) for v, s in (pair.split(":") for pair in pairs)
        ]
    return result


def test_names_with_several_versions_agree_with_a_real_driver(spec: Spec) -> None:
    ours: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for base, per_thread, version, symbol in variants(spec):
        if not per_thread:
            ours[base].append((version, symbol.removeprefix(base)))
    assert {base: rows for base, rows in ours.items() if len(rows) > 1} == known_variants()


def test_per_thread_variants_begin_with_cuda_7(spec: Spec) -> None:
    rows = [row for row in variants(spec) if row[1]]
    assert rows
    assert all(version >= 7000 for _, _, version, _ in rows)
    assert all(symbol.endswith(("_ptds", "_ptsz")) for *_, symbol in rows)


def test_runtime_asks_for_names_that_exist(spec: Spec) -> None:
    """Versions that cudart is known to ask for, among them old ones of names that have newer variants."""
    rows = set(variants(spec))
    for base, version, symbol in (
        ("cuDevicePrimaryCtxRelease", 7000, "cuDevicePrimaryCtxRelease"),
        ("cuDeviceGetUuid", 9020, "cuDeviceGetUuid"),
        ("cuCtxGetDevice", 13000, "cuCtxGetDevice_v2"),
        ("cuEventElapsedTime", 12080, "cuEventElapsedTime_v2"),
        ("cuStreamGetCtx", 12050, "cuStreamGetCtx_v2"),
        ("cuGetProcAddress", 12000, "cuGetProcAddress_v2"),
    ):
        assert (base, False, version, symbol) in rows


@pytest.fixture(scope="module")
def table(spec: Spec, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The generated search, with a data symbol in place of every function."""
    folder = tmp_path_factory.mktemp("proc")
    (folder / "orion_generated").mkdir()
    for name, text in generate(spec).items():
        (folder / "orion_generated" / name).write_text(text)
    symbols = "".join(f"void {row[3]}(void) {{}}\n" for row in variants(spec))
    ask = (
        '#include "orion_generated/proc.h"\n'
        "const char *ask(const char *base, int version, int per_thread) {\n"
        "  bool known;\n"
        "  const orion_proc_t *row = orion_proc_find(base, version, per_thread, &known);\n"
        '  return row ? row->symbol : known ? "too new" : "unknown";\n'
        "}\n"
    )
    (folder / "ask.c").write_text(ask + symbols)
    library = folder / "proc.so"
    sources = [str(folder / "ask.c"), str(folder / "orion_generated" / "proc.c")]
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wall", f"-I{folder}", "-o", str(library), *sources], check=True
    )
    loaded = ctypes.CDLL(str(library))
    loaded.ask.restype = ctypes.c_char_p
    return loaded


@pytest.mark.parametrize(
    ("base", "version", "per_thread", "answer"),
    [
        ("cuMemAlloc", 3020, 0, "cuMemAlloc_v2"),
        ("cuMemAlloc", 3019, 0, "cuMemAlloc"),
        ("cuMemAlloc", 13000, 1, "cuMemAlloc_v2"),
        ("cuMemcpyHtoD", 13000, 0, "cuMemcpyHtoD_v2"),
        ("cuMemcpyHtoD", 13000, 1, "cuMemcpyHtoD_v2_ptds"),
        ("cuMemcpyHtoD", 7000, 1, "cuMemcpyHtoD_v2_ptds"),
        ("cuMemcpyHtoD", 6050, 1, "too new"),
        ("cuLaunchKernelEx", 11060, 0, "cuLaunchKernelEx"),
        ("cuLaunchKernelEx", 11050, 0, "too new"),
        ("cuCtxCreate", 3020, 0, "cuCtxCreate_v2"),
        ("cuCtxCreate", 12049, 0, "cuCtxCreate_v3"),
        ("cuCtxCreate", 13000, 0, "cuCtxCreate_v4"),
        ("cuMemAlloc_v2", 13000, 0, "unknown"),
        ("", 0, 0, "unknown"),
        ("cuZzz", 13000, 0, "unknown"),
        ("cuArray3DCreate", 13000, 0, "cuArray3DCreate_v2"),
        ("cuWaitExternalSemaphoresAsync", 13000, 1, "cuWaitExternalSemaphoresAsync_ptsz"),
    ],
)
def test_search(table: ctypes.CDLL, base: str, version: int, per_thread: int, answer: str) -> None:
    assert table.ask(base.encode(), version, per_thread).decode() == answer


def test_every_row_is_found_at_its_own_version(table: ctypes.CDLL, spec: Spec) -> None:
    for base, per_thread, version, symbol in variants(spec):
        assert table.ask(base.encode(), version, int(per_thread)).decode() == symbol
