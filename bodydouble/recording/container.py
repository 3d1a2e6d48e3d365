"""The MCAP container, read as a hostile file: every offset, length and checksum is checked before it is used.

Format: MCAP 0 (https://mcap.dev/spec). The layers above see an `Index` and, chunk by chunk, raw messages.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from bodydouble.errors import RecordingError
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
CHUNK_INDEX, STATISTICS, METADATA, METADATA_INDEX, DATA_END = 0x08, 0x0B, 0x0C, 0x0D, 0x0F
_RECORD_HEADER = struct.Struct("<BQ")
_MESSAGE_HEADER = struct.Struct("<HIQQ")
_FOOTER_BYTES = 9 + 20
_LOOSE_BLOCK_BYTES = 4 << 20


class DamagedError(ValueError):
    """The bytes are no valid MCAP; `Container` turns it into a RecordingError that names the file."""


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


class ChunkRef(NamedTuple):
    """Where a run of messages lies: a chunk record, or a block of records outside chunks (`loose`)."""

    start_time: int
    end_time: int
    offset: int
    length: int
    channel_ids: frozenset[int] | None
    loose: bool


@dataclass
class Index:
    """What the file holds, without its messages."""

    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[ChunkRef] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    """Messages by channel id."""
    start_time: int = 0
    end_time: int = 0
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)


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
        raise DamagedError(f"a message definition of {length} bytes, the limit is {limits.max_schema_bytes}")
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
        raise DamagedError(f"a chunk of {size} bytes, the limit is {limits.max_chunk_bytes}")
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
        opcode, length = _RECORD_HEADER.unpack_from(view, at)
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
        raise DamagedError(f"a message of {len(body)} bytes, the limit is {limits.max_message_bytes}")
    channel_id, _, log_time, publish_time = _MESSAGE_HEADER.unpack_from(body)
    if log_time >= 1 << 63 or publish_time >= 1 << 63:
        raise DamagedError("a message's time exceeds 63 bits")
    return RawMessage(channel_id, log_time, publish_time, body[_MESSAGE_HEADER.size :])


class Container:
    """An MCAP file opened for reading.

    Args:
        path: The file.
        limits: Upper bounds to enforce.

    Raises:
        RecordingError: The file is missing, truncated, damaged or beyond a limit.
    """

    def __init__(self, path: Path, limits: Limits = DEFAULT_LIMITS):
        self.path = Path(path)
        self.limits = limits
        self.index = Index()
        self.profile = ""
        self._schemas: dict[int, Schema] = {}
        try:
            self._file: BinaryIO = open(self.path, "rb")  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be opened ({error.strerror}); give an MCAP recording") from None
        try:
            self._open()
        except DamagedError as error:
            self._file.close()
            raise RecordingError(self._damaged(error)) from None
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages_of(self, chunk: ChunkRef) -> Iterator[RawMessage]:
        """Yield a chunk's messages in the order in which they lie there.

        Raises:
            RecordingError: The chunk is damaged.
        """
        try:
            for opcode, body in split_records(self._chunk_data(chunk)):
                if opcode == MESSAGE:
                    message = parse_message(body, self.limits)
                    if message.channel_id not in self.index.channels:
                        raise DamagedError(f"a message of channel {message.channel_id}, which is not in the file")
                    yield message
        except DamagedError as error:
            raise RecordingError(self._damaged(error)) from None

    def _damaged(self, error: DamagedError) -> str:
        return f"{self.path}: damaged recording ({error}); rescue it with `bodydouble recover {self.path} OUT.mcap`"

    def _read(self, offset: int, size: int) -> bytes:
        try:
            self._file.seek(offset)
            data = self._file.read(size)
        except OSError as error:
            raise RecordingError(f"{self.path}: cannot be read ({error.strerror}); check the disk") from None
        if len(data) != size:
            raise DamagedError(f"{size} bytes expected at offset {offset}, {len(data)} found")
        return data

    def _record_at(self, offset: int, end: int) -> tuple[int, int]:
        """Return the opcode and body length of the record at an offset, which must end by `end`."""
        if offset < 0 or offset + 9 > end:
            raise DamagedError(f"no record at offset {offset}")
        opcode, length = _RECORD_HEADER.unpack(self._read(offset, 9))
        if length > end - offset - 9:
            raise DamagedError(f"the record at offset {offset} exceeds the file")
        if opcode != 0x09 and length > self.limits.max_record_bytes:  # attachments are skipped, never loaded
            raise DamagedError(f"a record of {length} bytes, the limit is {self.limits.max_record_bytes}")
        return opcode, length

    def _chunk_data(self, chunk: ChunkRef) -> bytes | memoryview:
        if chunk.loose:
            return self._read(chunk.offset, chunk.length)
        opcode, length = self._record_at(chunk.offset, self._size)
        if opcode != CHUNK or length + 9 != chunk.length:
            raise DamagedError(f"the index points at offset {chunk.offset}, where there is no such chunk")
        return decompress_chunk(self._read(chunk.offset + 9, length), self.limits)

    def _open(self) -> None:
        self._size = self._file.seek(0, 2)
        start = self._read(0, min(8, self._size))
        if start != MAGIC:
            raise RecordingError(f"{self.path}: is no MCAP file (wrong magic); give a recording that ends in .mcap")
        if self._size < 16 + _FOOTER_BYTES or self._read(self._size - 8, 8) != MAGIC:
            raise RecordingError(
                f"{self.path}: truncated (no MCAP footer), its writer was stopped or the copy is incomplete; "
                f"rebuild it with `bodydouble recover {self.path} OUT.mcap`"
            )
        opcode, length = self._record_at(8, self._size)
        if opcode != HEADER:
            raise DamagedError("no header record")
        self.profile = Cursor(self._read(17, length)).text()
        footer_at = self._size - 8 - _FOOTER_BYTES
        opcode, length = self._record_at(footer_at, self._size)
        if opcode != FOOTER or length != 20:
            raise DamagedError("no footer record")
        summary_start, _, crc = Cursor(self._read(footer_at + 9, 20)).unpack("QQI")
        if not summary_start or not self._load_summary(summary_start, footer_at, crc):
            self._scan(footer_at)

    def _load_summary(self, start: int, end: int, crc: int) -> bool:
        """Fill the index from the summary section; return False where it does not say enough."""
        if not 8 < start <= end:
            raise DamagedError("the footer points outside the file")
        if end - start > self.limits.max_summary_bytes:
            raise DamagedError(f"a summary of {end - start} bytes, the limit is {self.limits.max_summary_bytes}")
        data = self._read(start, end - start)
        if crc and zlib.crc32(self._read(end, 25), zlib.crc32(data)) != crc:
            raise DamagedError("the summary's checksum does not match")
        index, complete, metadata_at = Index(), False, []
        expected_chunks = 0
        for opcode, body in split_records(data):
            cursor = Cursor(body)
            if opcode in (SCHEMA, CHANNEL):
                self._add_definition(index, opcode, body)
            elif opcode == CHUNK_INDEX:
                first, last, offset, length = cursor.unpack("QQQQ")
                ids = frozenset(cursor.int_map())
                self._add_chunk(index, ChunkRef(first, last, offset, length, ids or None, False))
            elif opcode == STATISTICS:
                messages, _, _, _, _, expected_chunks, index.start_time, index.end_time = cursor.unpack("QHIIIIQQ")
                index.counts = cursor.int_map()
                complete = sum(index.counts.values()) == messages
            elif opcode == METADATA_INDEX:
                metadata_at.append(cursor.unpack("QQ"))
        known = all(ids <= index.channels.keys() for ids in (c.channel_ids for c in index.chunks) if ids)
        if not (complete and known and index.chunks and len(index.chunks) == expected_chunks):
            return False
        if not index.counts.keys() <= index.channels.keys():
            return False
        total = 0
        for offset, length in metadata_at:
            opcode, body_length = self._record_at(offset, end)
            total += length
            if opcode != METADATA or body_length + 9 != length or total > self.limits.max_metadata_bytes:
                raise DamagedError(f"the index points at offset {offset}, where there is no such metadata")
            self._add_metadata(index, self._read(offset + 9, body_length))
        self.index = index
        return True

    def _scan(self, end: int) -> None:
        """Fill the index by reading the whole data section: files without a summary."""
        index = Index()
        self._schemas.clear()
        at, loose_at, loose_times = 8, 0, []
        total_metadata = 0

        def close_loose(stop: int) -> None:
            if loose_times:
                ref = ChunkRef(min(loose_times), max(loose_times), loose_at, stop - loose_at, None, True)
                self._add_chunk(index, ref)
                loose_times.clear()

        while at < end:
            opcode, length = self._record_at(at, end)
            after = at + 9 + length
            if opcode == MESSAGE:
                if not loose_times:
                    loose_at = at
                message = parse_message(memoryview(self._read(at + 9, length)), self.limits)
                loose_times.append(message.log_time)
                self._count(index, message)
                if after - loose_at > _LOOSE_BLOCK_BYTES:
                    close_loose(after)
            else:
                close_loose(at)
            if opcode == DATA_END:
                break
            if opcode == CHUNK:
                times, ids = [], set()
                for inner, body in split_records(decompress_chunk(self._read(at + 9, length), self.limits)):
                    if inner in (SCHEMA, CHANNEL):
                        self._add_definition(index, inner, body)
                    elif inner == MESSAGE:
                        message = parse_message(body, self.limits)
                        times.append(message.log_time)
                        ids.add(message.channel_id)
                        self._count(index, message)
                if times:
                    self._add_chunk(index, ChunkRef(min(times), max(times), at, after - at, frozenset(ids), False))
            elif opcode in (SCHEMA, CHANNEL):
                self._add_definition(index, opcode, self._read(at + 9, length))
            elif opcode == METADATA:
                total_metadata += length
                if total_metadata > self.limits.max_metadata_bytes:
                    raise DamagedError(f"more than {self.limits.max_metadata_bytes} bytes of metadata")
                self._add_metadata(index, self._read(at + 9, length))
            at = after
        close_loose(at)
        if index.chunks:
            index.start_time = min(chunk.start_time for chunk in index.chunks)
            index.end_time = max(chunk.end_time for chunk in index.chunks)
        self.index = index

    def _count(self, index: Index, message: RawMessage) -> None:
        if message.channel_id not in index.channels:
            raise DamagedError(f"a message of channel {message.channel_id}, which is not in the file")
        index.counts[message.channel_id] = index.counts.get(message.channel_id, 0) + 1

    def _add_definition(self, index: Index, opcode: int, body: bytes | memoryview) -> None:
        if opcode == SCHEMA:
            schema_id, schema = parse_schema(body, self.limits)
            self._schemas[schema_id] = schema
            if len(self._schemas) > self.limits.max_channels:
                raise DamagedError(f"more than {self.limits.max_channels} message definitions")
        else:
            channel_id, channel = parse_channel(body, self._schemas)
            index.channels[channel_id] = channel
            if len(index.channels) > self.limits.max_channels:
                raise DamagedError(f"more than {self.limits.max_channels} channels")

    def _add_chunk(self, index: Index, chunk: ChunkRef) -> None:
        index.chunks.append(chunk)
        if len(index.chunks) > self.limits.max_chunks:
            raise DamagedError(f"more than {self.limits.max_chunks} chunks")

    def _add_metadata(self, index: Index, body: bytes) -> None:
        cursor = Cursor(body)
        name = cursor.text()
        index.metadata[name] = cursor.text_map()
