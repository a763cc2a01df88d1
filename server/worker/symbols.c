/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of the C functions that compiled kernels call, for the linker of the Python translator: the extension
 * exports no symbols. orion_server/ptx/helpers.py has the same list; a name that this build lacks is left out.
 */
#include "worker/symbols.h"

/* clang-format off */
#define DEVICE_HELPERS(X) \
    X(trap) X(assert_fail) X(bad_call) X(fiber_wait) X(fiber_exit) X(clock) X(globaltimer) X(vprintf) \
    X(malloc) X(free) X(pause) X(fround) X(dround) X(fns) X(f64_to_f32) X(i64_to_f32) X(u64_to_f32) \
    X(i64_to_f64) X(u64_to_f64) X(f32_to_bf16) X(f32_to_f16) X(f64_to_f16) X(f16_to_f32) \
    X(atom_f16x2_add) X(atom_f16_add) X(atom_bf16x2_add) X(atom_bf16_add) X(f32_to_e4m3) X(f32_to_e5m2) \
    X(e4m3_to_f32) X(e5m2_to_f32) X(f32_to_tf32)
/* clang-format on */

#define DECLARE(name) extern const char orion_cpu_##name[] __attribute__((weak));
DEVICE_HELPERS(DECLARE)

#if defined(__x86_64__) && defined(__FLT16_MANT_DIG__)
/* half precision in the compiler's own library; not weak, so that the linker takes them from its archive */
extern const char __truncdfhf2[], __truncsfhf2[], __extendhfsf2[];
#define COMPILER_HELPERS \
    {"__truncdfhf2", __truncdfhf2}, {"__truncsfhf2", __truncsfhf2}, {"__extendhfsf2", __extendhfsf2},
#else
#define COMPILER_HELPERS
#endif

#define ROW(name) {"orion_cpu_" #name, orion_cpu_##name},
static const orion_symbol_t symbols[] = {DEVICE_HELPERS(ROW) COMPILER_HELPERS};

const orion_symbol_t *orion_symbol_at(unsigned index)
{
    return index < sizeof symbols / sizeof symbols[0] ? &symbols[index] : NULL;
}
