# SPDX-License-Identifier: Apache-2.0
"""Transcribes the facts of NVIDIA's CUDA headers into csrc/spec/cuda/*.toml.

Run by hand for a new CUDA release; the result is committed, the headers never are:

    python csrc/spec/import_header.py --include /usr/local/cuda/include

Only facts are taken: names, numbers, types, layouts and versions. Comments and prose are dropped by the
preprocessor before anything is read. Needs a C compiler and pycparser.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pycparser import c_ast, c_generator, c_parser

HEADERS = ("cuda.h", "cudaProfiler.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h")
TYPEDEF_HEADERS = tuple(name.replace(".h", "Typedefs.h") for name in HEADERS)

# What the CUDA headers use of other projects' headers, which need not be installed.
FOREIGN = {
    "stdlib.h": "typedef unsigned long size_t;\n",
    "stdint.h": "typedef unsigned int uint32_t; typedef unsigned long uint64_t;\n",
    "GL/gl.h": "typedef unsigned int GLuint; typedef unsigned int GLenum;\n",
    "EGL/egl.h": "typedef int EGLint;\n",
    "EGL/eglext.h": "typedef void *EGLImageKHR; typedef void *EGLStreamKHR; typedef void *EGLSyncKHR;\n",
    "vdpau/vdpau.h": (
        "typedef unsigned int VdpDevice; typedef unsigned int VdpFuncId; typedef int VdpStatus;\n"
        "typedef unsigned int VdpVideoSurface; typedef unsigned int VdpOutputSurface;\n"
        "typedef VdpStatus VdpGetProcAddress(VdpDevice device, VdpFuncId id, void **pointer);\n"
    ),
}

VARIANT = re.compile(r"^(?P<base>\w+?)(?P<number>_v\d+)?(?P<per_thread>_ptds|_ptsz)?$")
POINTER_TYPE = re.compile(r"\*\s*PFN_(\w+?)_v(\d+)(_ptds|_ptsz)?\s*\)")
INTEGER_MACRO = re.compile(r"#define\s+((?:CU|CUDA)_\w+)\s+(\S.*)$", re.MULTILINE)
# Macros that are switches of the header, not values of the interface.
NOT_VALUES = re.compile(
    r"^(CUDA_CB|CUDAAPI|CUDA_ARRAY3D_2DARRAY|CUDA_FORCE\w*|CUDA_ENABLE_DEPRECATED|\w+_HAS_BEEN_DEFINED)$"
)


@dataclass
class Function:
    name: str
    header: str
    parameters: list[tuple[str, str]]
    version: int = 0
    per_thread: str = ""
    per_thread_version: int = 0


@dataclass
class Type:
    name: str
    kind: str  # enum, struct, union, handle, alias, callback
    tag: str = ""
    text: str = ""
    values: list[str] = field(default_factory=list)
    members: list[tuple[str, str]] = field(
        default_factory=list
    )  # (member name or "", C declaration)


def split_variant(name: str) -> tuple[str, int, str]:
    """cuMemcpyHtoD_v2_ptds -> (cuMemcpyHtoD, 2, ptds)."""
    match = VARIANT.match(name)
    assert match is not None
    number = int(match["number"][2:]) if match["number"] else 1
    return match["base"], number, (match["per_thread"] or "").lstrip("_")


def preprocess(include: Path, header: str, foreign: Path) -> str:
    command = [
        "cc",
        "-E",
        "-P",
        "-nostdinc",
        "-D__CUDA_API_VERSION_INTERNAL",
        "-D__attribute__(x)=",
    ]
    command += [f"-I{foreign}", f"-I{include}", "-x", "c", "-"]
    # cudaVDPAU.h includes nothing itself
    wrapper = f"#include <vdpau/vdpau.h>\n#include <cuda.h>\n#include <{header}>\n"
    return subprocess.run(command, input=wrapper, check=True, capture_output=True, text=True).stdout


def declarations(source: str) -> Iterator[c_ast.Node]:
    yield from c_parser.CParser().parse(source).ext


def read_functions(tree: Iterable[c_ast.Node], header: str) -> Iterator[Function]:
    write = c_generator.CGenerator()
    for node in tree:
        if not (isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl)):
            continue
        if not re.match(r"cu[A-Z]", node.name):
            continue
        parameters = []
        for parameter in node.type.args.params if node.type.args else []:
            if isinstance(parameter, c_ast.Typename):
                continue  # (void)
            name = parameter.name
            text = write.visit(parameter)
            if isinstance(parameter.type, c_ast.ArrayDecl):
                text = text.replace(f"{name}[]", f"*{name}")
            parameters.append((re.sub(rf"\b{name}$", "", text).strip(), name))
        yield Function(node.name, header, parameters)


def read_types(tree: Iterable[c_ast.Node]) -> Iterator[Type]:
    write = c_generator.CGenerator()
    bodies: dict[str, c_ast.Node] = {}
    nodes = list(tree)
    for node in nodes:
        inner = node.type if isinstance(node, c_ast.Decl) else None
        if isinstance(inner, (c_ast.Struct, c_ast.Union)) and inner.decls:
            bodies[inner.name] = inner
    for node in nodes:
        if not isinstance(node, c_ast.Typedef) or not re.match(r"CU|cuu", node.name):
            continue
        name, text = node.name, re.sub(r"\s+", " ", write.visit(node).removeprefix("typedef "))
        inner = node.type.type if isinstance(node.type, c_ast.TypeDecl) else None
        if isinstance(inner, c_ast.Enum):
            values = [item.name for item in inner.values.enumerators] if inner.values else []
            yield Type(name, "enum", inner.name or "", values=values)
        elif isinstance(inner, (c_ast.Struct, c_ast.Union)):
            body = inner if inner.decls else bodies.get(inner.name)
            kind = "struct" if isinstance(inner, c_ast.Struct) else "union"
            members = (
                [(d.name or "", re.sub(r"\s+", " ", write.visit(d))) for d in body.decls]
                if body
                else []
            )
            yield Type(name, kind, inner.name or "", members=members)
        elif isinstance(node.type, c_ast.PtrDecl) and isinstance(node.type.type, c_ast.TypeDecl):
            pointed = node.type.type.type
            tag = pointed.name if isinstance(pointed, c_ast.Struct) else ""
            yield Type(name, "handle" if tag else "alias", tag, text=text)
        elif isinstance(node.type, c_ast.PtrDecl):
            yield Type(name, "callback", text=text)
        else:
            yield Type(name, "alias", text=text)


def read_macros(include: Path, foreign: Path, header: str) -> dict[str, str]:
    command = [
        "cc",
        "-E",
        "-dM",
        "-nostdinc",
        f"-I{foreign}",
        f"-I{include}",
        str(include / header),
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {}
    for name, value in INTEGER_MACRO.findall(text):
        if not NOT_VALUES.match(name) and not re.match(r"CU\w*_H$|__", name) and value.strip():
            found[name] = value.strip()
    return dict(sorted(found.items()))


def probe(include: Path, types: list[Type], macros: dict[str, str]) -> dict[str, int]:
    """Asks the compiler for every value, size and offset, so that none is computed here."""
    questions = []
    for t in types:
        questions += [(value, f"(long long){value}") for value in t.values]
        if t.members:
            questions.append((f"sizeof({t.name})", f"(long long)sizeof({t.name})"))
            for member, _ in t.members:
                if member:
                    questions.append(
                        (f"{t.name}.{member}", f"(long long)offsetof({t.name}, {member})")
                    )
    questions += [(name, f"(long long)({name})") for name in macros]
    lines = [f'  printf("%s %lld\\n", "{key}", {text});' for key, text in questions]
    program = (
        "#include <stddef.h>\n#include <stdio.h>\n#include <cuda.h>\n#include <cudaProfiler.h>\n"
    )
    program += "int main(void) {\n" + "\n".join(lines) + "\n  return 0;\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "probe.c"), Path(folder, "probe")
        source.write_text(program)
        command = [
            "cc",
            "-D__CUDA_API_VERSION_INTERNAL",
            f"-I{include}",
            "-w",
            str(source),
            "-o",
            str(binary),
        ]
        subprocess.run(command, check=True)
        answers = subprocess.run([str(binary)], check=True, capture_output=True, text=True).stdout
    return {
        key: int(value) for key, value in (line.rsplit(" ", 1) for line in answers.splitlines())
    }


def pair_versions(functions: dict[str, Function], include: Path) -> list[Function]:
    """Pairs each exported variant with the CUDA version that introduced it.

    Per base name and per suffix the n-th typedef (by version) belongs to the n-th symbol (by _vN).
    """
    versions: dict[tuple[str, str], list[int]] = defaultdict(list)
    for header in TYPEDEF_HEADERS:
        for base, version, suffix in POINTER_TYPE.findall((include / header).read_text()):
            key = (base, suffix.lstrip("_"))
            if int(version) not in versions[key]:
                versions[key].append(int(version))
    symbols: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for name in functions:
        base, number, suffix = split_variant(name)
        symbols[base, suffix].append((number, name))
    result = []
    for key, names in symbols.items():
        known = sorted(versions.get(key, []))
        if len(known) != len(names):
            sys.exit(f"{key}: {len(names)} symbols but {len(known)} versions: {names} {known}")
        for (_, name), version in zip(sorted(names), known, strict=True):
            functions[name].version = version
    for name, function in functions.items():
        if not name.endswith(("_ptds", "_ptsz")):
            result.append(function)
            continue
        plain = functions[name[:-5]]
        plain.per_thread, plain.per_thread_version = name[-4:], function.version
        if [text for text, _ in plain.parameters] != [text for text, _ in function.parameters]:
            sys.exit(f"{name}: parameters differ from {plain.name}")
    return result


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_functions(path: Path, functions: list[Function], release: int) -> None:
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        f"# Written by csrc/spec/import_header.py from the CUDA {release // 1000}.{release % 1000 // 10} headers;",
        "# facts only (names, parameters, versions). Do not edit: run the tool again.",
        "",
        f"cuda_version = {release}",
    ]
    for f in functions:
        lines += ["", f"[{f.name}]"]
        if f.header != "cuda.h":
            lines.append(f"header = {quote(f.header)}")
        lines.append(f"version = {f.version}")
        if f.per_thread:
            lines.append(f"{f.per_thread} = {f.per_thread_version}")
        inner = ", ".join(f"[{quote(text)}, {quote(name)}]" for text, name in f.parameters)
        lines.append(f"parameters = [{inner}]")
    path.write_text("\n".join(lines) + "\n")


def write_types(
    path: Path, types: list[Type], macros: dict[str, str], facts: dict[str, int], release: int
) -> None:
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        f"# Written by csrc/spec/import_header.py from the CUDA {release // 1000}.{release % 1000 // 10} headers;",
        "# facts only (type names, values, layouts). Do not edit: run the tool again.",
    ]
    for t in types:
        lines += ["", f"[{t.name}]", f'kind = "{t.kind}"']
        if t.tag:
            lines.append(f"tag = {quote(t.tag)}")
        if t.text:
            lines.append(f"declaration = {quote(t.text)}")
        if t.kind == "enum":
            lines.append("values = [")
            lines += [f"  [{quote(value)}, {facts[value]}]," for value in t.values]
            lines.append("]")
        if t.members:
            lines += [f"size = {facts[f'sizeof({t.name})']}", "members = ["]
            for member, text in t.members:
                offset = facts[f"{t.name}.{member}"] if member else -1
                lines.append(f"  [{offset}, {quote(member)}, {quote(text)}],")
            lines.append("]")
    lines += ["", "[constants]", 'kind = "constants"', "values = ["]
    for name, text in macros.items():
        pointer = re.match(r"\(\(\s*(CUstream|void\s*\*)\s*\)", text)
        cast = f", {quote(pointer[1].replace(' ', ''))}" if pointer else ""
        lines.append(f"  [{quote(name)}, {facts[name]}{cast}],")
    lines.append("]")
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--include", type=Path, required=True, help="folder with cuda.h and its siblings"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "cuda")
    options = parser.parse_args()
    functions: dict[str, Function] = {}
    types: dict[str, Type] = {}
    with tempfile.TemporaryDirectory() as folder:
        foreign = Path(folder)
        for name, text in FOREIGN.items():
            (foreign / name).parent.mkdir(parents=True, exist_ok=True)
            guard = re.sub(r"\W", "_", name).upper()
            (foreign / name).write_text(f"#ifndef {guard}\n#define {guard}\n{text}#endif\n")
        for header in HEADERS:
            source = preprocess(options.include, header, foreign)
            tree = list(declarations(source))
            for function in read_functions(tree, header):
                functions.setdefault(function.name, function)
            for t in read_types(tree):
                if header in ("cuda.h", "cudaProfiler.h"):
                    types.setdefault(t.name, t)
        macros = read_macros(options.include, foreign, "cuda.h")
    facts = probe(options.include, list(types.values()), macros)
    release = facts["CUDA_VERSION"]
    plain = pair_versions(functions, options.include)
    options.output.mkdir(exist_ok=True)
    write_functions(options.output / "signatures.toml", plain, release)
    write_types(options.output / "types.toml", list(types.values()), macros, facts, release)
    print(
        f"{len(functions)} names, {len(plain)} signatures, {len(types)} types, {len(macros)} constants"
    )


if __name__ == "__main__":
    main()
