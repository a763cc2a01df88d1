# SPDX-License-Identifier: Apache-2.0
"""api-support.md: every name of the CUDA driver API and what becomes of it."""

from __future__ import annotations

from collections import Counter

from .model import Entry, Spec

MEANING = {
    "sync": "served; waits for the answer",
    "async": "served; returns at once, execution errors arrive with a later call",
    "hand": "served; written by hand on the client",
    "local": "served; answered on the client, nothing is sent",
    "alias": "served; the same as another name",
    "refused": "returns CUDA_ERROR_NOT_SUPPORTED and is logged once by name",
}


def remark(entry: Entry) -> str:
    if entry.cls == "refused":
        return entry.why
    if entry.cls == "alias":
        return f"Same as `{entry.same_as}`."
    return entry.doc


def emit_support(spec: Spec) -> str:
    count: Counter[str] = Counter()
    rows = []
    for entry in sorted(spec.exported, key=lambda e: (e.chapter, e.name)):
        signature = spec.signatures[entry.name]
        names = [n for n in (signature.name, signature.per_thread_name) if n]
        count[entry.cls] += len(names)
        for name in names:
            rows.append(f"| `{name}` | {entry.chapter} | {entry.cls} | {remark(entry)} |")
    total = sum(count.values())
    served = total - count["refused"]
    release = f"{spec.cuda_version // 1000}.{spec.cuda_version % 1000 // 10}"
    lines = [
        "# CUDA driver API support",
        "",
        "Built from `csrc/spec`; do not edit.",
        "",
        f"All {total} names of the CUDA {release} headers are exported; {served} are served.",
        "",
        "| class | names | meaning |",
        "|---|---|---|",
        *[f"| {name} | {count[name]} | {text} |" for name, text in MEANING.items()],
        "",
        "| name | chapter | class | what it does, or why not |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)
