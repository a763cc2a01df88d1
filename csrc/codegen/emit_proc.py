# SPDX-License-Identifier: Apache-2.0
"""proc.h and proc.c: what cuGetProcAddress searches."""

from __future__ import annotations

import re

from .model import Spec
from .text import banner, fill

PROC_H = """\
$banner#ifndef ORION_GENERATED_PROC_H
#define ORION_GENERATED_PROC_H

#include <stdbool.h>
#include <stddef.h>

/* One variant of a base name: it exists since `version`. */
typedef struct orion_proc {
  const char *base;
  const char *symbol;
  int version;
  bool per_thread;
  void *address;
} orion_proc_t;

/* Sorted by base, then plain before per-thread, then version. */
extern const orion_proc_t orion_procs[];
extern const size_t orion_proc_count;

/* The newest variant with version <= `version`. With per_thread, a name that has per-thread variants answers with those
 * alone. NULL: *known_p says whether the name exists at all (only in another version). */
const orion_proc_t *orion_proc_find(const char *base, int version, bool per_thread, bool *known_p);

#endif
"""

PROC_C = """\
$banner#include "orion_generated/proc.h"

#include <string.h>

$protos

const orion_proc_t orion_procs[] = {
$rows
};

const size_t orion_proc_count = sizeof(orion_procs) / sizeof(orion_procs[0]);

static size_t lower_bound(const char *base) {
  size_t low = 0, high = orion_proc_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (strcmp(orion_procs[middle].base, base) < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

const orion_proc_t *orion_proc_find(const char *base, int version, bool per_thread, bool *known_p) {
  const orion_proc_t *plain = NULL, *threaded = NULL;
  bool has_plain = false, has_threaded = false;
  for (size_t i = lower_bound(base); i < orion_proc_count && strcmp(orion_procs[i].base, base) == 0; i++) {
    const orion_proc_t *row = &orion_procs[i];
    if (row->per_thread) {
      has_threaded = true;
      if (row->version <= version) threaded = row;
    } else {
      has_plain = true;
      if (row->version <= version) plain = row;
    }
  }
  *known_p = has_plain || has_threaded;
  return per_thread && has_threaded ? threaded : plain;
}
"""


def base_name(name: str) -> str:
    """cuMemAlloc_v2 -> cuMemAlloc: the name that cuGetProcAddress is asked for."""
    return re.sub(r"_v\d+$", "", name)


def variants(spec: Spec) -> list[tuple[str, bool, int, str]]:
    """(base, per thread, version, symbol), sorted."""
    rows = []
    for s in spec.signatures.values():
        rows.append((base_name(s.name), False, s.version, s.name))
        if s.per_thread:
            rows.append((base_name(s.name), True, s.per_thread_version, s.per_thread_name))
    return sorted(rows)


def emit_proc_h(spec: Spec) -> str:
    return fill(PROC_H, banner=banner("emit_proc"))


def emit_proc_c(spec: Spec) -> str:
    rows = variants(spec)
    protos = "\n".join(f"void {symbol}(void);" for *_, symbol in rows)
    table = "\n".join(
        f'  {{"{base}", "{symbol}", {version}, {str(threaded).lower()}, (void *){symbol}}},'
        for base, threaded, version, symbol in rows
    )
    return fill(PROC_C, banner=banner("emit_proc", "csrc/spec/cuda"), protos=protos, rows=table)
