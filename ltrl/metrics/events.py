"""Scalars in TensorBoard's event files, without TensorBoard, whose import alone takes a second.

A file is a row of records: length (8 bytes), its masked CRC-32C (4), an `Event` message, that one's checksum (4). Of
`Event`: 1 wall_time, 2 step, 5 summary; of its values: 1 tag, 2 simple_value, 8 tensor (1 dtype, 4 bytes, 5 floats).
Lengths are checked by their checksum; a message that cannot be read is left out, as TensorBoard does.
Source: tensorflow/core/util/event.proto, framework/summary.proto, lib/io/record_writer.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ltrl.metrics.tail import PIECE, Tail

__all__ = ["Scalar", "records", "scalars"]

Scalar = tuple[float, int, str, float]
"""Time, step, tag, value."""

LONGEST = 256 * 2**20
"""Bytes of a record; images are long."""

_HEAD = struct.Struct("<QI")
_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")


def records(tail: Tail, limit: int) -> Iterator[bytes]:
    """The whole messages in about the next `limit` bytes; none behind a length that is damaged."""
    stop = tail.offset + limit
    piece = min(limit, PIECE)
    while tail.offset < stop and (data := tail.fresh(piece)):
        at, end, found = 0, 12, []
        while end <= len(data):
            length, check = _HEAD.unpack_from(data, at)
            if length > LONGEST or check != _checksum(data[at : at + 8]):
                tail.is_closed = True  # nobody knows where the next record begins
                break
            end = at + 16 + length
            if end <= len(data):
                found.append(data[at + 12 : end - 4])
                at, end = end, end + 12
        tail.advance(data[:at])
        yield from found
        if not found and len(data) < piece:
            return
        piece = max(piece, end - at)


def scalars(message: bytes) -> Iterator[Scalar]:
    """The scalars of one event; none of a message that is damaged."""
    try:
        time, step, summary = 0.0, 0, []
        for field, value in _fields(message):
            if field == 1 and isinstance(value, bytes):
                time = _DOUBLE.unpack(value)[0]
            elif field == 2 and isinstance(value, int):
                step = value
            elif field == 5 and isinstance(value, bytes):
                summary += [v for f, v in _fields(value) if f == 1 and isinstance(v, bytes)]
        found = [(time, step, *one) for raw in summary if (one := _value(raw)) is not None]
    except (ValueError, IndexError, struct.error):
        return
    yield from found


def _value(raw: bytes) -> tuple[str, float] | None:
    tag, number = "", None
    for field, value in _fields(raw):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            tag = value.decode()
        elif field == 2:
            number = _FLOAT.unpack(value)[0]
        elif field == 8:
            number = _tensor(value)
    return None if number is None or not tag else (tag, number)


def _tensor(raw: bytes) -> float | None:
    """The value of a tensor that is one float."""
    found = dict(_fields(raw))
    packed = found.get(5) or found.get(4)
    is_float = found.get(1) == 1 and isinstance(packed, bytes) and len(packed) == 4
    return float(_FLOAT.unpack(packed)[0]) if is_float and isinstance(packed, bytes) else None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message; raises ValueError or IndexError for what is none."""
    at, size = 0, len(data)
    while at < size:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(kind)
        if at + length > size:
            raise ValueError(length)
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + 1
        shift += 7
        if shift > 63:
            raise ValueError(shift)


def _table() -> tuple[int, ...]:
    """CRC-32C, byte by byte."""
    found = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)  # noqa: PLW2901
        found.append(number)
    return tuple(found)


_CRC = _table()


def _checksum(data: bytes) -> int:
    """The masked CRC-32C of record files."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
