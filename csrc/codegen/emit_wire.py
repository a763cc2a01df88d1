# SPDX-License-Identifier: Apache-2.0
"""opcodes.h, opcodes.c, blobs.h and wire.h: the numbers, and encode and decode of every operation."""

from __future__ import annotations

from .model import Entry, Spec
from .text import (
    banner,
    call_parameters,
    fill,
    join,
    layout,
    reply_fields,
    struct,
    to_wire,
    wire_fields,
)

OPCODES_H = """\
$banner#ifndef ORION_GENERATED_OPCODES_H
#define ORION_GENERATED_OPCODES_H

#include <stdint.h>

typedef enum orion_opcode {
$rows
  ORION_OP_LIMIT = $limit
} orion_opcode_t;

/* The operation's name; "?" for a number that is none. */
const char *orion_opcode_name(uint32_t opcode);

#endif
"""

OPCODES_C = """\
$banner#include "orion_generated/opcodes.h"

static const char *const names[ORION_OP_LIMIT] = {
$rows
};

const char *orion_opcode_name(uint32_t opcode) {
  return opcode < ORION_OP_LIMIT && names[opcode] ? names[opcode] : "?";
}
"""

BLOBS_H = """\
$banner#ifndef ORION_GENERATED_BLOBS_H
#define ORION_GENERATED_BLOBS_H

#include <stdint.h>

$structs
#endif
"""

WIRE_H = """\
$banner#ifndef ORION_GENERATED_WIRE_H
#define ORION_GENERATED_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "orion_generated/opcodes.h"
#include "orion_generated/orion_cuda.h"
#include "wire/cursor.h"

/* A payload is a struct of naturally aligned little-endian fields, then the parts of variable length,
 * each followed by zeros up to the next multiple of 8. Payloads begin 8-aligned. */
static inline size_t orion_wire_padded(size_t bytes) {
  return bytes > SIZE_MAX - 7 ? SIZE_MAX : (bytes + 7) & ~(size_t)7;
}

/* Sums are cut off here, so that an impossible length stays impossible in 32 bits. */
static inline size_t orion_wire_add(size_t sum, size_t bytes) {
  return sum > INT32_MAX || bytes > INT32_MAX ? INT32_MAX : sum + orion_wire_padded(bytes);
}

static inline unsigned char *orion_wire_put_tail(unsigned char *at, const void *from, size_t bytes) {
  size_t padded = orion_wire_padded(bytes);
  if (bytes != 0) memcpy(at, from, bytes);
  memset(at + bytes, 0, padded - bytes);
  return at + padded;
}

$operations
#endif
"""

OPERATION = """\
/* $name ($opcode, $wire): $doc */
$structs
static inline uint32_t orion_measure_$name($measured) {
  $measure
}

static inline void orion_encode_$name($encoded) {
$encode
}

typedef struct orion_args_$name {
$args
} orion_args_${name}_t;

static inline bool orion_decode_$name(const void *payload, size_t bytes, orion_args_${name}_t *args_p) {
$decode
}

"""


def emit_opcodes_h(spec: Spec) -> str:
    rows = [f"  ORION_OP_{e.name} = {e.opcode}," for e in spec.operations]
    limit = max((e.opcode for e in spec.operations), default=0) + 1
    return fill(OPCODES_H, banner=banner("emit_wire"), rows="\n".join(rows), limit=limit)


def emit_opcodes_c(spec: Spec) -> str:
    rows = [f'  [ORION_OP_{e.name}] = "{e.name}",' for e in spec.operations]
    return fill(OPCODES_C, banner=banner("emit_wire"), rows="\n".join(rows))


def emit_blobs_h(spec: Spec) -> str:
    structs = []
    for blob in spec.blobs:
        fields, size = layout((f.name, f.wire, f.count, None) for f in blob.fields)
        docs = {f.name: f.doc for f in blob.fields}
        text = struct(f"orion_{blob.name}", fields, size)
        lines = []
        for line in text.splitlines():
            name = line.strip().rstrip(";").split("[")[0].split(" ")[-1]
            lines.append(
                f"{line} /* {docs[name]} */" if docs.get(name) and line.startswith("  ") else line
            )
        structs.append(f"/* {blob.doc} */\n" + "\n".join(lines) + "\n")
    return fill(
        BLOBS_H, banner=banner("emit_wire", "csrc/spec/blobs.toml"), structs="\n".join(structs)
    )


def tail_length(entry: Entry, name: str) -> str:
    """The C expression for the length of a tail at the sender."""
    p = entry.parameter(name)
    assert p is not None
    return f"strlen({p.name}) + 1" if p.form == "string" else f"(size_t){p.argument}"


def operation_text(entry: Entry) -> str:
    fields, size = wire_fields(entry)
    replies, reply_size = reply_fields(entry)
    structs = struct(f"orion_wire_{entry.name}", fields, size) if fields else ""
    structs += struct(f"orion_outs_{entry.name}", replies, reply_size) if replies else ""
    tails = entry.tails
    measure = [f"size_t sum = {size};"] + [
        f"sum = orion_wire_add(sum, {p.name}_length);" for p in tails
    ]
    measure.append("return (uint32_t)sum;")
    return fill(
        OPERATION,
        name=entry.name,
        opcode=entry.opcode,
        wire=entry.wire,
        doc=entry.doc,
        structs=structs,
        measured=join([f"size_t {p.name}_length" for p in tails]),
        measure="\n  ".join(measure) if tails else f"return {size};",
        encoded=join(["void *payload", *sent_parameters(entry)]),
        encode="\n".join(encode_lines(entry)),
        args="\n".join(args_lines(entry)),
        decode="\n".join(decode_lines(entry)),
    )


def sent_parameters(entry: Entry) -> list[str]:
    """Like those of orion_call_X, without what comes back."""
    outs = {p.name for p in (*entry.outs, *entry.blobs)}
    return [
        text
        for text in call_parameters(entry)
        if not any(text.endswith((f"*{n}", f"{n}_capacity", f"{n}_bytes_p")) for n in outs)
    ]


def encode_lines(entry: Entry) -> list[str]:
    fields, _ = wire_fields(entry)
    if not fields:
        return ["  (void)payload;"]
    lines = [f"  orion_wire_{entry.name}_t *fixed = payload;"]
    lines += [f"  size_t {p.name}_length = {tail_length(entry, p.name)};" for p in entry.tails]
    for f in fields:
        if f.parameter is None:
            lines.append(f"  memset(fixed->{f.name}, 0, sizeof(fixed->{f.name}));")
        elif f.parameter.form == "string":
            lines.append(f"  fixed->{f.name} = (uint32_t){f.parameter.name}_length;")
        else:
            lines.append(f"  fixed->{f.name} = {to_wire(f.parameter, f.name)};")
    if entry.tails:
        lines.append("  unsigned char *at = (unsigned char *)(fixed + 1);")
        lines += [
            f"  at = orion_wire_put_tail(at, {p.name}, {p.name}_length);" for p in entry.tails
        ]
        lines.append("  (void)at;")
    return lines


def args_lines(entry: Entry) -> list[str]:
    lines = [f"  const orion_wire_{entry.name}_t *fixed;"] if wire_fields(entry)[0] else []
    lines += [f"  const {'char' if p.form == 'string' else 'void'} *{p.name};" for p in entry.tails]
    return lines or ["  char nothing;"]


def decode_lines(entry: Entry) -> list[str]:
    fields, size = wire_fields(entry)
    lines = ["  orion_cursor_t cursor = orion_cursor_over(payload, bytes);"]
    if fields:
        lines += [
            f"  args_p->fixed = (const void *)orion_cursor_take(&cursor, {size});",
            "  if (args_p->fixed == NULL) return false;",
        ]
    else:
        lines.append("  args_p->nothing = 0;")
    for p in entry.tails:
        length = (
            f"args_p->fixed->{p.name}_bytes"
            if p.form == "string"
            else f"args_p->fixed->{p.argument}"
        )
        lines.append(
            f"  args_p->{p.name} = (const void *)orion_cursor_take(&cursor, orion_wire_padded({length}));"
        )
        if p.form == "string":
            lines += [
                f"  if (args_p->{p.name} == NULL || {length} == 0) return false;",
                f"  if (memchr(args_p->{p.name}, 0, {length}) != args_p->{p.name} + {length} - 1) return false;",
            ]
        else:
            lines.append(f"  if (args_p->{p.name} == NULL) return false;")
    return [*lines, "  return orion_cursor_done(&cursor);"]


def emit_wire_h(spec: Spec) -> str:
    return fill(
        WIRE_H,
        banner=banner("emit_wire"),
        operations="".join(operation_text(e) for e in spec.operations),
    )
