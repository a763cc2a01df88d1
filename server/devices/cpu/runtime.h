/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C functions that compiled kernels call. helpers.py lists the same names; the translator declares them as it
 * uses them, so a change of a signature here is a change of the translator's version.
 */
#ifndef ORION_CPU_RUNTIME_H
#define ORION_CPU_RUNTIME_H

#include "block.h"

/* math.c; modes: 0 nearest, 1 to zero, 2 down, 3 up */
float orion_cpu_fround(int32_t op, int32_t mode, float a, float b, float c);
double orion_cpu_dround(int32_t op, int32_t mode, double a, double b, double c);
float orion_cpu_f64_to_f32(double value, int32_t mode);
float orion_cpu_i64_to_f32(int64_t value, int32_t mode);
double orion_cpu_i64_to_f64(int64_t value, int32_t mode);
float orion_cpu_u64_to_f32(uint64_t value, int32_t mode);
double orion_cpu_u64_to_f64(uint64_t value, int32_t mode);
uint16_t orion_cpu_f64_to_f16(double value, int32_t mode);
uint16_t orion_cpu_f32_to_f16(float value, int32_t mode);
uint16_t orion_cpu_f32_to_bf16(float value, int32_t mode);
float orion_cpu_f32_to_tf32(float value);
float orion_cpu_f16_to_f32(uint16_t half);
#ifdef __FLT16_MAX__
_Float16 orion_cpu_truncsfhf2(float value);
float orion_cpu_extendhfsf2(_Float16 half);
#endif
uint32_t orion_cpu_fns(uint32_t mask, uint32_t base, uint32_t offset);

/* runtime.c */
_Noreturn void orion_cpu_trap(orion_cpu_block_t *block, uint32_t t);
_Noreturn void orion_cpu_assert_fail(orion_cpu_block_t *block, uint32_t t, uint64_t message, uint64_t file,
                                     uint32_t line, uint64_t function, uint64_t char_size);
_Noreturn void orion_cpu_bad_call(orion_cpu_block_t *block, uint32_t t, uint64_t value);
int64_t orion_cpu_clock(void);
int64_t orion_cpu_globaltimer(void);
void orion_cpu_pause(void);
uint64_t orion_cpu_malloc(orion_cpu_block_t *block, uint32_t t, uint64_t size);
void orion_cpu_free(orion_cpu_block_t *block, uint32_t t, uint64_t address);

/* print.c */
uint32_t orion_cpu_vprintf(orion_cpu_block_t *block, uint32_t t, uint64_t format, uint64_t args);

/* fiber.c */
void orion_cpu_fiber_wait(orion_cpu_block_t *block, uint32_t t, uint32_t k);
_Noreturn void orion_cpu_fiber_exit(orion_cpu_block_t *block, uint32_t t);

#endif
