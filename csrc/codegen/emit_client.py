# SPDX-License-Identifier: Apache-2.0
"""The client's half: calls.h and calls.c (orion_call_X, orion_post_X), hand.h, and the exported stubs."""

from __future__ import annotations

from .emit_wire import sent_parameters, tail_length
from .model import Entry, Parameter, Signature, Spec
from .text import banner, call_parameters, cuda_parameters, fill, from_wire, join, reply_fields

CALLS_H = """\
$banner#ifndef ORION_GENERATED_CALLS_H
#define ORION_GENERATED_CALLS_H

#include "orion_generated/orion_cuda.h"

typedef struct orion_session orion_session_t;

/* orion_call_X waits for the answer, orion_post_X does not. Objects are u64 wire handles. */
$rows

#endif
"""

CALLS_C = """\
$banner#include "orion_generated/calls.h"
#include "orion_generated/wire.h"
#include "stub.h"

$rows"""

CALL = """\
CUresult $verb($parameters) {
  orion_call_t call;
$lengths  CUresult result = orion_call_begin(s, &call, ORION_OP_$name, orion_measure_$name($measured), $waits);
  if (result != CUDA_SUCCESS) return result;
  orion_encode_$name($encoded);
$finish
}

"""

HAND_H = """\
$banner#ifndef ORION_GENERATED_HAND_H
#define ORION_GENERATED_HAND_H

#include "orion_generated/orion_cuda.h"

/* Written by hand in client/hand/. Where CUDA has a per-thread variant, default_stream says what NULL means. */
$rows

#endif
"""

STUBS_C = """\
$banner#include "orion_generated/calls.h"
#include "orion_generated/hand.h"
#include "stub.h"

#define ORION_EXPORT __attribute__((visibility("default")))

$protos
$rows"""

UNSERVED_C = """\
$banner/* Names that are not served: NOT_SUPPORTED, logged once each. No argument is looked at, so none is declared. */
#include "orion_generated/orion_cuda.h"

CUresult orion_unserved(const char *name);

#define UNSERVED(name)                                                \\
  __attribute__((visibility("default"))) CUresult name(void);         \\
  CUresult name(void) { return orion_unserved(#name); }

$rows
"""


def verb(entry: Entry) -> str:
    return f"orion_{'call' if entry.wire == 'sync' else 'post'}_{entry.name}"


def prototype(entry: Entry) -> str:
    return f"CUresult {verb(entry)}({join(['orion_session_t *s', *call_parameters(entry)])})"


def names_of(parameters: list[str]) -> list[str]:
    return [p.split("*")[-1].split(" ")[-1] for p in parameters]


def call_text(entry: Entry) -> str:
    lengths = "".join(
        f"  size_t {p.name}_length = {tail_length(entry, p.name)};\n" for p in entry.tails
    )
    sent = names_of(sent_parameters(entry))
    post = ["  return orion_call_post(&call);"]
    finish = post if entry.wire == "async" else wait_lines(entry)
    return fill(
        CALL,
        verb=verb(entry),
        parameters=join(["orion_session_t *s", *call_parameters(entry)]),
        lengths=lengths,
        name=entry.name,
        measured=", ".join(f"{p.name}_length" for p in entry.tails),
        waits=1 if entry.wire == "sync" else 0,
        encoded=", ".join(["call.cursor.p", *sent]),
        finish="\n".join(finish),
    )


def wait_lines(entry: Entry) -> list[str]:
    fields, size = reply_fields(entry)
    lines = ["  orion_cursor_t reply;", "  result = orion_call_wait(&call, &reply);"]
    if not fields:
        return [*lines, "  return result;"]
    lines += [
        "  if (result != CUDA_SUCCESS) return result;",
        f"  const orion_outs_{entry.name}_t *outs = (const void *)orion_cursor_take(&reply, {size});",
        "  if (outs == NULL) return CUDA_ERROR_UNKNOWN;",
    ]
    for p in entry.blobs:
        lines += [
            f"  const void *{p.name}_data = orion_cursor_take(&reply, orion_wire_padded(outs->{p.name}_bytes));",
            f"  if ({p.name}_data == NULL || outs->{p.name}_bytes > {p.name}_capacity) return CUDA_ERROR_UNKNOWN;",
        ]
    for p in entry.outs:
        assert p.inner is not None
        lines.append(
            f"  if ({p.name} != NULL) *{p.name} = {from_wire(p.inner.c, f'outs->{p.name}')};"
        )
    for p in entry.blobs:
        lines += [
            f"  if (outs->{p.name}_bytes != 0) memcpy({p.name}, {p.name}_data, outs->{p.name}_bytes);",
            f"  if ({p.name}_bytes_p != NULL) *{p.name}_bytes_p = outs->{p.name}_bytes;",
        ]
    return [*lines, "  return CUDA_SUCCESS;"]


def emit_calls_h(spec: Spec) -> str:
    rows = "\n".join(f"{prototype(e)};" for e in spec.operations)
    return fill(CALLS_H, banner=banner("emit_client"), rows=rows)


def emit_calls_c(spec: Spec) -> str:
    return fill(
        CALLS_C, banner=banner("emit_client"), rows="".join(call_text(e) for e in spec.operations)
    )


def hand_parameters(signature: Signature) -> list[str]:
    first = ["CUstream default_stream"] if signature.per_thread else []
    return first + cuda_parameters(signature)


def emit_hand_h(spec: Spec) -> str:
    rows = [
        f"CUresult orion_hand_{e.name}({join(hand_parameters(spec.signatures[e.name]))});"
        for e in spec.exported
        if e.cls in ("hand", "local")
    ]
    return fill(HAND_H, banner=banner("emit_client"), rows="\n".join(rows))


def export(name: str, signature: Signature, body: list[str]) -> str:
    text = join(cuda_parameters(signature))
    lines = [f"ORION_EXPORT CUresult {name}({text}) {{", *[f"  {line}" for line in body], "}", ""]
    return "\n".join(lines) + "\n"


def exports(signature: Signature, target: str) -> str:
    """The plain symbol and its per-thread variant, both calling `target`."""
    arguments = [name for _, name in signature.parameters]
    if not signature.per_thread:
        return export(signature.name, signature, [f"return {target}({', '.join(arguments)});"])
    text = ""
    for name, stream in (
        (signature.name, "CU_STREAM_LEGACY"),
        (signature.per_thread_name, "CU_STREAM_PER_THREAD"),
    ):
        text += export(name, signature, [f"return {target}({', '.join([stream, *arguments])});"])
    return text


def stub_text(entry: Entry, signature: Signature) -> str:
    """A generated entry: checks by kind, then the call."""
    body = [
        "orion_session_t *s;",
        f"CUresult result = orion_enter(ORION_NEEDS_{entry.needs.upper()}, &s);",
        "if (result != CUDA_SUCCESS) return result;",
    ]
    arguments = ["s"]
    for p in entry.travelling:
        check, argument = stub_check(p, signature, implicit=p in entry.extra)
        body += check
        arguments.append(argument)
    if entry.touches:
        body += range_check(entry)
    body.append(f"return {verb(entry)}({', '.join(arguments)});")
    if not signature.per_thread:
        return export(signature.name, signature, body)
    head = f"static CUresult stub_{entry.name}({join(hand_parameters(signature))}) {{"
    return (
        "\n".join([head, *[f"  {line}" for line in body], "}", ""])
        + "\n"
        + exports(signature, f"stub_{entry.name}")
    )


def range_check(entry: Entry) -> list[str]:
    """A bad range is the caller's mistake and his error code; found on the server it would be a sticky fault."""
    address, *amounts = entry.touched
    given = [
        f"orion_times({', '.join(factor.strip() for factor in amount.split('*'))})"
        if "*" in amount
        else amount
        for amount in amounts
    ]
    check = "orion_check_range" if len(given) == 1 else "orion_check_rows"
    return [
        f"result = {check}(s, {address}, {', '.join(given)});",
        "if (result != CUDA_SUCCESS) return result;",
    ]


def stub_check(p: Parameter, signature: Signature, *, implicit: bool) -> tuple[list[str], str]:
    if p.form == "out":
        return (
            [] if p.optional else [f"if ({p.name} == NULL) return CUDA_ERROR_INVALID_VALUE;"]
        ), p.name
    if p.form == "flags":
        return [f"if (({p.name} & ~{p.number:#x}u) != 0) return CUDA_ERROR_INVALID_VALUE;"], p.name
    if p.form != "handle":
        return [], p.name
    wire = f"{p.name}_wire"
    if p.kind.tag == "STREAM":
        default = "default_stream" if signature.per_thread else "CU_STREAM_LEGACY"
        find = (
            f"result = orion_stream_wire(s, {'NULL' if implicit else p.name}, {default}, &{wire});"
        )
    else:
        find = f"result = orion_handle_wire(s, ORION_KIND_{p.kind.tag}, {p.name}, &{wire});"
    return [f"uint64_t {wire};", find, "if (result != CUDA_SUCCESS) return result;"], wire


def emit_stubs_c(spec: Spec) -> str:
    rows, protos = [], []
    for entry in spec.exported:
        signature = spec.signatures[entry.name]
        if entry.cls == "refused":
            continue
        for name in (signature.name, signature.per_thread_name):
            if name:
                protos.append(f"ORION_EXPORT CUresult {name}({join(cuda_parameters(signature))});")
        if entry.cls == "alias":
            target = spec.signatures[entry.same_as]
            served = target.name
            rows.append(
                export(
                    signature.name,
                    signature,
                    [f"return {served}({', '.join(n for _, n in signature.parameters)});"],
                )
            )
            if signature.per_thread:
                served = target.per_thread_name or target.name
                rows.append(
                    export(
                        signature.per_thread_name,
                        signature,
                        [f"return {served}({', '.join(n for _, n in signature.parameters)});"],
                    )
                )
        elif entry.cls in ("hand", "local"):
            rows.append(exports(signature, f"orion_hand_{entry.name}"))
        else:
            rows.append(stub_text(entry, signature))
    return fill(
        STUBS_C, banner=banner("emit_client"), protos="\n".join(protos) + "\n", rows="".join(rows)
    )


def emit_unserved_c(spec: Spec) -> str:
    names = [
        name
        for e in spec.exported
        if e.cls == "refused"
        for name in (e.name, spec.signatures[e.name].per_thread_name)
        if name
    ]
    return fill(
        UNSERVED_C,
        banner=banner("emit_client"),
        rows="\n".join(f"UNSERVED({name})" for name in names),
    )
