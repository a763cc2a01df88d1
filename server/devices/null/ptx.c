/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels and variables of PTX text, read token by token: bodies are skipped, nothing is understood beyond
 * declarations. */
#include "layout.h"

#include <ctype.h>
#include <string.h>

typedef struct reader {
    const char *p, *end;
    const char *token; /* the current one; bytes 0: end of text */
    size_t bytes;
} reader_t;

typedef struct declaration { /* [.align A] [.vN] .type name [dimensions] */
    const char *name;
    size_t name_bytes;
    uint64_t bytes, align;
    uint32_t flags;
} declaration_t;

static int is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%' || c == '.';
}

static void skip_blank(reader_t *r)
{
    while (r->p < r->end) {
        if (isspace((unsigned char)*r->p)) {
            r->p++;
        } else if (r->end - r->p >= 2 && r->p[0] == '/' && r->p[1] == '/') {
            const char *line = memchr(r->p, '\n', (size_t)(r->end - r->p));
            r->p = line ? line : r->end;
        } else if (r->end - r->p >= 2 && r->p[0] == '/' && r->p[1] == '*') {
            r->p += 2;
            while (r->end - r->p >= 2 && !(r->p[0] == '*' && r->p[1] == '/'))
                r->p++;
            r->p = r->end - r->p >= 2 ? r->p + 2 : r->end;
        } else {
            break;
        }
    }
}

/* A word (with its dots), a string, or one other character. */
static int next(reader_t *r)
{
    skip_blank(r);
    r->token = r->p;
    if (r->p < r->end && is_word(*r->p)) {
        while (r->p < r->end && is_word(*r->p))
            r->p++;
    } else if (r->p < r->end && *r->p == '"') {
        for (r->p++; r->p < r->end && *r->p != '"'; r->p++)
            if (*r->p == '\\' && r->end - r->p > 1)
                r->p++;
        if (r->p < r->end)
            r->p++;
    } else if (r->p < r->end) {
        r->p++;
    }
    r->bytes = (size_t)(r->p - r->token);
    return r->bytes != 0;
}

static int is(const reader_t *r, const char *text)
{
    return r->bytes == strlen(text) && memcmp(r->token, text, r->bytes) == 0;
}

/* A decimal or hexadecimal number, at most 2^32 - 1. */
static uint64_t number(const reader_t *r)
{
    int hex = r->bytes > 2 && r->token[0] == '0' && (r->token[1] | 32) == 'x';
    uint64_t value = 0;
    for (size_t i = hex ? 2 : 0; i < r->bytes; i++) {
        char c = (char)(r->token[i] | 32);
        unsigned digit = c >= '0' && c <= '9'          ? (unsigned)(c - '0')
                         : hex && c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                                       : 99;
        if (digit == 99)
            break;
        value = value * (hex ? 16 : 10) + digit;
        if (value > UINT32_MAX)
            return UINT32_MAX;
    }
    return value;
}

/* After '{': up to its '}'. */
static void skip_braces(reader_t *r)
{
    for (int depth = 1; depth && next(r);)
        depth += is(r, "{") - is(r, "}");
}

static uint64_t type_bytes(const reader_t *r)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } types[] = {{".pred", 1},  {".b8", 1},     {".u8", 1},         {".s8", 1},     {".b16", 2}, {".u16", 2},
                 {".s16", 2},   {".f16", 2},    {".bf16", 2},       {".b32", 4},    {".u32", 4}, {".s32", 4},
                 {".f32", 4},   {".f16x2", 4},  {".b64", 8},        {".u64", 8},    {".s64", 8}, {".f64", 8},
                 {".b128", 16}, {".texref", 8}, {".samplerref", 8}, {".surfref", 8}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (is(r, types[i].name))
            return types[i].bytes;
    return 0;
}

/* Reads up to one of , ) ; = which stays the current token. 0: the text ends, or it makes no sense. */
static int read_declaration(reader_t *r, declaration_t *d)
{
    uint64_t element = 0, count = 1, vector = 1, align = 0;
    int pointee = 0;
    *d = (declaration_t){0};
    while (next(r)) {
        if (is(r, ",") || is(r, ")") || is(r, ";") || is(r, "=")) {
            d->bytes = element * vector * count;
            d->align = align ? align : element * vector;
            return d->name && element;
        }
        if (is(r, ".ptr")) {
            pointee = 1; /* what follows is about the memory pointed to */
        } else if (is(r, ".align")) {
            next(r);
            if (!pointee)
                align = number(r);
        } else if (is(r, ".v2") || is(r, ".v4")) {
            vector = (uint64_t)(r->token[2] - '0');
        } else if (is(r, ".attribute")) { /* (.managed) or (.unified(...)) */
            while (next(r) && !is(r, ")"))
                if (is(r, ".managed"))
                    d->flags |= ORION_GLOBAL_MANAGED;
        } else if (is(r, "[")) {
            if (!next(r))
                return 0;
            uint64_t length = is(r, "]") ? 0 : number(r);
            if (length && count > UINT32_MAX / length)
                return 0;
            count *= length;
            if (!is(r, "]"))
                next(r);
        } else if (type_bytes(r)) {
            element = type_bytes(r);
        } else if (r->token[0] != '.' && r->token[0] != '(') {
            d->name = r->token;
            d->name_bytes = r->bytes;
        }
    }
    return 0;
}

static void read_params(reader_t *r, orion_function_info_t *info)
{
    uint64_t at = 0;
    declaration_t d;
    do {
        if (!read_declaration(r, &d))
            return; /* "()" or damaged */
        uint64_t align = d.align ? d.align : 1;
        at = (at + align - 1) / align * align;
        if (!orion_layout_add_param(info, at, d.bytes)) {
            info->param_count = ORION_PARAMS_UNKNOWN;
            info->param_bytes = 0;
            return;
        }
        at += d.bytes;
    } while (is(r, ","));
}

/* After .entry: name [(parameters)] {directives} then ; or a body. */
static int read_entry(reader_t *r, orion_layout_t *layout)
{
    if (!next(r))
        return 0;
    orion_layout_kernel_t *kernel = orion_layout_add_kernel(layout, r->token, r->bytes);
    if (!kernel)
        return 0;
    while (next(r)) {
        if (is(r, "(")) {
            read_params(r, &kernel->info);
        } else if (is(r, ".maxntid") || is(r, ".reqntid")) {
            uint64_t threads = 1;
            do {
                next(r);
                threads *= number(r);
                skip_blank(r);
            } while (threads <= 1024 && r->p < r->end && *r->p == ',' && next(r));
            if (threads >= 1 && threads <= 1024)
                kernel->info.max_threads = (int32_t)threads;
        } else if (is(r, ";")) {
            return 1;
        } else if (is(r, "{")) {
            skip_braces(r);
            return 1;
        }
    }
    return 0;
}

int orion_layout_read_ptx(orion_layout_t *layout, const char *text, size_t bytes)
{
    const char *nul = memchr(text, 0, bytes);
    reader_t r = {.p = text, .end = nul ? nul : text + bytes};
    int is_ptx = 0, is_extern = 0;
    while (next(&r) && !layout->failed) {
        declaration_t d;
        if (is(&r, ".version")) {
            is_ptx = 1;
        } else if (!is_ptx) {
            return 0;
        } else if (is(&r, ".entry")) {
            read_entry(&r, layout);
        } else if (is(&r, ".extern")) {
            is_extern = 1;
            continue;
        } else if (is(&r, "{")) {
            skip_braces(&r);
        } else if (is(&r, ".global") || is(&r, ".const")) {
            uint32_t flags = r.token[1] == 'c' ? ORION_GLOBAL_CONSTANT : 0;
            if (read_declaration(&r, &d) && !is_extern)
                orion_layout_add_global(layout, d.name, d.name_bytes, d.bytes, d.align, flags | d.flags);
        } else if (r.token[0] == '.' && (is(&r, ".visible") || is(&r, ".weak") || is(&r, ".common"))) {
            continue;
        }
        is_extern = 0;
    }
    return is_ptx;
}
