/* SPDX-License-Identifier: Apache-2.0 */
/* Small bounded parsers. strtol and friends got new symbol versions with C23 and take signs and blanks that nobody
 * means; these take digits. */
#ifndef ORION_BASE_PARSE_H
#define ORION_BASE_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits at the start of text: returns the first character behind them, or NULL (no digit, overflow). */
const char *orion_parse_u64_prefix(const char *text, uint64_t *value_p);
/* The whole text is a decimal number, or hexadecimal with 0x. */
bool orion_parse_u64(const char *text, uint64_t *value_p);
/* A decimal fraction such as "0.05" or "1", as parts per million; more than six decimals are cut. */
bool orion_parse_ppm(const char *text, uint32_t *ppm_p);
/* Finds "key=value" in a list separated by `separator` and copies the value. false: absent or longer than the buffer. */
bool orion_parse_option(const char *list, char separator, const char *key, char *value, size_t value_bytes);

#endif
