"""The file form of tapes and kernels: one header of JSON, then named parts of bytes, under one SHA-256.

    offset  size
    0       8     magic
    8       4     version of this layout, little endian
    12      8     number of bytes after the digest
    20      32    SHA-256 of the bytes 8 to 20 and of all that follows the digest
    52      4     length of the header
    56            header: a JSON object; its "parts" lists [name, size] in order
                  the parts, one behind another, to the end of the file

The digest is checked before anything is read. It finds what was damaged; it does not say who has written the file.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..ir.tape_data import Damaged, items, number, text

MAGIC = b"\x93GTAPE\r\n"  # not text, and broken by whoever converts line ends
VERSION = 1
_HEAD = struct.Struct("<8sIQ32s")
_SIZE = struct.Struct("<I")
MOST_HEADER = 1 << 24


def pack(header: Mapping[str, Any], parts: Mapping[str, bytes]) -> bytes:
    """The bytes of a file."""
    listed = {**header, "parts": [[name, len(part)] for name, part in parts.items()]}
    encoded = json.dumps(listed, separators=(",", ":")).encode()
    body = b"".join([_SIZE.pack(len(encoded)), encoded, *parts.values()])
    return _HEAD.pack(MAGIC, VERSION, len(body), _digest(len(body), body)) + body


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(header, parts) of the bytes of a file. Raises Damaged, which says what is wrong."""
    body = checked(data)
    header, at = _header(body)
    parts: dict[str, bytes] = {}
    for entry in items(header.get("parts")):
        name, size = items(entry, 2)
        end = at + number(size, 0)
        if end > len(body):
            raise Damaged(f"the part {name!r} ends behind the end of the file")
        parts[text(name)] = body[at:end]
        at = end
    if at != len(body):
        raise Damaged(f"{len(body) - at} bytes belong to no part")
    return header, parts


def checked(data: bytes) -> bytes:
    """What follows the digest, if that is right."""
    if len(data) < _HEAD.size:
        raise Damaged(f"a file of {len(data)} bytes is no tape" if data else "the file is empty")
    magic, version, length, digest = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise Damaged("the file is no tape of gradtape")
    if version != VERSION:
        age = "a newer" if version > VERSION else "an older"
        raise Damaged(f"the file has format {version}, this is {VERSION}: {age} gradtape has written it")
    if len(data) - _HEAD.size != length:
        raise Damaged(f"the file has {len(data)} bytes and should have {_HEAD.size + length}")
    body = data[_HEAD.size :]
    if _digest(length, body) != digest:
        raise Damaged("the checksum does not fit")
    return body


def peek(path: Path) -> dict[str, Any]:
    """The header alone, of a file whose digest nobody has checked: for lists. Raises Damaged or OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size + _SIZE.size)
        if len(head) < _HEAD.size + _SIZE.size or head[: len(MAGIC)] != MAGIC:
            raise Damaged("the file is no tape of gradtape")
        if _HEAD.unpack_from(head)[1] != VERSION:
            raise Damaged(f"the file has format {_HEAD.unpack_from(head)[1]}, this is {VERSION}")
        (size,) = _SIZE.unpack_from(head, _HEAD.size)
        if size > MOST_HEADER:
            raise Damaged(f"a header of {size} bytes")
        return _parsed(file.read(size))


def _digest(length: int, body: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<IQ", VERSION, length) + body).digest()


def _header(body: bytes) -> tuple[dict[str, Any], int]:
    if len(body) < _SIZE.size:
        raise Damaged("there is no header")
    (size,) = _SIZE.unpack_from(body)
    if size > min(MOST_HEADER, len(body) - _SIZE.size):
        raise Damaged(f"a header of {size} bytes in a file of {len(body)}")
    return _parsed(body[_SIZE.size : _SIZE.size + size]), _SIZE.size + size


def _parsed(encoded: bytes) -> dict[str, Any]:
    header = parsed_json(encoded)
    if not isinstance(header, dict):
        raise Damaged("the header is no object")
    return header


def parsed_json(encoded: bytes) -> Any:
    """What JSON says; Damaged where it is none, or nested too deeply."""
    try:
        return json.loads(encoded.decode())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not JSON: {str(error)[:80]}") from None
