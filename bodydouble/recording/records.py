"""The records of an MCAP file, parsed as foreign bytes: every length, size and checksum is checked before it is used.

Format: MCAP 0 (https://mcap.dev/spec).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import zstandard

from bodydouble.recording.limits import Limits

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
CHUNK_INDEX, ATTACHMENT, STATISTICS, METADATA, METADATA_INDEX, DATA_END = 0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0F
RECORD_HEADER = struct.Struct("<BQ")
_MESSAGE_HEADER = struct.Struct("<HIQQ")


class DamagedError(ValueError):
    """The bytes are no valid MCAP; `Container` turns it into a RecordingError that names the file."""


class LimitError(DamagedError):
    """The file may be sound, but something in it is larger than the limits allow."""


class Schema(NamedTuple):
    """A message definition in the file."""

    name: str
    encoding: str
    data: bytes


class Channel(NamedTuple):
    """A topic in the file."""

    topic: str
    msgtype: str
    encoding: str
    definition_encoding: str
    definition: bytes


class RawMessage(NamedTuple):
    """A message as stored: `data` is a view into its chunk."""

    channel_id: int
    log_time: int
    publish_time: int
    data: memoryview


class Cursor:
    """Reads the fields of one record, within its bounds."""

    def __init__(self, data: bytes | memoryview):
        self._data = memoryview(data)
        self._at = 0

    def remaining(self) -> int:
        """Return the bytes not read yet."""
        return len(self._data) - self._at

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes."""
        if size > self.remaining():
            raise DamagedError(f"a field of {size} bytes exceeds its record")
        self._at += size
        return self._data[self._at - size : self._at]

    def unpack(self, layout: str) -> tuple:
        """Return the next little-endian fields of a `struct` layout."""
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def text(self) -> str:
        """Return the next length-prefixed text."""
        try:
            return str(self.take(self.unpack("I")[0]), "utf-8")
        except UnicodeDecodeError:
            raise DamagedError("text that is not UTF-8") from None

    def text_map(self) -> dict[str, str]:
        """Return the next length-prefixed map of texts."""
        inner = Cursor(self.take(self.unpack("I")[0]))
        out = {}
        while inner.remaining():
            key = inner.text()
            out[key] = inner.text()
        return out

    def int_map(self) -> dict[int, int]:
        """Return the next length-prefixed map from uint16 to uint64."""
        data = self.take(self.unpack("I")[0])
        if len(data) % 10:
            raise DamagedError("a map whose length is no multiple of its entries")
        return dict(struct.iter_unpack("<HQ", data))


def parse_schema(body: bytes | memoryview, limits: Limits) -> tuple[int, Schema]:
    """Return the id and content of a schema record."""
    cursor = Cursor(body)
    (schema_id,) = cursor.unpack("H")
    name, encoding = cursor.text(), cursor.text()
    (length,) = cursor.unpack("I")
    if length > limits.max_schema_bytes:
        raise LimitError(f"a message definition of {length} bytes, the limit is {limits.max_schema_bytes}")
    return schema_id, Schema(name, encoding, bytes(cursor.take(length)))


def parse_channel(body: bytes | memoryview, schemas: dict[int, Schema]) -> tuple[int, Channel]:
    """Return the id and content of a channel record, joined with its schema."""
    cursor = Cursor(body)
    channel_id, schema_id = cursor.unpack("HH")
    topic, encoding = cursor.text(), cursor.text()
    if schema_id and schema_id not in schemas:
        raise DamagedError(f"channel {topic!r} names schema {schema_id}, which is not in the file")
    schema = schemas.get(schema_id, Schema("", "", b""))
    return channel_id, Channel(topic, schema.name, encoding, schema.encoding, schema.data)


def decompress_chunk(body: bytes | memoryview, limits: Limits) -> bytes | memoryview:
    """Return the records inside a chunk record, size and checksum verified."""
    cursor = Cursor(body)
    _, _, size, crc = cursor.unpack("QQQI")
    compression = cursor.text()
    data = cursor.take(cursor.unpack("Q")[0])
    if size > limits.max_chunk_bytes:
        raise LimitError(f"a chunk of {size} bytes, the limit is {limits.max_chunk_bytes}")
    if compression == "zstd":
        out: bytes | memoryview = _unzstd(data, size)
    elif compression == "lz4":
        out = _unlz4(data, size)
    elif compression == "":
        out = data
    else:
        raise DamagedError(f"chunk compression {compression!r}, expected zstd, lz4 or none")
    if len(out) != size:
        raise DamagedError(f"a chunk decompresses to {len(out)} bytes instead of {size}")
    if crc and zlib.crc32(out) != crc:
        raise DamagedError("a chunk's checksum does not match")
    return out


def _unzstd(data: memoryview, size: int) -> bytes:
    try:
        declared = zstandard.frame_content_size(data)
        if declared not in (-1, size):  # zstandard allocates what the frame declares
            raise DamagedError(f"a zstd frame of {declared} bytes in a chunk of {size}")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=max(size, 1)) if size else b""
    except zstandard.ZstdError as error:
        raise DamagedError(f"a chunk does not decompress ({error})") from None


def _unlz4(data: memoryview, size: int) -> bytes:
    import lz4.frame  # only files of others use it

    try:
        decompressor = lz4.frame.LZ4FrameDecompressor()
        return decompressor.decompress(bytes(data), max_length=size + 1)
    except (RuntimeError, EOFError, ValueError) as error:
        raise DamagedError(f"a chunk does not decompress ({error})") from None


def split_records(data: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (opcode, body) of the records that lie one after the other in `data`."""
    view = memoryview(data)
    at, end = 0, len(view)
    while at < end:
        if end - at < 9:
            raise DamagedError("a record is cut off")
        opcode, length = RECORD_HEADER.unpack_from(view, at)
        at += 9
        if length > end - at:
            raise DamagedError("a record exceeds its chunk")
        yield opcode, view[at : at + length]
        at += length


def parse_message(body: memoryview, limits: Limits) -> RawMessage:
    """Return the message of a message record."""
    if len(body) < _MESSAGE_HEADER.size:
        raise DamagedError("a message is cut off")
    if len(body) > limits.max_message_bytes:
        raise LimitError(f"a message of {len(body)} bytes, the limit is {limits.max_message_bytes}")
    channel_id, _, log_time, publish_time = _MESSAGE_HEADER.unpack_from(body)
    if log_time >= 1 << 63 or publish_time >= 1 << 63:
        raise DamagedError("a message's time exceeds 63 bits")
    return RawMessage(channel_id, log_time, publish_time, body[_MESSAGE_HEADER.size :])
