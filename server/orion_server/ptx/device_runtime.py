# SPDX-License-Identifier: Apache-2.0
"""What programs expect of CUDA's device runtime library: the barrier of a whole grid, as Numba calls it.

nvcc's cooperative groups do the same inline; both use the 32-bit barrier behind the size in the grid's workspace, so
they may meet in one module. A block waits in a loop that only polls, which lets the other blocks run.
"""

from __future__ import annotations

from .index import Module, parse_module
from .join import join

_HEADER = ".version 7.0\n.target sm_80\n.address_size 64\n"
_FUNCTIONS = {
    "cudaCGGetIntrinsicHandle": """
.visible .func (.param .b64 result) cudaCGGetIntrinsicHandle(.param .b32 scope)
{
    .reg .b64 %d<2>;
    mov.u64 %d1, 1;
    st.param.b64 [result], %d1;
    ret;
}
""",
    "cudaCGSynchronize": """
.visible .func (.param .b32 result) cudaCGSynchronize(.param .b64 handle, .param .b32 flags)
{
    .reg .b32 %r<20>;
    .reg .b64 %d<5>;
    .reg .pred %p<5>;
    bar.sync 0;
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %tid.y;
    mov.u32 %r3, %tid.z;
    or.b32 %r1, %r1, %r2;
    or.b32 %r1, %r1, %r3;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra DONE;
    mov.u32 %r4, %envreg1;
    mov.u32 %r5, %envreg2;
    mov.b64 %d1, {%r5, %r4};
    setp.eq.u64 %p4, %d1, 0;
    @%p4 trap;
    mov.u32 %r6, %nctaid.x;
    mov.u32 %r7, %nctaid.y;
    mov.u32 %r8, %nctaid.z;
    mul.lo.u32 %r6, %r6, %r7;
    mul.lo.u32 %r6, %r6, %r8;
    mov.u32 %r9, %ctaid.x;
    mov.u32 %r10, %ctaid.y;
    mov.u32 %r11, %ctaid.z;
    or.b32 %r9, %r9, %r10;
    or.b32 %r9, %r9, %r11;
    setp.eq.u32 %p2, %r9, 0;
    sub.u32 %r12, 0x80000001, %r6;
    selp.b32 %r13, %r12, 1, %p2;
    membar.gl;
    atom.global.add.u32 %r14, [%d1+4], %r13;
WAIT:
    ld.volatile.global.u32 %r15, [%d1+4];
    xor.b32 %r16, %r14, %r15;
    setp.ge.s32 %p3, %r16, 0;
    @%p3 bra WAIT;
    membar.gl;
DONE:
    bar.sync 0;
    mov.u32 %r17, 0;
    st.param.b32 [result], %r17;
    ret;
}
""",
}


def complete(text: str) -> Module:
    """The module of a text, with those functions of the device runtime that it calls and does not have."""
    module = parse_module(text)
    missing = [
        body
        for name, body in _FUNCTIONS.items()
        if name in module.prototypes and name not in module.functions
    ]
    return parse_module(join([text, _HEADER + "".join(missing)])) if missing else module
