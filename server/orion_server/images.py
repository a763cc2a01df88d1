# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a module image to PTX text: plain PTX, fatbins (also one behind the other), compressed entries.

The bytes come from the client: every offset is checked, every size bounded before memory is spent on it, and a
decompressed entry must have exactly the size that its header claims. Runs in the cage.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from .errors import INVALID_IMAGE, NO_BINARY_FOR_GPU, OUT_OF_MEMORY, ImageError

IMAGE_MOST = 256 << 20
PTX_MOST = 256 << 20  # of one entry, decompressed
ENTRIES_MOST = 4096
RATIO_MOST = 1024  # decompressed to compressed: beyond it the entry is a bomb, not a program

WRAPPER_MAGIC = 0x466243B1
FATBIN_MAGIC = 0xBA55ED50
ELF_MAGIC = b"\x7fELF"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
KIND_PTX, KIND_ELF = 1, 2
FLAG_ARCHITECTURE = 0x300000  # sm_90a, sm_100f: for one chip or family only, not for newer ones
FLAG_LZ4 = 0x2000
FLAG_ZSTD = 0x8000

_VERSION = re.compile(r"^[ \t]*\.version[ \t]", re.M)
_FATBIN = struct.Struct("<IHHQ")  # magic, version, header bytes, bytes of all entries
_ENTRY = struct.Struct(
    "<HHIQIIHHII"
)  # kind, ?, header bytes, payload, compressed, ?, ISA minor, major, SM, ?


@dataclass(frozen=True)
class Entry:
    """One program of a fatbin, still compressed."""

    kind: int
    capability: int  # 80: compute_80 or sm_80
    flags: int
    compressed: int
    size: int  # decompressed; 0: the payload is not compressed
    payload: memoryview


def ptx_of(image: bytes, capability: int) -> list[str]:
    """The PTX texts to link, one for each image behind the other. ImageError carries the CUresult."""
    if not 0 < len(image) <= IMAGE_MOST:
        raise ImageError(
            INVALID_IMAGE,
            f"a module image of {len(image)} bytes; 1 to {IMAGE_MOST} are possible",
        )
    view = memoryview(image)
    if len(view) >= 4 and struct.unpack_from("<I", view)[0] == FATBIN_MAGIC:
        found = _fatbins(view)
        # of nvcc -rdc=true the first is the linked result, which is machine code: the others are what to link
        usable = [f for f in found if any(_is_portable(e) for e in f)] or found[:1]
        return [_choose(entries, capability) for entries in usable]
    if bytes(view[:4]) == ELF_MAGIC:
        raise _sass_only([f"sm_{_elf_capability(view)}"])
    return _texts(_text(image, "the image"))


def _texts(text: str) -> list[str]:
    """The linkers of the client put the texts one behind the other: each has a .version of its own."""
    if text.count(".version") == 1:
        return [text]
    begins = [m.start() for m in _VERSION.finditer(text)]
    if len(begins) > ENTRIES_MOST:
        raise ImageError(INVALID_IMAGE, f"more than {ENTRIES_MOST} PTX texts to link")
    ends = [*begins[1:], len(text)]
    return [text[b:e] for b, e in zip(begins, ends, strict=True)] or [text]


def _text(data: bytes, what: str) -> str:
    """PTX ends at the first NUL, if there is one."""
    body = data.partition(b"\0")[0]
    if b".version" not in body[: 1 << 16]:
        raise ImageError(
            INVALID_IMAGE, f"{what} is neither PTX (no .version in its first lines) nor a fatbin"
        )
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _fatbins(view: memoryview) -> list[list[Entry]]:
    """The entries of each fatbin; several follow one another when nvcc -rdc=true left them to be linked."""
    found: list[list[Entry]] = []
    at, total = 0, 0
    while len(view) - at >= _FATBIN.size:
        magic, version, header, size = _FATBIN.unpack_from(view, at)
        if magic != FATBIN_MAGIC:
            if found and not any(view[at : at + 4096]):
                break  # padding behind the last one
            raise ImageError(INVALID_IMAGE, f"no fatbin begins at byte {at} of the image")
        if version != 1 or header < _FATBIN.size or size > len(view) - at - header:
            raise ImageError(
                INVALID_IMAGE,
                f"the fatbin at byte {at} claims {size} bytes; the image ends before that",
            )
        entries = _entries(view[at + header : at + header + size])
        total += len(entries)
        if total > ENTRIES_MOST:
            raise ImageError(INVALID_IMAGE, f"more than {ENTRIES_MOST} entries in one image")
        found.append(entries)
        at += header + size
        at += -at % 8
    if not found:
        raise ImageError(
            INVALID_IMAGE, f"a fatbin of {len(view)} bytes: its header alone has {_FATBIN.size}"
        )
    return found


def _entries(view: memoryview) -> list[Entry]:
    entries: list[Entry] = []
    at = 0
    while len(view) - at >= _ENTRY.size:
        kind, _, header, payload, compressed, _, _, _, capability, _ = _ENTRY.unpack_from(view, at)
        if header < _ENTRY.size or header > len(view) - at or payload > len(view) - at - header:
            raise ImageError(
                INVALID_IMAGE, f"entry {len(entries)} of the fatbin reaches beyond its end"
            )
        flags = struct.unpack_from("<Q", view, at + 40)[0] if header >= 48 else 0
        size = struct.unpack_from("<Q", view, at + 56)[0] if header >= 64 else 0
        if compressed > payload:
            raise ImageError(
                INVALID_IMAGE, f"entry {len(entries)} of the fatbin claims more bytes than it has"
            )
        begin = at + header
        entries.append(
            Entry(kind, capability, flags, compressed, size, view[begin : begin + payload])
        )
        if len(entries) > ENTRIES_MOST:
            raise ImageError(INVALID_IMAGE, f"more than {ENTRIES_MOST} entries in one fatbin")
        at = begin + payload
    return entries


def _is_portable(entry: Entry) -> bool:
    return entry.kind == KIND_PTX and not entry.flags & FLAG_ARCHITECTURE


def _choose(entries: list[Entry], capability: int) -> str:
    """The newest PTX for this compute capability or an older one; without any, the oldest of the newer ones.

    Libraries such as CuPy's carry PTX for the newest chips alone, mostly without using anything new. Where a kernel
    does, it fails by itself and names the instruction.
    """
    portable = [e for e in entries if _is_portable(e)]
    fitting = [e for e in portable if e.capability <= capability]
    if portable:
        best = (
            max(fitting, key=lambda e: e.capability)
            if fitting
            else min(portable, key=lambda e: e.capability)
        )
        return _text(decompress(best), f"the PTX entry for compute_{best.capability}")
    raise _sass_only([f"sm_{e.capability}" for e in entries if e.kind == KIND_ELF])


def _sass_only(names: list[str]) -> ImageError:
    held = ", ".join(sorted(set(names))[:8]) or "nothing"
    return ImageError(
        NO_BINARY_FOR_GPU,
        f"the program holds machine code for {held} and no PTX, which this device needs: build it with "
        "nvcc -gencode arch=compute_80,code=compute_80 (CuPy: CUPY_COMPILE_WITH_PTX=1)",
    )


def _elf_capability(view: memoryview) -> int:
    """The SM number in a cubin's e_flags; 0 if the header is cut off."""
    if len(view) < 64:
        return 0
    flags: int = struct.unpack_from("<I", view, 48)[0]
    low, middle = flags & 0xFF, flags >> 8 & 0xFF  # newer cubins keep it one byte higher
    return middle if view[8] >= 8 and middle else low


def decompress(entry: Entry) -> bytes:
    """The entry's text. What comes out has exactly entry.size bytes, or it is an error."""
    if not entry.size and not entry.compressed:
        return bytes(entry.payload)
    packed = entry.payload[: entry.compressed or len(entry.payload)]
    if entry.size > PTX_MOST or entry.size > max(len(packed), 64) * RATIO_MOST:
        raise ImageError(
            INVALID_IMAGE, f"a compressed entry claims {entry.size} bytes from {len(packed)}"
        )
    if bytes(packed[:4]) == ZSTD_MAGIC:
        text = _zstd(packed, entry.size)
    elif entry.flags & FLAG_LZ4 or entry.compressed:
        text = _lz4(packed, entry.size)
    else:
        return bytes(entry.payload)
    if len(text) != entry.size:
        raise ImageError(
            INVALID_IMAGE, f"a compressed entry gave {len(text)} bytes instead of {entry.size}"
        )
    return text


def _zstd(packed: memoryview, size: int) -> bytes:
    import zstandard

    try:
        frame = zstandard.get_frame_parameters(packed)
        if (
            frame.content_size not in (zstandard.CONTENTSIZE_UNKNOWN, size)
            or frame.window_size > PTX_MOST
        ):
            raise ImageError(
                INVALID_IMAGE, f"a zstd entry holds {frame.content_size} bytes instead of {size}"
            )
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed)
        return reader.read(size + 1)  # one more would be one too many
    except zstandard.ZstdError as e:
        raise ImageError(INVALID_IMAGE, f"a zstd entry cannot be decompressed: {e}") from e
    except MemoryError as e:
        raise ImageError(OUT_OF_MEMORY, "no memory to decompress a module image") from e


def _lz4(packed: memoryview, size: int) -> bytes:
    import lz4.block

    try:
        return bytes(lz4.block.decompress(packed, uncompressed_size=size))
    except (lz4.block.LZ4BlockError, ValueError) as e:
        raise ImageError(INVALID_IMAGE, f"an LZ4 entry cannot be decompressed: {e}") from e
    except MemoryError as e:
        raise ImageError(OUT_OF_MEMORY, "no memory to decompress a module image") from e
