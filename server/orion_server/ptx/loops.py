# SPDX-License-Identifier: Apache-2.0
"""Natural loops of a control flow graph."""

from __future__ import annotations

from .flow import Graph, successors


def find_loops(graph: Graph) -> dict[int, tuple[set[int], list[int]]]:
    """Loops by header: (blocks, sources of back edges)."""
    rank = {index: i for i, index in enumerate(graph.order)}
    preds = _predecessors(graph)
    idom = _dominators(graph, rank, preds)
    found: dict[int, tuple[set[int], list[int]]] = {}
    for index in graph.order:
        for head in set(successors(graph.blocks[index])):
            if not _dominates(idom, rank, head, index):
                continue
            members, sources = found.setdefault(head, ({head}, []))
            sources.append(index)
            stack = [index]
            while stack:
                member = stack.pop()
                if member not in members:
                    members.add(member)
                    stack.extend(preds[member])
    return found


def _predecessors(graph: Graph) -> dict[int, list[int]]:
    preds: dict[int, list[int]] = {i: [] for i in graph.order}
    for index in graph.order:
        for follower in successors(graph.blocks[index]):
            preds[follower].append(index)
    return preds


def _dominates(idom: dict[int, int], rank: dict[int, int], a: int, b: int) -> bool:
    while rank[b] > rank[a]:
        b = idom[b]
    return a == b


def _dominators(graph: Graph, rank: dict[int, int], preds: dict[int, list[int]]) -> dict[int, int]:
    """Immediate dominators, after Cooper, Harvey and Kennedy."""
    idom = {graph.order[0]: graph.order[0]}
    changed = True
    while changed:
        changed = False
        for index in graph.order[1:]:
            new = -1
            for pred in preds[index]:
                if pred in idom:
                    new = pred if new < 0 else _meet(idom, rank, new, pred)
            if idom.get(index) != new:
                idom[index] = new
                changed = True
    return idom


def _meet(idom: dict[int, int], rank: dict[int, int], a: int, b: int) -> int:
    """The closest block that dominates both."""
    while a != b:
        while rank[a] > rank[b]:
            a = idom[a]
        while rank[b] > rank[a]:
            b = idom[b]
    return a
