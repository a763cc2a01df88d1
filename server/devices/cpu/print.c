/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel printf: formats as CUDA's does, from an argument buffer in which each value lies at its natural alignment.
 * Called from compiled kernels on the thread that runs the block.
 */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

enum { LINE_MAX_BYTES = 2048, SPEC_MAX = 32 };

typedef struct {
    const uint8_t *at;
    uint32_t used;
} args_t;

static uint64_t next_word(args_t *args, uint32_t size)
{
    uint64_t value = 0;

    args->used = (args->used + size - 1) & ~(size - 1);
    memcpy(&value, args->at + args->used, size);
    args->used += size;
    return value;
}

typedef struct {
    char text[LINE_MAX_BYTES];
    size_t used;
} line_t;

static void append(line_t *line, const char *text, size_t len)
{
    const size_t room = sizeof(line->text) - line->used;

    if (len > room)
        len = room;
    memcpy(line->text + line->used, text, len);
    line->used += len;
}

/* Copies flags, width and precision of one conversion, with * replaced; returns the conversion's letter. */
static char read_spec(const char **format, args_t *args, char *spec, int *wide_p)
{
    size_t n = 0;
    const char *p = *format;

    spec[n++] = '%';
    *wide_p = 0;
    for (; *p != '\0'; p++) {
        if (strchr("-+ #0123456789.", *p) != NULL) {
            if (n < SPEC_MAX - 8)
                spec[n++] = *p;
        } else if (*p == '*') {
            char number[16];
            int len = snprintf(number, sizeof(number), "%d", (int)next_word(args, 4) % 512);
            if (n + (size_t)len < SPEC_MAX - 8) {
                memcpy(spec + n, number, (size_t)len);
                n += (size_t)len;
            }
        } else if (*p == 'l' || *p == 'j' || *p == 'z' || *p == 't') {
            *wide_p = 1; /* all of them are 64 bits on the device */
        } else if (*p != 'h' && *p != 'L') {
            break;
        }
    }
    spec[n] = '\0';
    *format = *p != '\0' ? p + 1 : p;
    return *p;
}

static void convert(line_t *line, args_t *args, char *spec, char letter, int wide)
{
    char text[1024];
    size_t n = strlen(spec);
    int len = 0;

    switch (letter) {
    case 'd':
    case 'i':
        memcpy(spec + n, "lld", 4);
        len = snprintf(text, sizeof(text), spec,
                       wide ? (long long)next_word(args, 8) : (long long)(int32_t)next_word(args, 4));
        break;
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        spec[n] = spec[n + 1] = 'l';
        spec[n + 2] = letter;
        spec[n + 3] = '\0';
        len = snprintf(text, sizeof(text), spec, (unsigned long long)next_word(args, wide ? 8 : 4));
        break;
    case 'c':
        spec[n] = 'c';
        spec[n + 1] = '\0';
        len = snprintf(text, sizeof(text), spec, (int)next_word(args, 4));
        break;
    case 'p':
        spec[n] = 'p';
        spec[n + 1] = '\0';
        len = snprintf(text, sizeof(text), spec, (void *)(uintptr_t)next_word(args, 8));
        break;
    case 's': {
        const char *string = (const char *)(uintptr_t)next_word(args, 8);
        spec[n] = 's';
        spec[n + 1] = '\0';
        len = snprintf(text, sizeof(text), spec, string != NULL ? string : "(null)");
        break;
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
    case 'a':
    case 'A': {
        uint64_t bits = next_word(args, 8);
        double value;
        memcpy(&value, &bits, sizeof(value));
        spec[n] = letter;
        spec[n + 1] = '\0';
        len = snprintf(text, sizeof(text), spec, value);
        break;
    }
    default:
        append(line, spec, n);
        append(line, &letter, letter != '\0');
        return;
    }
    if (len > 0)
        append(line, text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
}

uint32_t orion_cpu_vprintf(orion_cpu_block_t *block, uint32_t t, uint64_t format_address, uint64_t args_address)
{
    const char *format = (const char *)(uintptr_t)format_address;
    args_t args = {(const uint8_t *)(uintptr_t)args_address, 0};
    uint32_t conversions = 0;
    line_t line;

    (void)t;
    line.used = 0;
    while (*format != '\0') {
        const char *percent = strchr(format, '%');
        char spec[SPEC_MAX], letter;
        int wide;

        if (percent == NULL) {
            append(&line, format, strlen(format));
            break;
        }
        append(&line, format, (size_t)(percent - format));
        format = percent + 1;
        if (*format == '%') {
            append(&line, "%", 1);
            format++;
            continue;
        }
        letter = read_spec(&format, &args, spec, &wide);
        convert(&line, &args, spec, letter, wide);
        conversions++;
    }
    if (block->launch->print != NULL)
        block->launch->print(block->launch->print_user, line.text, line.used);
    return conversions;
}
