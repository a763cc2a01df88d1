/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded parsers, see parse.h. */
#include "base/parse.h"

#include <string.h>

const char *orion_parse_u64_prefix(const char *text, uint64_t *value_p)
{
    uint64_t value = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return NULL;
        value = value * 10 + digit;
    }
    if (p == text)
        return NULL;
    *value_p = value;
    return p;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool orion_parse_u64(const char *text, uint64_t *value_p)
{
    uint64_t value = 0;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        const char *p = text + 2;
        if (*p == '\0')
            return false;
        for (; *p != '\0'; p++) {
            int digit = hex_digit(*p);
            if (digit < 0 || value >> 60 != 0)
                return false;
            value = value << 4 | (uint64_t)digit;
        }
    } else {
        const char *rest = orion_parse_u64_prefix(text, &value);
        if (rest == NULL || *rest != '\0')
            return false;
    }
    *value_p = value;
    return true;
}

bool orion_parse_ppm(const char *text, uint32_t *ppm_p)
{
    uint64_t whole;
    const char *p = orion_parse_u64_prefix(text, &whole);
    if (p == NULL || whole > 4000)
        return false;
    uint32_t fraction = 0;
    if (*p == '.') {
        p++;
        for (uint32_t weight = 100000; *p >= '0' && *p <= '9'; p++, weight /= 10)
            fraction += weight * (uint32_t)(*p - '0');
    }
    if (*p != '\0')
        return false;
    *ppm_p = (uint32_t)whole * 1000000u + fraction;
    return true;
}

bool orion_parse_option(const char *list, char separator, const char *key, char *value, size_t value_bytes)
{
    size_t key_length = strlen(key);
    while (list != NULL && *list != '\0') {
        const char *end = strchr(list, separator);
        size_t length = end != NULL ? (size_t)(end - list) : strlen(list);
        if (length > key_length && list[key_length] == '=' && memcmp(list, key, key_length) == 0) {
            size_t n = length - key_length - 1;
            if (n >= value_bytes)
                return false;
            memcpy(value, list + key_length + 1, n);
            value[n] = '\0';
            return true;
        }
        list = end != NULL ? end + 1 : NULL;
    }
    return false;
}
