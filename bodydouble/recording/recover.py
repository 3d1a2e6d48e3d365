"""Rescuing a recording whose writer was stopped: everything up to the last complete chunk becomes a new file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mcap.writer import CompressionType, Writer

from bodydouble import __version__
from bodydouble.artifacts import atomic_file
from bodydouble.errors import RecordingError
from bodydouble.recording import container as mcap
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits
from bodydouble.recording.writer import CHUNK_BYTES


@dataclass(frozen=True)
class Recovered:
    """What was rescued."""

    messages: int
    chunks: int
    lost_bytes: int
    """Bytes at the end of the damaged file that hold no complete record."""
    damage: str
    """What ended the reading; empty where the file was whole."""


class _Copy:
    """Copies records into a new file, ids mapped."""

    def __init__(self, writer: Writer, limits: Limits):
        self._writer = writer
        self._limits = limits
        self._schemas: dict[int, mcap.Schema] = {}
        self._schema_ids: dict[mcap.Schema, int] = {}
        self._channels: dict[int, int] = {}
        self.messages = 0

    def record(self, opcode: int, body: memoryview) -> None:
        """Copy one schema, channel, message or metadata record; others are made anew or dropped."""
        if opcode == mcap.SCHEMA:
            schema_id, schema = mcap.parse_schema(body, self._limits)
            self._schemas[schema_id] = schema
        elif opcode == mcap.CHANNEL:
            self._channel(body)
        elif opcode == mcap.MESSAGE:
            message = mcap.parse_message(body, self._limits)
            if message.channel_id not in self._channels:
                raise mcap.DamagedError(f"a message of channel {message.channel_id}, which is not in the file")
            channel = self._channels[message.channel_id]
            self._writer.add_message(channel, message.log_time, bytes(message.data), message.publish_time)
            self.messages += 1
        elif opcode == mcap.METADATA:
            cursor = mcap.Cursor(body)
            name = cursor.text()
            self._writer.add_metadata(name, cursor.text_map())

    def _channel(self, body: memoryview) -> None:
        channel_id, channel = mcap.parse_channel(body, self._schemas)
        if channel_id in self._channels:
            return
        if len(self._channels) >= self._limits.max_channels:
            raise mcap.DamagedError(f"more than {self._limits.max_channels} channels")
        schema = mcap.Schema(channel.msgtype, channel.definition_encoding, channel.definition)
        if schema not in self._schema_ids:
            self._schema_ids[schema] = self._writer.register_schema(schema.name, schema.encoding, schema.data)
        self._channels[channel_id] = self._writer.register_channel(
            channel.topic, channel.encoding, self._schema_ids[schema], {"offered_qos_profiles": ""}
        )


def recover(path: Path, out: Path, limits: Limits = DEFAULT_LIMITS) -> Recovered:
    """Rebuild a truncated or damaged recording from its complete chunks, up to the first damage.

    Args:
        path: The damaged file (also an unfinished `.tmp`); it is left as it is.
        out: The file to write.
        limits: Upper bounds on every size in the file.

    Raises:
        RecordingError: The file is no MCAP, or holds no complete message.
    """
    path, out = Path(path), Path(out)
    if path.resolve() == out.resolve():
        raise RecordingError(f"{path}: would be overwritten by its own rescue; give another output file")
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be opened ({error.strerror}); give an MCAP recording") from None
    with file, atomic_file(out) as temporary:
        size = file.seek(0, 2)
        file.seek(0)
        if file.read(8) != mcap.MAGIC:
            raise RecordingError(f"{path}: is no MCAP file (wrong magic); nothing can be recovered")
        with open(temporary, "wb") as output:
            writer = Writer(output, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
            writer.start(profile="ros2", library=f"bodydouble {__version__} recover")
            copy = _Copy(writer, limits)
            chunks, at, damage = _copy_all(file, size, copy, limits)
            writer.finish()
        if copy.messages == 0:
            raise RecordingError(
                f"{path}: holds no complete chunk ({damage or 'no message'}); nothing can be recovered"
            )
    return Recovered(copy.messages, chunks, size - at if damage else 0, damage)


def _copy_all(file: BinaryIO, size: int, copy: _Copy, limits: Limits) -> tuple[int, int, str]:
    """Copy record by record; return the chunks copied, the offset reached and what ended it."""
    at, chunks = 8, 0
    while at < size:
        file.seek(at)
        head = file.read(9)
        if len(head) < 9:
            return chunks, at, "the last record is cut off"
        opcode, length = struct.unpack("<BQ", head)
        if opcode in (mcap.DATA_END, mcap.FOOTER):
            return chunks, at, ""
        if length > size - at - 9:
            return chunks, at, "the last record is cut off"
        if opcode in (mcap.CHUNK, mcap.SCHEMA, mcap.CHANNEL, mcap.MESSAGE, mcap.METADATA):
            if length > limits.max_record_bytes:
                return chunks, at, f"a record of {length} bytes, the limit is {limits.max_record_bytes}"
            body = memoryview(file.read(length))
            try:
                if opcode == mcap.CHUNK:
                    for inner, inner_body in list(mcap.split_records(mcap.decompress_chunk(body, limits))):
                        copy.record(inner, inner_body)
                    chunks += 1
                else:
                    copy.record(opcode, body)
            except mcap.DamagedError as error:
                return chunks, at, str(error)
        at += 9 + length
    return chunks, at, "no footer"
