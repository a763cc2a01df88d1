# SPDX-License-Identifier: Apache-2.0
"""Linking PTX texts: what one declares another defines, private names stay apart, weak ones are taken once."""

from __future__ import annotations

import pytest
from orion_server.ptx import PtxError, complete, join, parse_module

HEAD = ".version 7.0\n.target sm_80\n.address_size 64\n"
CALLER = (
    HEAD
    + """
.extern .func (.param .b32 r) twice(.param .b32 x);
.extern .global .align 4 .u32 shared_count;
.global .align 4 .u32 mine = 1;
.visible .entry k(.param .u64 p)
{
    .reg .b32 %r<3>;
    { .param .b32 a; .param .b32 b; st.param.b32 [a], %r1; call.uni (b), twice, (a); ld.param.b32 %r2, [b]; }
    ld.global.u32 %r1, [mine];
    ret;
}
"""
)
CALLEE = (
    HEAD
    + """
.visible .global .align 4 .u32 shared_count = 7;
.global .align 4 .b8 mine[8] = {1, 2, 3, 4, 5, 6, 7, 8}; // another one
.visible .func (.param .b32 r) twice(.param .b32 x)
{
    .reg .b32 %r<2>;
    ld.param.u32 %r1, [x];
    add.u32 %r1, %r1, %r1;
    st.param.b32 [r], %r1;
    ret;
}
"""
)


def test_declarations_find_their_definitions() -> None:
    module = parse_module(join([CALLER, CALLEE]))
    assert list(module.kernels) == ["k"]
    assert {"k", "twice"} == set(module.functions)
    assert module.variables["shared_count"].initial == "7"
    assert not module.variables["shared_count"].extern


def test_private_names_stay_apart() -> None:
    module = parse_module(join([CALLER, CALLEE]))
    sizes = {name: v.size for name, v in module.variables.items() if name.startswith("mine")}
    assert sorted(sizes.values()) == [4, 8]
    own = next(name for name, size in sizes.items() if size == 4)
    assert f"[{own}]" in module.text[module.functions["k"].start : module.functions["k"].end]


def test_private_functions_stay_apart() -> None:
    text = HEAD + ".func f() { ret; }\n.visible .entry %s() { call f; ret; }\n"
    module = parse_module(join([text % "a", text % "b"]))
    assert len(module.functions) == 4
    assert set(module.kernels) == {"a", "b"}


def test_weak_definitions_are_taken_once() -> None:
    text = HEAD + ".weak .func f() { ret; }\n.weak .global .u32 g[2] = {1, 2};\n"
    module = parse_module(join([text, text + ".visible .entry k() { ret; }\n"]))
    assert set(module.functions) == {"f", "k"}
    assert list(module.variables) == ["g"]


def test_two_visible_definitions_are_refused_by_name() -> None:
    text = HEAD + ".visible .func f() { ret; }\n"
    with pytest.raises(PtxError, match="f is defined in two"):
        join([text, text])


def test_one_text_is_left_alone() -> None:
    assert join([CALLEE]) is CALLEE


def test_device_runtime_is_added_where_it_is_called() -> None:
    text = (
        HEAD
        + ".extern .func (.param .b32 r) cudaCGSynchronize(.param .b64 h, .param .b32 f);\n"
        + ".visible .entry k() { ret; }\n"
    )
    assert set(complete(text).functions) == {"k", "cudaCGSynchronize"}
    assert set(complete(CALLEE).functions) == {"twice"}
