# SPDX-License-Identifier: Apache-2.0
"""A mistake in the spec fails at its own line, with the fix. Each case replaces one line of the small spec."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from codegen.__main__ import main, read_spec
from codegen.model import SpecError

SMALL = Path(__file__).resolve().parent / "small"

# file, the line to find, what to put there, and a piece of the message that must stand at that line
CASES = {
    "unknown kind": ("memory.toml", 'uc = "u8"', 'uc = "byte"', "unknown kind 'byte'"),
    "not a kind": ("memory.toml", 'uc = "u8"', "uc = 8", "is not a kind"),
    "kind of another type": (
        "memory.toml",
        'uc = "u8"',
        'uc = "u32"',
        "is a 'unsigned char' but kind u32",
    ),
    "no such parameter": ("memory.toml", 'uc = "u8"', 'ud = "u8"', "has no parameter ud"),
    "alias of nothing": (
        "stream.toml",
        'same_as = "cuStreamDestroy_v2"',
        'same_as = "cuStreamGone"',
        "which is not served",
    ),
    "unknown word value": (
        "stream.toml",
        'reply = "deferred"',
        'reply = "later"',
        "reply = 'later' does not exist",
    ),
    "out of nothing": (
        "memory.toml",
        'dptr = "out(device_ptr)"',
        'dptr = "out(stream)"',
        "needs a value kind inside",
    ),
    "memory without charge": (
        "memory.toml",
        'allocates = "bytesize"',
        'needs = "context"',
        "without saying what is charged",
    ),
    "object that holds memory without charge": (
        "internal.toml",
        'letter = "u8"',
        'letter = "new(module)"',
        "hands out memory (letter) without saying what is charged",
    ),
    "handle that may hold memory": (
        "kinds.toml",
        'holds = "memory"',
        "# gone",
        "does not say whether its objects are charged",
    ),
    "charge of nothing": (
        "memory.toml",
        'allocates = "bytesize"',
        'allocates = "size"',
        "names no value parameter",
    ),
    "range of no memory": (
        "memory.toml",
        'touches = "dstDevice, N * 1"',
        'touches = "N, N * 1"',
        "is no range of device memory",
    ),
    "range of no amount": (
        "memory.toml",
        'touches = "dstDevice, N * 1"',
        'touches = "dstDevice, N * M"',
        "is no amount",
    ),
    "mask": ("stream.toml", 'Flags = "flags(0x1)"', 'Flags = "flags(all)"', "needs a number"),
    "length": (
        "internal.toml",
        'data = "bytes_in(bytes)"',
        'data = "bytes_in(size)"',
        "is no u32 or size parameter",
    ),
    "reply too large": (
        "internal.toml",
        'answer = "out_bytes(64)"',
        'answer = "out_bytes(9000)"',
        "fit into a reply",
    ),
    "optional input": (
        "internal.toml",
        'name = "string"',
        'name = "string?"',
        "only out(...) may be optional",
    ),
    "reserved name": (
        "internal.toml",
        'name = "string"',
        'payload = "string"',
        "generated code uses itself",
    ),
    "unknown CUDA name": (
        "stream.toml",
        "[cuStreamSynchronize]",
        "[cuStreamSync]",
        "cuda.h declares no cuStreamSync",
    ),
    "number used twice": (
        "opcodes.toml",
        "cuStreamCreate = 4",
        "cuStreamCreate = 3",
        "belongs to cuMemsetD8_v2",
    ),
    "number out of order": (
        "opcodes.toml",
        "cuStreamCreate = 4",
        "cuStreamCreate = 40",
        "is not appended in order",
    ),
    "number without operation": (
        "opcodes.toml",
        "cuStreamCreate = 4",
        "cuStreamMake = 4",
        "has no operation cuStreamMake",
    ),
    "not TOML": ("opcodes.toml", "cuStreamCreate = 4", "cuStreamCreate 4", "not valid TOML"),
}


def copy_with(folder: Path, file: str, old: str, new: str) -> tuple[Path, int]:
    spec = folder / "spec"
    shutil.copytree(SMALL, spec)
    lines = (spec / file).read_text().split("\n")
    at = lines.index(old)
    lines[at] = new
    (spec / file).write_text("\n".join(lines))
    return spec, at + 1


def entry_line(path: Path, line: int) -> int:
    """The line of the [entry] that a line belongs to."""
    lines = path.read_text().split("\n")
    return max(n for n in range(1, line + 1) if lines[n - 1].startswith("["))


@pytest.mark.parametrize("case", CASES)
def test_mistake_is_found_at_its_line(case: str, tmp_path: Path) -> None:
    file, old, new, message = CASES[case]
    spec, line = copy_with(tmp_path, file, old, new)
    with pytest.raises(SpecError) as caught:
        read_spec(spec)
    text = str(caught.value)
    place, _, rest = text.partition(": ")
    # "number out of order" is noticed at the next line, whose number is then too small
    allowed = {line, line + 1} if file == "opcodes.toml" else {line, entry_line(spec / file, line)}
    assert place.split(":")[0] == str(spec / file)
    assert int(place.split(":")[1]) in allowed, text
    assert message in rest
    assert "; " in rest, "the message ends with the fix"


def test_missing_opcode(tmp_path: Path) -> None:
    spec, _ = copy_with(tmp_path, "opcodes.toml", "orionFetch = 7", "# gone")
    with pytest.raises(
        SpecError,
        match=r"internal\.toml:13: orionFetch has no opcode; append orionFetch = 7 to opcodes\.toml",
    ):
        read_spec(spec)


def test_undecided_name(tmp_path: Path) -> None:
    spec, _ = copy_with(tmp_path, "stream.toml", '  "cuGraphLaunch",', "")
    with pytest.raises(
        SpecError, match=r"signatures\.toml:\d+: nothing is decided about cuGraphLaunch"
    ):
        read_spec(spec)


def test_decided_twice(tmp_path: Path) -> None:
    spec, _ = copy_with(
        tmp_path, "stream.toml", '  "cuGraphLaunch",', '  "cuGraphLaunch", "cuDeviceGetCount",'
    )
    with pytest.raises(
        SpecError, match=r"cuDeviceGetCount was decided already at .*memory\.toml:2"
    ):
        read_spec(spec)


def test_command_prints_the_mistake_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, line = copy_with(tmp_path, "memory.toml", 'uc = "u8"', 'uc = "byte"')
    monkeypatch.setattr(
        "sys.argv", ["codegen", "--spec", str(spec), "--output", str(tmp_path / "out")]
    )
    assert main() == 1
    assert f"memory.toml:{line}: unknown kind 'byte'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
