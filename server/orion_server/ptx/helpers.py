# SPDX-License-Identifier: Apache-2.0
"""Names of the C functions that compiled code may call; the CPU device's library defines them."""

from __future__ import annotations

_NAMES = """trap assert_fail bad_call fiber_wait fiber_exit clock globaltimer vprintf malloc free pause fround
dround f64_to_f32 i64_to_f32 u64_to_f32 i64_to_f64 u64_to_f64 f32_to_bf16 f32_to_f16 f64_to_f16
f16_to_f32 f32_to_tf32 fns"""
HELPERS = tuple(f"orion_cpu_{name}" for name in _NAMES.split())

# What LLVM calls by itself on processors without instructions for half precision.
COMPILER_HELPERS = {
    "__truncsfhf2": "orion_cpu_truncsfhf2",
    "__extendhfsf2": "orion_cpu_extendhfsf2",
}
