# SPDX-License-Identifier: Apache-2.0
"""PTX that nobody's compiler made: it is read and translated, or refused with PtxError."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from hypothesis_settings import examples
from orion_server.ptx import PtxError, join, parse_module, translate

HEAD = ".version 7.8\n.target sm_80\n.address_size 64\n"
GOOD = [
    (Path(__file__).parent / "kernels" / name).read_text() for name in ("basics.ptx", "calls.ptx")
]
# Directives, marks, instructions, numbers, and what is no PTX at all.
TEXT = """.entry .func .visible .extern .global .shared .local .const .param .reg .align .b8 .u32 .f64 .v4 .pred
.maxntid .branchtargets .callprototype { } ( ) [ ] , ; : = @%p1 @!%p1 %r1 %rd<9> {{ }} mov.u32 ld.param.u64
st.global.f32 add.s32 bra call.uni ret exit bar.sync setp.lt.s32 -1 0x 99999999999999999999 0f7fc00000 0d3ff .loc
.file .section /* */ // " \0 \u00e9 generic("""
WORDS = TEXT.split()


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A good module with words put in, left out and doubled."""
    tokens = draw(st.sampled_from(GOOD)).split(" ")
    begin = draw(st.integers(0, max(0, len(tokens) - 150)))
    tokens = tokens[begin : begin + draw(st.integers(1, 150))]
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(tokens)))
        word = draw(st.one_of(st.sampled_from(WORDS), st.just("")))
        tokens[at : at + draw(st.integers(0, 2))] = [word] if word else tokens[at : at + 4] * 2
    return HEAD + " ".join(tokens)


def read(text: str) -> None:
    module = parse_module(text)
    for name in list(module.kernels)[:4]:
        with contextlib.suppress(PtxError):
            translate(module, name)


@given(damaged())
@examples(150)
def test_a_damaged_module_is_refused_with_a_ptx_error(text: str) -> None:
    with contextlib.suppress(PtxError):
        read(text)
    with contextlib.suppress(PtxError):
        join([text, HEAD + ".visible .entry other() { ret; }\n"])


@given(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))
@examples(150)
def test_words_in_any_order_are_refused_with_a_ptx_error(text: str) -> None:
    with contextlib.suppress(PtxError):
        read(HEAD + text)
    with contextlib.suppress(PtxError):
        read(
            HEAD
            + ".visible .entry k(.param .u32 a) { .reg .b32 %r<4>; .reg .pred %p<2>; "
            + text
            + " ret; }\n"
        )


def test_what_is_damaged_is_good_before_it() -> None:
    for text in GOOD:
        assert translate(parse_module(text), next(iter(parse_module(text).kernels)))
