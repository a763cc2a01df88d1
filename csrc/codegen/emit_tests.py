# SPDX-License-Identifier: Apache-2.0
"""For tests: wire_test.c (for every operation the round trip of boundary values, truncation at every byte, and random
bytes) and shapes.h (every operation's record as data, to make records of)."""

from __future__ import annotations

from .emit_wire import sent_parameters
from .model import Entry, Parameter, Spec
from .text import WIRE_TYPES, banner, fill, wire_fields

WIRE_TEST_C = """\
$banner#include <stdio.h>
#include <stdlib.h>

#include "orion_generated/wire.h"

/* Patterns: 0 all zero, 1 all ones, 2 mixed bits, 3 the top bit. */
static const uint64_t patterns[] = {0, UINT64_MAX, 0x0123456789abcdefu, 0x8000000080008080u};
static const char *current;
static int failures;

#define CHECK(condition)                                                                \\
  do {                                                                                  \\
    if (!(condition)) {                                                                 \\
      printf("%s:%d: %s: %s\\n", __FILE__, __LINE__, current, #condition);              \\
      failures++;                                                                       \\
    }                                                                                   \\
  } while (0)

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint32_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 16);
}

/* Exactly `bytes` long, so that a sanitizer sees the first byte read beyond. */
static void *exactly(const void *from, size_t bytes) {
  void *copy = malloc(bytes ? bytes : 1);
  if (copy == NULL) abort();
  if (bytes) memcpy(copy, from, bytes);
  return copy;
}

$operations
static void (*const tests[])(void) = {
$table
};

int main(void) {
  for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) tests[i]();
  printf("%zu operations, %d failures\\n", sizeof(tests) / sizeof(tests[0]), failures);
  return failures != 0;
}
"""

TEST = """\
static void test_$name(void) {
  current = "$name";
  orion_args_${name}_t args = {0};
  for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
    uint64_t pattern = patterns[i];
    (void)pattern;
$values
    uint32_t measured = orion_measure_$name($measured);
    _Alignas(8) unsigned char payload[4096];
    memset(payload, 0xa5, sizeof(payload));
    CHECK(measured <= sizeof(payload) && measured % 8 == 0);
    orion_encode_$name($encoded);
    CHECK(measured == sizeof(payload) || payload[measured] == 0xa5);
    CHECK(orion_decode_$name(payload, measured, &args));
$compare
    for (uint32_t cut = 0; cut < measured; cut++) {
      void *copy = exactly(payload, cut);
      CHECK(!orion_decode_$name(copy, cut, &args));
      free(copy);
    }
    CHECK(!orion_decode_$name(payload, measured + 8, &args));
  }
  for (int i = 0; i < 2000; i++) {
    size_t length = next_random() % 257;
    unsigned char noise[256];
    for (size_t k = 0; k < sizeof(noise); k++) noise[k] = (unsigned char)(next_random() & next_random());
    if (length > sizeof(noise)) length = sizeof(noise);
    void *copy = exactly(noise, length);
    (void)orion_decode_$name(copy, length, &args);
    free(copy);
  }
}

"""


def test_text(entry: Entry) -> str:
    tails = entry.tails
    lengths = {p.argument for p in tails if p.form == "bytes_in"}
    values, compare = [], []
    for p in entry.sent:
        if p.form == "string":
            values.append(f'    const char *{p.name} = pattern ? "kernel_name" : "";')
            compare.append(f"    CHECK(strcmp(args.{p.name}, {p.name}) == 0);")
        elif p.form in ("handle", "new"):
            values.append(f"    uint64_t {p.name} = pattern;")
            compare.append(f"    CHECK(args.fixed->{p.name} == {p.name});")
        elif p.name in lengths:
            values.append(f"    {p.kind.c} {p.name} = ({p.kind.c})(pattern % 101);")
            compare.append(f"    CHECK(args.fixed->{p.name} == {p.name});")
        elif p.kind.c == "void *":
            values.append(f"    void *{p.name} = (void *)(uintptr_t)pattern;")
            compare.append(f"    CHECK(args.fixed->{p.name} == (uint64_t)(uintptr_t){p.name});")
        else:
            values.append(f"    {p.kind.c} {p.name} = ({p.kind.c})pattern;")
            compare.append(
                f"    CHECK(args.fixed->{p.name} == ({WIRE_TYPES[p.kind.wire][0]}){p.name});"
            )
    for p in tails:
        if p.form == "bytes_in":
            values += [
                f"    unsigned char {p.name}[101];",
                f"    for (size_t k = 0; k < sizeof({p.name}); k++) {p.name}[k] = (unsigned char)(k * 7 + i);",
            ]
            compare.append(f"    CHECK(memcmp(args.{p.name}, {p.name}, {p.argument}) == 0);")
    for f in wire_fields(entry)[0]:
        if f.parameter is None:
            compare.append(
                f"    for (size_t k = 0; k < sizeof(args.fixed->{f.name}); k++) CHECK(args.fixed->{f.name}[k] == 0);"
            )
    names = [text.split("*")[-1].split(" ")[-1] for text in sent_parameters(entry)]
    measured = ", ".join(
        f"strlen({p.name}) + 1" if p.form == "string" else str(p.argument) for p in tails
    )
    return fill(
        TEST,
        name=entry.name,
        values="\n".join(values),
        measured=measured,
        encoded=", ".join(["payload", *names]),
        compare="\n".join(compare),
    )


def emit_wire_test(spec: Spec) -> str:
    return fill(
        WIRE_TEST_C,
        banner=banner("emit_tests"),
        operations="".join(test_text(e) for e in spec.operations),
        table="\n".join(f"    test_{e.name}," for e in spec.operations),
    )


SHAPES_H = """\
$banner#ifndef ORION_GENERATED_SHAPES_H
#define ORION_GENERATED_SHAPES_H

#include <stdint.h>

#include "orion_generated/opcodes.h"

/* What a field of a record's fixed part means. BYTES and TEXT are the length of a part that follows it, in order. */
typedef enum orion_meaning {
  ORION_MEANING_NUMBER,
  ORION_MEANING_ADDRESS,
  ORION_MEANING_NEW,
  ORION_MEANING_BYTES,
  ORION_MEANING_TEXT,
$handles
} orion_meaning_t;

typedef struct orion_shape_field {
  uint16_t offset, bytes;
  orion_meaning_t meaning;
} orion_shape_field_t;

typedef struct orion_shape {
  orion_opcode_t opcode;
  uint16_t waits; /* != 0: it names a reply slot */
  uint16_t bytes; /* of the fixed part */
  uint16_t count;
  orion_shape_field_t fields[$most];
} orion_shape_t;

static const orion_shape_t orion_shapes[] = {
$rows
};

#endif
"""


def meaning(entry: Entry, p: Parameter) -> str:
    if p.form == "string":
        return "TEXT"
    if p.form == "handle":
        return p.kind.tag
    if p.form == "new":
        return "NEW"
    if any(t.form == "bytes_in" and t.argument == p.name for t in entry.tails):
        return "BYTES"
    return "ADDRESS" if p.kind.name == "device_ptr" else "NUMBER"


def emit_shapes_h(spec: Spec) -> str:
    rows = []
    most = 1
    for e in spec.operations:
        fields, size = wire_fields(e)
        known = [
            f"{{{f.offset}, {WIRE_TYPES[f.wire][1]}, ORION_MEANING_{meaning(e, f.parameter)}}}"
            for f in fields
            if f.parameter is not None
        ]
        most = max(most, len(known))
        waits = int(e.wire == "sync")
        inner = f"{{{', '.join(known)}}}" if known else "{{0, 0, ORION_MEANING_NUMBER}}"
        rows.append(f"  {{ORION_OP_{e.name}, {waits}, {size}, {len(known)}, {inner}}},")
    tags = sorted({k.tag for k in spec.kinds.values() if k.form == "handle"})
    return fill(
        SHAPES_H,
        banner=banner("emit_tests"),
        handles="\n".join(f"  ORION_MEANING_{tag}," for tag in tags),
        most=most,
        rows="\n".join(rows),
    )
