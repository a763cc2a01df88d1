/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic that the host's instructions do not do by themselves: rounding modes, small float formats, bit searches.
 * Called from compiled kernels.
 */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "runtime.h"

enum { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FMA, OP_SQRT };
enum { MODE_NEAREST = 0, MODE_ZERO = 1, MODE_DOWN = 2, MODE_UP = 3 };

static int host_mode(int32_t mode)
{
    switch (mode) {
    case MODE_ZERO:
        return FE_TOWARDZERO;
    case MODE_DOWN:
        return FE_DOWNWARD;
    case MODE_UP:
        return FE_UPWARD;
    default:
        return FE_TONEAREST;
    }
}

/* Operands and result go through volatile objects: the compiler must not move the operation over fesetround. */
float orion_cpu_fround(int32_t op, int32_t mode, float a_in, float b_in, float c_in)
{
    volatile float a = a_in, b = b_in, c = c_in, r;

    fesetround(host_mode(mode));
    switch (op) {
    case OP_ADD:
        r = a + b;
        break;
    case OP_SUB:
        r = a - b;
        break;
    case OP_MUL:
        r = a * b;
        break;
    case OP_DIV:
        r = a / b;
        break;
    case OP_FMA:
        r = fmaf(a, b, c);
        break;
    default:
        r = sqrtf(a);
        break;
    }
    fesetround(FE_TONEAREST);
    return r;
}

double orion_cpu_dround(int32_t op, int32_t mode, double a_in, double b_in, double c_in)
{
    volatile double a = a_in, b = b_in, c = c_in, r;

    fesetround(host_mode(mode));
    switch (op) {
    case OP_ADD:
        r = a + b;
        break;
    case OP_SUB:
        r = a - b;
        break;
    case OP_MUL:
        r = a * b;
        break;
    case OP_DIV:
        r = a / b;
        break;
    case OP_FMA:
        r = fma(a, b, c);
        break;
    default:
        r = sqrt(a);
        break;
    }
    fesetround(FE_TONEAREST);
    return r;
}

#define CONVERT(name, from, to)       \
    to name(from value, int32_t mode) \
    {                                 \
        volatile from in = value;     \
        volatile to out;              \
                                      \
        fesetround(host_mode(mode));  \
        out = (to)in;                 \
        fesetround(FE_TONEAREST);     \
        return out;                   \
    }

CONVERT(orion_cpu_f64_to_f32, double, float)
CONVERT(orion_cpu_i64_to_f32, int64_t, float)
CONVERT(orion_cpu_i64_to_f64, int64_t, double)

/* The compiler's unsigned conversions may round twice in a directed mode; a long double holds all 64 bits. */
float orion_cpu_u64_to_f32(uint64_t value, int32_t mode)
{
    volatile long double in = (long double)value;
    volatile float out;

    fesetround(host_mode(mode));
    out = (float)in;
    fesetround(FE_TONEAREST);
    return out;
}

double orion_cpu_u64_to_f64(uint64_t value, int32_t mode)
{
    volatile double high = (double)(uint32_t)(value >> 32) * 4294967296.0, low = (double)(uint32_t)value, r;

    fesetround(host_mode(mode));
    r = high + low;
    fesetround(FE_TONEAREST);
    return r;
}

/* --- small formats --- */

/* Rounds a double to a binary format with `fraction` bits and exponents emin..emax; returns its bits without the
 * sign. Values too large become infinity (or the largest finite, by mode). */
static uint32_t narrow(double value, int fraction, int emin, int emax, int32_t mode)
{
    const int negative = signbit(value) != 0;
    const uint32_t infinity = (uint32_t)(emax - emin + 2) << fraction;
    double magnitude = fabs(value), scaled, whole;
    int exponent;
    uint64_t units;

    if (isinf(magnitude))
        return infinity;
    if (magnitude == 0.0)
        return 0;
    (void)frexp(magnitude, &exponent);
    exponent -= 1;
    if (exponent < emin)
        exponent = emin;
    scaled = ldexp(magnitude, fraction - exponent); /* exact: a power of two */
    whole = floor(scaled);
    units = (uint64_t)whole;
    if (scaled != whole) {
        const double rest = scaled - whole;
        const int up = mode == MODE_NEAREST ? rest > 0.5 || (rest == 0.5 && (units & 1u))
                                            : (mode == MODE_UP && !negative) || (mode == MODE_DOWN && negative);
        units += (uint64_t)up;
    }
    if (units >> (fraction + 1)) {
        units >>= 1;
        exponent++;
    }
    if (exponent > emax) {
        const int away = mode == MODE_NEAREST || (mode == MODE_UP && !negative) || (mode == MODE_DOWN && negative);
        return away ? infinity : infinity - 1;
    }
    if (!(units >> fraction))
        return (uint32_t)units; /* subnormal */
    return ((uint32_t)(exponent - emin + 1) << fraction) | ((uint32_t)units & ((1u << fraction) - 1u));
}

uint16_t orion_cpu_f64_to_f16(double value, int32_t mode)
{
    const uint32_t sign = signbit(value) ? 0x8000u : 0;

    if (isnan(value))
        return 0x7fffu;
    return (uint16_t)(sign | narrow(value, 10, -14, 15, mode));
}

uint16_t orion_cpu_f32_to_f16(float value, int32_t mode)
{
    return orion_cpu_f64_to_f16(value, mode);
}

uint16_t orion_cpu_f32_to_bf16(float value, int32_t mode)
{
    uint32_t bits, rest;
    int negative, up;

    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fffu;
    rest = bits & 0xffffu;
    negative = (bits >> 31) != 0;
    bits >>= 16;
    if (mode == MODE_NEAREST)
        up = rest > 0x8000u || (rest == 0x8000u && (bits & 1u));
    else
        up = rest != 0 && ((mode == MODE_UP && !negative) || (mode == MODE_DOWN && negative));
    return (uint16_t)(bits + (uint32_t)up);
}

/* 10 fraction bits, ties away from zero. */
float orion_cpu_f32_to_tf32(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7f800000u) != 0x7f800000u)
        bits = (bits + 0x1000u) & ~0x1fffu;
    memcpy(&value, &bits, sizeof(bits));
    return value;
}

static float widen16(uint16_t half)
{
    const uint32_t exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
    double value;

    if (exponent == 31)
        value = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, -24);
    else
        value = ldexp(1024.0 + fraction, (int)exponent - 25);
    return (float)(half & 0x8000u ? -value : value);
}

float orion_cpu_f16_to_f32(uint16_t half)
{
    return widen16(half);
}

#ifdef __FLT16_MAX__
/* What LLVM calls on processors without instructions for half precision: it passes halves as _Float16. */
_Float16 orion_cpu_truncsfhf2(float value)
{
    const uint16_t bits = orion_cpu_f64_to_f16(value, MODE_NEAREST);
    _Float16 half;

    memcpy(&half, &bits, sizeof(half));
    return half;
}

float orion_cpu_extendhfsf2(_Float16 half)
{
    uint16_t bits;

    memcpy(&bits, &half, sizeof(bits));
    return widen16(bits);
}
#endif

/* --- searches --- */

uint32_t orion_cpu_fns(uint32_t mask, uint32_t base, uint32_t offset_bits)
{
    const int32_t offset = (int32_t)offset_bits;
    int32_t at = (int32_t)base, left;

    if (offset == 0)
        return base < 32 && (mask >> base & 1u) ? base : 0xffffffffu;
    left = offset < 0 ? -offset : offset;
    for (; at >= 0 && at < 32; at += offset > 0 ? 1 : -1)
        if ((mask >> at & 1u) && --left == 0)
            return (uint32_t)at;
    return 0xffffffffu;
}
