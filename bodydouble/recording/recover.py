"""Rescuing a recording whose writer was stopped: every complete, undamaged chunk goes into a new file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mcap.writer import CompressionType, Writer

from bodydouble import __version__
from bodydouble.artifacts import atomic_file
from bodydouble.errors import RecordingError
from bodydouble.recording import records
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits
from bodydouble.recording.writer import CHUNK_BYTES, sync_file

_COPIED = (records.CHUNK, records.SCHEMA, records.CHANNEL, records.MESSAGE, records.METADATA)


@dataclass(frozen=True)
class Recovered:
    """What was rescued."""

    messages: int
    chunks: int
    lost_bytes: int
    """Bytes of the damaged file that could not be used."""
    damage: str
    """The first damage; empty where the file was whole."""


class _Copy:
    """Copies records into a new file, ids mapped."""

    def __init__(self, writer: Writer, limits: Limits):
        self._writer = writer
        self._limits = limits
        self._schemas: dict[int, records.Schema] = {}
        self._schema_ids: dict[records.Schema, int] = {}
        self._channels: dict[int, int] = {}
        self.messages = 0

    def record(self, opcode: int, body: memoryview) -> None:
        """Copy one record; a chunk is copied record by record."""
        if opcode == records.CHUNK:
            for inner, inner_body in list(records.split_records(records.decompress_chunk(body, self._limits))):
                if inner != records.CHUNK:
                    self.record(inner, inner_body)
        elif opcode == records.SCHEMA:
            schema_id, schema = records.parse_schema(body, self._limits)
            self._schemas[schema_id] = schema
            if len(self._schemas) > self._limits.max_channels:
                raise records.LimitError(f"more than {self._limits.max_channels} message definitions")
        elif opcode == records.CHANNEL:
            self._channel(body)
        elif opcode == records.MESSAGE:
            message = records.parse_message(body, self._limits)
            if message.channel_id not in self._channels:
                raise records.DamagedError(f"a message of channel {message.channel_id}, whose definition is lost")
            channel = self._channels[message.channel_id]
            self._writer.add_message(channel, message.log_time, bytes(message.data), message.publish_time)
            self.messages += 1
        elif opcode == records.METADATA:
            cursor = records.Cursor(body)
            name = cursor.text()
            self._writer.add_metadata(name, cursor.text_map())

    def _channel(self, body: memoryview) -> None:
        channel_id, channel = records.parse_channel(body, self._schemas)
        if channel_id in self._channels:
            return
        if len(self._channels) >= self._limits.max_channels:
            raise records.LimitError(f"more than {self._limits.max_channels} channels")
        schema = records.Schema(channel.msgtype, channel.definition_encoding, channel.definition)
        if schema not in self._schema_ids:
            self._schema_ids[schema] = self._writer.register_schema(schema.name, schema.encoding, schema.data)
        self._channels[channel_id] = self._writer.register_channel(
            channel.topic, channel.encoding, self._schema_ids[schema], {"offered_qos_profiles": ""}
        )


def recover(path: Path, out: Path, limits: Limits = DEFAULT_LIMITS) -> Recovered:
    """Rebuild a truncated or damaged recording from its complete chunks; damaged ones are left out.

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
        if file.read(8) != records.MAGIC:
            raise RecordingError(f"{path}: is no MCAP file (wrong magic); nothing can be recovered")
        with open(temporary, "wb") as output:
            writer = Writer(output, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
            writer.start(profile="ros2", library=f"bodydouble {__version__}")
            found = _copy_all(file, path.stat().st_size, _Copy(writer, limits), limits)
            writer.finish()
            sync_file(output)
        if found.messages == 0:
            reason = found.damage or "no message"
            raise RecordingError(f"{path}: holds no complete chunk ({reason}); nothing can be recovered")
    return found


def _copy_all(file: BinaryIO, size: int, copy: _Copy, limits: Limits) -> Recovered:
    at, chunks, lost, damage = 8, 0, 0, ""
    while True:
        file.seek(at)
        head = file.read(records.RECORD_HEADER.size)
        if len(head) < records.RECORD_HEADER.size:
            damage, lost = damage or "the file ends without a footer", lost + size - at
            break
        opcode, length = records.RECORD_HEADER.unpack(head)
        if opcode in (records.DATA_END, records.FOOTER):
            break
        after = at + len(head) + length
        if after > size:
            damage, lost = damage or "the last record is cut off", lost + size - at
            break
        if opcode in _COPIED:
            try:
                if length > limits.max_record_bytes:
                    raise records.LimitError(f"a record of {length} bytes, the limit is {limits.max_record_bytes}")
                copy.record(opcode, memoryview(file.read(length)))
                chunks += opcode == records.CHUNK
            except records.DamagedError as error:
                damage, lost = damage or str(error), lost + after - at
        at = after
    return Recovered(copy.messages, chunks, lost, damage)
