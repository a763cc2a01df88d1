# SPDX-License-Identifier: Apache-2.0
"""Barriers and warp operations. In regions they are part of the control flow graph; on fibers they are calls."""

from __future__ import annotations

from ..model import Instruction
from ..opcodes import op
from .device import wait_inline
from .function import FunctionEmitter


@op("bar", "u32 b32 pred", "sync arrive red cta aligned popc and or warp", dst=0)
def bar(f: FunctionEmitter, ins: Instruction) -> None:
    """block and warp barriers, with ids, counts and reductions"""
    wait_inline(f, ins)


@op("barrier", "u32 b32 pred", "sync arrive red cta aligned popc and or warp", dst=0)
def barrier(f: FunctionEmitter, ins: Instruction) -> None:
    """as bar; clusters are not supported"""
    wait_inline(f, ins)


@op("shfl", "b32", "sync up down bfly idx", least=4)
def shuffle(f: FunctionEmitter, ins: Instruction) -> None:
    """exchange between lanes"""
    wait_inline(f, ins)


@op("vote", "pred b32", "sync all any uni ballot", least=2)
def vote(f: FunctionEmitter, ins: Instruction) -> None:
    """votes of lanes"""
    wait_inline(f, ins)


@op("match", "b32 b64", "sync any all", least=3)
def match(f: FunctionEmitter, ins: Instruction) -> None:
    """lanes with equal values"""
    wait_inline(f, ins)


@op("redux", "u32 s32 b32", "sync add min max and or xor", least=3)
def redux(f: FunctionEmitter, ins: Instruction) -> None:
    """reduction over lanes"""
    wait_inline(f, ins)


@op("activemask", "b32", "", least=1)
def activemask(f: FunctionEmitter, ins: Instruction) -> None:
    """lanes that wait here together"""
    wait_inline(f, ins)


@op("elect", "pred", "sync", least=2)
def elect(f: FunctionEmitter, ins: Instruction) -> None:
    """one lane of a mask"""
    wait_inline(f, ins)
