"""Where a serialized message ends, without making the message: a recorder hears thousands a second.

Only what decides the length is read: the lengths of texts and sequences. All that `deserialize` checks is checked,
so what is measured here can be read again: lengths within the bytes, texts that end with a zero and are UTF-8.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, NamedTuple

from rosbags.interfaces import Nodetype

from bodydouble.recording import messages

_ENCAPSULATION = 4
"""Bytes before the message that say how it is written; alignment counts from after them."""
_SIZES = {
    "bool": 1, "byte": 1, "char": 1, "octet": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4,
    "uint32": 4, "int64": 8, "uint64": 8, "float32": 4, "float64": 8,
}  # fmt: skip
_PADDING = 3
"""Most bytes between two lengths that are there for their alignment alone: such lengths are compared as one piece."""
_UNPACK = {0: struct.Struct(">I").unpack_from, 1: struct.Struct("<I").unpack_from}


class _Field(NamedTuple):
    """One field of a type, or the items of one."""

    many: int
    """Number of items; -1 for a sequence, whose number stands before it."""
    size: int
    """Bytes of a number, which is its alignment; 0 for a text; -1 for a message."""
    inner: tuple[_Field, ...] = ()
    """Fields of the message."""


class Extent(NamedTuple):
    """How long a message is, and which of its bytes say so."""

    end: int
    """Length, the encapsulation header included."""
    pieces: tuple[tuple[int, int, bytes], ...]
    """Start, end and content of the bytes that decide it: a message that has the same there ends at the same place."""

    def fits(self, data: bytes) -> bool:
        """Return whether other bytes hold a message of the same structure."""
        return len(data) >= self.end and all(data[start:stop] == piece for start, stop, piece in self.pieces)


def extent(msgtype: str, data: bytes) -> Extent:
    """Return the extent of the message at the beginning of CDR bytes.

    Args:
        msgtype: One of ROS 2's types.
        data: Encapsulation header and message; more may follow.

    Raises:
        ValueError: The bytes hold no such message.
    """
    if len(data) < _ENCAPSULATION or data[0] != 0 or data[1] not in _UNPACK:
        raise ValueError("no CDR encapsulation header")
    walk = _Walk(memoryview(data)[_ENCAPSULATION:], data[1], messages.typestore().max_sequence_length)
    at = walk.fields(_layout(msgtype), 0)
    if at > len(walk.data):
        raise ValueError(f"{len(data)} bytes, expected {at + _ENCAPSULATION}")
    return Extent(at + _ENCAPSULATION, _pieces(data, walk.spans))


class _Walk:
    def __init__(self, data: memoryview, little: int, longest: int) -> None:
        self.data = data
        self.spans: list[tuple[int, int]] = []
        self._unpack, self._longest = _UNPACK[little], longest

    def fields(self, fields: tuple[_Field, ...], at: int) -> int:
        """Return where the fields that begin at a place end."""
        for many, size, inner in fields:
            count = many
            if many < 0:
                start = (at + 3) & -4
                count, at = self._number(start), start + 4
                self.spans.append((start, at))
                # Before anything is looped over: every item takes a byte at least, a text five.
                if count > self._longest or at + count * (size or 5 if size >= 0 else 1) > len(self.data):
                    raise ValueError(f"a sequence of {count} items at byte {start + _ENCAPSULATION}")
            if size > 0:
                at = ((at + size - 1) & -size) + size * count if count else at
            elif size == 0:
                for _ in range(count):
                    at = self._text((at + 3) & -4)
            else:
                for _ in range(count):
                    at = self.fields(inner, at)
        return at

    def _number(self, at: int) -> int:
        if at + 4 > len(self.data):
            raise ValueError(f"{len(self.data) + _ENCAPSULATION} bytes, expected more")
        return self._unpack(self.data, at)[0]

    def _text(self, at: int) -> int:
        length = self._number(at)
        end = at + 4 + length
        if length < 1 or end > len(self.data) or self.data[end - 1] != 0:
            raise ValueError(f"a text of {length} bytes at byte {at + _ENCAPSULATION}, or without its end")
        str(self.data[at + 4 : end - 1], "utf-8")  # UnicodeDecodeError is a ValueError
        self.spans.append((at, end))
        return end


def _pieces(data: bytes, spans: list[tuple[int, int]]) -> tuple[tuple[int, int, bytes], ...]:
    merged = [(0, _ENCAPSULATION)]
    for start, end in spans:
        start, end = start + _ENCAPSULATION, end + _ENCAPSULATION
        if start - merged[-1][1] <= _PADDING:
            merged[-1] = merged[-1][0], end
        else:
            merged.append((start, end))
    return tuple((start, end, data[start:end]) for start, end in merged)


@functools.cache
def _layout(msgtype: str) -> tuple[_Field, ...]:
    fields = messages.typestore().fielddefs[messages.require_known(msgtype)][1]
    return tuple(_field(desc) for _, desc in fields)


def _field(desc: Any) -> _Field:
    kind, detail = desc
    if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        item, count = detail
        return _field(item)._replace(many=count if kind == Nodetype.ARRAY else -1)
    if kind == Nodetype.NAME:
        return _Field(1, -1, _layout(detail))
    return _Field(1, 0 if detail[0] == "string" else _SIZES[detail[0]])
