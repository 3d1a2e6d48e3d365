"""The MCAP container: a file opened as hostile, its index, and its messages chunk by chunk."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bodydouble.errors import RecordingError
from bodydouble.recording import records
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits
from bodydouble.recording.records import Channel, Cursor, DamagedError, LimitError, RawMessage, Schema

_FOOTER_BYTES = 9 + 20
_LOOSE_BLOCK_BYTES = 4 << 20


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
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 (closed by close)
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
            for opcode, body in records.split_records(self._chunk_data(chunk)):
                if opcode == records.MESSAGE:
                    message = records.parse_message(body, self.limits)
                    if message.channel_id not in self.index.channels:
                        raise DamagedError(f"a message of channel {message.channel_id}, which is not in the file")
                    yield message
        except DamagedError as error:
            raise RecordingError(self._damaged(error)) from None

    def _damaged(self, error: DamagedError) -> str:
        if isinstance(error, LimitError):
            return f"{self.path}: beyond a limit ({error}); read it with larger `Limits` if you trust it"
        return f"{self.path}: damaged recording ({error}); rescue it with `bodydouble recover {self.path} OUT.mcap`"

    def _read(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(
                self._file.fileno(), size, offset
            )  # no shared position: iterators do not disturb each other
        except OSError as error:
            raise RecordingError(f"{self.path}: cannot be read ({error.strerror}); check the disk") from None
        if len(data) != size:
            raise DamagedError(f"{size} bytes expected at offset {offset}, {len(data)} found")
        return data

    def _record_at(self, offset: int, end: int) -> tuple[int, int]:
        """Return the opcode and body length of the record at an offset, which must end by `end`."""
        if offset < 0 or offset + 9 > end:
            raise DamagedError(f"no record at offset {offset}")
        opcode, length = records.RECORD_HEADER.unpack(self._read(offset, 9))
        if length > end - offset - 9:
            raise DamagedError(f"the record at offset {offset} exceeds the file")
        if (
            opcode != records.ATTACHMENT and length > self.limits.max_record_bytes
        ):  # attachments are skipped, never loaded
            raise LimitError(f"a record of {length} bytes, the limit is {self.limits.max_record_bytes}")
        return opcode, length

    def _chunk_data(self, chunk: ChunkRef) -> bytes | memoryview:
        if chunk.loose:
            return self._read(chunk.offset, chunk.length)
        opcode, length = self._record_at(chunk.offset, self._size)
        if opcode != records.CHUNK or length + 9 != chunk.length:
            raise DamagedError(f"the index points at offset {chunk.offset}, where there is no such chunk")
        return records.decompress_chunk(self._read(chunk.offset + 9, length), self.limits)

    def _open(self) -> None:
        self._size = os.fstat(self._file.fileno()).st_size
        start = self._read(0, min(8, self._size))
        if start != records.MAGIC:
            raise RecordingError(f"{self.path}: is no MCAP file (wrong magic); give a recording that ends in .mcap")
        if self._size < 16 + _FOOTER_BYTES or self._read(self._size - 8, 8) != records.MAGIC:
            raise RecordingError(
                f"{self.path}: truncated (no MCAP footer), its writer was stopped or the copy is incomplete; "
                f"rebuild it with `bodydouble recover {self.path} OUT.mcap`"
            )
        opcode, length = self._record_at(8, self._size)
        if opcode != records.HEADER:
            raise DamagedError("no header record")
        self.profile = Cursor(self._read(17, length)).text()
        footer_at = self._size - 8 - _FOOTER_BYTES
        opcode, length = self._record_at(footer_at, self._size)
        if opcode != records.FOOTER or length != 20:
            raise DamagedError("no footer record")
        summary_start, _, crc = Cursor(self._read(footer_at + 9, 20)).unpack("QQI")
        if not summary_start or not self._load_summary(summary_start, footer_at, crc):
            self._scan(footer_at)

    def _load_summary(self, start: int, end: int, crc: int) -> bool:
        """Fill the index from the summary section; return False where it does not say enough."""
        if not 8 < start <= end:
            raise DamagedError("the footer points outside the file")
        if end - start > self.limits.max_summary_bytes:
            raise LimitError(f"a summary of {end - start} bytes, the limit is {self.limits.max_summary_bytes}")
        data = self._read(start, end - start)
        if crc and zlib.crc32(self._read(end, 25), zlib.crc32(data)) != crc:
            raise DamagedError("the summary's checksum does not match")
        index, complete, metadata_at = Index(), False, []
        expected_chunks = 0
        for opcode, body in records.split_records(data):
            cursor = Cursor(body)
            if opcode in (records.SCHEMA, records.CHANNEL):
                self._add_definition(index, opcode, body)
            elif opcode == records.CHUNK_INDEX:
                first, last, offset, length = cursor.unpack("QQQQ")
                ids = frozenset(cursor.int_map())
                self._add_chunk(index, ChunkRef(first, last, offset, length, ids or None, False))
            elif opcode == records.STATISTICS:
                messages, _, _, _, _, expected_chunks, index.start_time, index.end_time = cursor.unpack("QHIIIIQQ")
                index.counts = cursor.int_map()
                complete = sum(index.counts.values()) == messages
            elif opcode == records.METADATA_INDEX:
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
            if total > self.limits.max_metadata_bytes:
                raise LimitError(f"more than {self.limits.max_metadata_bytes} bytes of metadata")
            if opcode != records.METADATA or body_length + 9 != length:
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
            if opcode == records.MESSAGE:
                if not loose_times:
                    loose_at = at
                message = records.parse_message(memoryview(self._read(at + 9, length)), self.limits)
                loose_times.append(message.log_time)
                self._count(index, message)
                if after - loose_at > _LOOSE_BLOCK_BYTES:
                    close_loose(after)
            else:
                close_loose(at)
            if opcode == records.DATA_END:
                break
            if opcode == records.CHUNK:
                first, last, ids = 1 << 63, -1, set()
                for inner, body in records.split_records(
                    records.decompress_chunk(self._read(at + 9, length), self.limits)
                ):
                    if inner in (records.SCHEMA, records.CHANNEL):
                        self._add_definition(index, inner, body)
                    elif inner == records.MESSAGE:
                        message = records.parse_message(body, self.limits)
                        first, last = min(first, message.log_time), max(last, message.log_time)
                        ids.add(message.channel_id)
                        self._count(index, message)
                if ids:
                    self._add_chunk(index, ChunkRef(first, last, at, after - at, frozenset(ids), False))
            elif opcode in (records.SCHEMA, records.CHANNEL):
                self._add_definition(index, opcode, self._read(at + 9, length))
            elif opcode == records.METADATA:
                total_metadata += length
                if total_metadata > self.limits.max_metadata_bytes:
                    raise LimitError(f"more than {self.limits.max_metadata_bytes} bytes of metadata")
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
        if opcode == records.SCHEMA:
            schema_id, schema = records.parse_schema(body, self.limits)
            self._schemas[schema_id] = schema
            if len(self._schemas) > self.limits.max_channels:
                raise LimitError(f"more than {self.limits.max_channels} message definitions")
        else:
            channel_id, channel = records.parse_channel(body, self._schemas)
            index.channels[channel_id] = channel
            if len(index.channels) > self.limits.max_channels:
                raise LimitError(f"more than {self.limits.max_channels} channels")

    def _add_chunk(self, index: Index, chunk: ChunkRef) -> None:
        index.chunks.append(chunk)
        if len(index.chunks) > self.limits.max_chunks:
            raise LimitError(f"more than {self.limits.max_chunks} chunks")

    def _add_metadata(self, index: Index, body: bytes) -> None:
        cursor = Cursor(body)
        name = cursor.text()
        index.metadata[name] = cursor.text_map()
