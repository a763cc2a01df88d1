# SPDX-License-Identifier: Apache-2.0
"""The server's half: serve.h (what the worker implements) and dispatch.c (everything checked before that)."""

from __future__ import annotations

from .model import Entry, Spec
from .text import (
    WIRE_TYPES,
    banner,
    fill,
    from_wire,
    join,
    reply_fields,
    reply_parameters,
    serve_parameters,
    wire_fields,
)

SERVE_H = """\
$banner#ifndef ORION_GENERATED_SERVE_H
#define ORION_GENERATED_SERVE_H

#include "base/status.h"
#include "orion_generated/opcodes.h"
#include "orion_generated/orion_cuda.h"
#include "wire/record.h"
#include "worker/serving.h"

/* What a deferred operation returns; its answer comes later through orion_reply_X, from any thread. */
#define ORION_DEFERRED ((CUresult)-1)

/* Serves one record. ORION_PROTOCOL: the record is malformed, end the session. */
orion_status_t orion_dispatch(orion_worker_t *w, const orion_record_t *record);

/* Written by hand in server/worker/. Objects are live, lengths are bounded, results are written on success only. */
$rows

#endif
"""

DISPATCH_C = """\
$banner#include "orion_generated/serve.h"
#include "orion_generated/wire.h"

$rows
typedef orion_status_t (*dispatch_func_t)(orion_worker_t *, const orion_record_t *);

static const dispatch_func_t table[ORION_OP_LIMIT] = {
$table
};

orion_status_t orion_dispatch(orion_worker_t *w, const orion_record_t *record) {
  if (record->opcode >= ORION_OP_LIMIT || table[record->opcode] == NULL) return ORION_PROTOCOL;
  return table[record->opcode](w, record);
}
"""

SERVE = """\
static bool decoded_$name(const orion_record_t *record, orion_args_${name}_t *args_p) {
  return orion_decode_$name(orion_record_payload_const(record), orion_record_payload_bytes(record), args_p);
}

static void serve_$name(orion_worker_t *w, const orion_record_t *record, const orion_args_${name}_t *args) {
$body
}

${run}static orion_status_t dispatch_$name(orion_worker_t *w, const orion_record_t *record) {
  orion_args_${name}_t args;
  if (record->slot $wrong_slot ORION_SLOT_NONE) return ORION_PROTOCOL;
  if (!decoded_$name(record, &args)) return ORION_PROTOCOL;
$start
}

"""

# The record was decoded before it was queued; its copy is the same.
RUN = """\
static void run_$name(orion_worker_t *w, const orion_record_t *record) {
  orion_args_${name}_t args;
  if (decoded_$name(record, &args)) serve_$name(w, record, &args);
}
"""

REPLY = """\
void orion_reply_$name($parameters) {
$body
}

"""


def serve_prototype(entry: Entry) -> str:
    first = ["orion_worker_t *w"] + (["orion_ticket_t ticket"] if entry.deferred else [])
    return f"CUresult orion_serve_{entry.name}({join(first + serve_parameters(entry))})"


def reply_prototype_parameters(entry: Entry) -> list[str]:
    return [
        "orion_worker_t *w",
        "orion_ticket_t ticket",
        "CUresult result",
        *reply_parameters(entry),
    ]


def emit_serve_h(spec: Spec) -> str:
    rows = []
    for e in spec.operations:
        marks = [e.wire] + [m for m in (e.reply, e.runs) if m]
        rows.append(f"/* {', '.join(marks)}: {e.doc} */\n{serve_prototype(e)};")
        if e.deferred:
            rows.append(f"void orion_reply_{e.name}({join(reply_prototype_parameters(e))});")
    return fill(SERVE_H, banner=banner("emit_server"), rows="\n".join(rows))


def body_lines(entry: Entry) -> list[str]:
    """Look objects up, charge, serve, bind or give back, answer."""
    fields, _ = wire_fields(entry)
    lines = (
        [f"  const orion_wire_{entry.name}_t *a = args->fixed;"] if fields else ["  (void)args;"]
    )
    if entry.wire == "async":
        lines.append("  (void)record;")
    lines += ["  CUresult result = CUDA_SUCCESS;", *variable_lines(entry)]
    arguments = ["w"] + (
        ["(orion_ticket_t){record->slot, record->sequence}"] if entry.deferred else []
    )
    body, undo = lookup_lines(entry)
    arguments += [
        serve_argument(entry, p.name) for p in entry.travelling if serve_argument(entry, p.name)
    ]
    body.append(f"  result = orion_serve_{entry.name}({', '.join(arguments)});")
    if entry.deferred:
        body.append("  if (result == ORION_DEFERRED) return;")
    lines += body + undo + ([] if not jumps(body) else ["done:"]) + answer_lines(entry)
    return lines


def jumps(body: list[str]) -> bool:
    return any("goto done" in line for line in body)


def variable_lines(entry: Entry) -> list[str]:
    lines = []
    for p in entry.travelling:
        if p.form == "handle":
            lines.append(f"  {p.kind.object} *{p.name} = NULL;")
        elif p.form == "new" and p.inner is not None:
            lines.append(f"  {p.inner.object} *{p.name} = NULL;")
        elif p.form == "out" and p.inner is not None and not entry.deferred:
            lines.append(
                f"  {p.inner.c} {p.name} = 0;"
                if not p.inner.c.endswith("*")
                else f"  {p.inner.c}{p.name} = NULL;"
            )
    if not entry.deferred and reply_fields(entry)[0]:
        _, size = reply_fields(entry)
        room = size + sum((p.number + 7) // 8 * 8 for p in entry.blobs)
        lines.append("  uint32_t reply_bytes = 0;")
        lines += [
            f"  _Alignas(8) unsigned char reply[{room}];",
            f'  _Static_assert({room} <= ORION_REPLY_DATA, "fits a reply slot");',
        ]
        offset = size
        for p in entry.blobs:
            lines += [
                f"  unsigned char *{p.name} = reply + {offset};",
                f"  uint32_t {p.name}_bytes = 0;",
            ]
            offset += (p.number + 7) // 8 * 8
    return lines


def lookup_lines(entry: Entry) -> tuple[list[str], list[str]]:
    """Checks before serving, and what is undone after a failure."""
    body: list[str] = []
    undo: list[str] = []
    for p in entry.travelling:
        if p.form == "flags":
            body += [
                f"  if ((a->{p.name} & ~{p.number:#x}u) != 0) {{",
                "    result = CUDA_ERROR_INVALID_VALUE;",
                "    goto done;",
                "  }",
            ]
        elif p.form == "handle":
            body += find_lines(entry, p.name)
    if entry.charged:
        body += [
            f"  result = orion_ledger_charge(w, a->{entry.charged});",
            "  if (result != CUDA_SUCCESS) goto done;",
        ]
        undo.append(f"  if (result != CUDA_SUCCESS) orion_ledger_refund(w, a->{entry.charged});")
    for p in entry.travelling:
        if p.form != "new" or p.inner is None:
            continue
        handles = f"orion_worker_handles(w, ORION_HANDLE_{p.inner.tag})"
        give_back = [f"    orion_ledger_refund(w, a->{entry.charged});"] if undo else []
        body += [
            f"  if (!orion_handles_claim({handles}, a->{p.name})) {{",
            *give_back,
            "    result = CUDA_ERROR_INVALID_HANDLE;",
            "    goto done;",
            "  }",
        ]
        undo += [
            "  if (result == CUDA_SUCCESS) {",
            f"    orion_handles_put({handles}, a->{p.name}, {p.name});",
            "  } else {",
            f"    orion_handles_abandon({handles}, a->{p.name});",
            "  }",
        ]
    return body, undo


def find_lines(entry: Entry, name: str) -> list[str]:
    p = next(p for p in entry.travelling if p.name == name)
    handles = f"orion_worker_handles(w, ORION_HANDLE_{p.kind.tag})"
    verb = "take" if entry.destroys == name else "find"
    if p.kind.tag == "STREAM" and verb == "find":
        lines = [f"  if (!orion_worker_stream(w, a->{name}, &{name})) {{"]
    else:
        lines = [
            f"  {name} = orion_handles_{verb}({handles}, a->{name});",
            f"  if ({name} == NULL) {{",
        ]
    return [*lines, "    result = CUDA_ERROR_INVALID_HANDLE;", "    goto done;", "  }"]


def serve_argument(entry: Entry, name: str) -> str:
    p = next(p for p in entry.travelling if p.name == name)
    if p.form == "handle":
        return name
    if p.form == "new":
        return f"&{name}"
    if p.form in ("bytes_in", "string"):
        return f"args->{name}"
    if p.form == "out":
        return "" if entry.deferred else f"&{name}"
    if p.form == "out_bytes":
        return "" if entry.deferred else f"{name}, &{name}_bytes"
    return from_wire(p.kind.c, f"a->{name}")


def answer_lines(entry: Entry) -> list[str]:
    if entry.wire == "async":
        return [
            f'  if (result != CUDA_SUCCESS) orion_worker_async_failed(w, result, "{entry.name}");'
        ]
    if entry.deferred or not reply_fields(entry)[0]:
        return ["  orion_worker_reply(w, record->slot, record->sequence, result, NULL, 0);"]
    lines = ["  if (result == CUDA_SUCCESS) {", *pack_lines(entry, "    "), "  }"]
    return [
        *lines,
        "  orion_worker_reply(w, record->slot, record->sequence, result, reply, reply_bytes);",
    ]


def pack_lines(entry: Entry, indent: str) -> list[str]:
    """Results into `reply`; blocks of bytes move up so that they follow one another."""
    _, size = reply_fields(entry)
    lines = [
        f"{indent}orion_outs_{entry.name}_t *outs = (void *)reply;",
        f"{indent}memset(outs, 0, sizeof(*outs));",
    ]
    for p in entry.outs:
        assert p.inner is not None
        cast = (
            "(uint64_t)(uintptr_t)"
            if p.inner.c.endswith("*")
            else f"({WIRE_TYPES[p.inner.wire][0]})"
        )
        lines.append(f"{indent}outs->{p.name} = {cast}{p.name};")
    lines.append(f"{indent}reply_bytes = {size};")
    for p in entry.blobs:
        lines += [
            f"{indent}if ({p.name}_bytes > {p.number}) {p.name}_bytes = {p.number};",
            f"{indent}outs->{p.name}_bytes = {p.name}_bytes;",
            f"{indent}memmove(reply + reply_bytes, {p.name}, {p.name}_bytes);",
            f"{indent}uint32_t {p.name}_padded = (uint32_t)orion_wire_padded({p.name}_bytes);",
            f"{indent}memset(reply + reply_bytes + {p.name}_bytes, 0, {p.name}_padded - {p.name}_bytes);",
            f"{indent}reply_bytes += {p.name}_padded;",
        ]
    return lines


def reply_text(entry: Entry) -> str:
    """orion_reply_X of a deferred operation."""
    fields, size = reply_fields(entry)
    if not fields:
        body = ["  orion_worker_reply(w, ticket.slot, ticket.sequence, result, NULL, 0);"]
    else:
        room = size + sum((p.number + 7) // 8 * 8 for p in entry.blobs)
        body = [
            f"  _Alignas(8) unsigned char reply[{room}];",
            f'  _Static_assert({room} <= ORION_REPLY_DATA, "fits a reply slot");',
            "  uint32_t reply_bytes = 0;",
            "  if (result == CUDA_SUCCESS) {",
            *pack_lines(entry, "    "),
            "  }",
            "  orion_worker_reply(w, ticket.slot, ticket.sequence, result, reply, reply_bytes);",
        ]
    return fill(
        REPLY,
        name=entry.name,
        parameters=join(reply_prototype_parameters(entry)),
        body="\n".join(body),
    )


def dispatch_text(entry: Entry) -> str:
    start = f"  serve_{entry.name}(w, record, &args);\n  return ORION_OK;"
    if entry.executor:
        start = f"  return orion_worker_queue(w, record, run_{entry.name});"
    text = fill(
        SERVE,
        name=entry.name,
        body="\n".join(body_lines(entry)),
        run=fill(RUN, name=entry.name) + "\n" if entry.executor else "",
        wrong_slot="==" if entry.wire == "sync" else "!=",
        start=start,
    )
    return text + (reply_text(entry) if entry.deferred else "")


def emit_dispatch_c(spec: Spec) -> str:
    table = "\n".join(f"  [ORION_OP_{e.name}] = dispatch_{e.name}," for e in spec.operations)
    rows = "".join(dispatch_text(e) for e in spec.operations)
    return fill(DISPATCH_C, banner=banner("emit_server"), rows=rows, table=table)
