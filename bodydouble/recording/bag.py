"""Opening a bag, whatever stores it: its topics and its messages in the order in which they were received."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import zstandard

from bodydouble.errors import InputError
from bodydouble.recording import messages
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits
from bodydouble.recording.reader import RecordingReader

MAX_FILES = 512
"""Most storage files of one bag; each is held open."""
_MAX_YAML_BYTES = 4 << 20
_MAGIC = 16
_SQLITE, _MCAP, _ROS1, _ZSTD = b"SQLite format 3\0", b"\x89MCAP0\r\n", b"#ROSBAG V", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag."""

    name: str
    """As stored."""
    msgtype: str
    """`package/msg/Type` of ROS 2, or another schema's name as stored, e.g. `foxglove.RawImage`."""
    encoding: str
    """Encoding of the messages: cdr, json, protobuf, ..."""
    count: int
    """Number of messages."""
    definition_encoding: str = ""
    """ros2msg, ros2idl, jsonschema, protobuf, ...; empty where the bag holds no definition."""
    definition: bytes = b""
    """The definition of the type, as stored."""


class BagMessage(NamedTuple):
    """A message as stored."""

    topic: str
    received_ns: int
    data: bytes | memoryview


class Bag(Protocol):
    """An open bag; use it as a context manager."""

    path: Path
    topics: dict[str, BagTopic]

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Yield the messages of some topics in the order in which they were received."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...

    def __enter__(self) -> Bag: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None): ...


def open_bag(path: Path, limits: Limits = DEFAULT_LIMITS) -> Bag:
    """Open a rosbag2 folder, one of its .db3 or .mcap files, or any MCAP file; told by content, not by name.

    Raises:
        InputError: It is none of these, is damaged or truncated, or is beyond a limit.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, limits)
    try:
        with open(path, "rb") as file:
            magic = file.read(_MAGIC)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a rosbag2 folder or an MCAP file") from None
    if magic.startswith(_MCAP):
        return McapBag(path, limits)
    if magic == _SQLITE:
        from bodydouble.recording.sqlite_bag import SqliteBag

        return SqliteBag(path, limits)
    if magic.startswith(_ROS1):
        raise InputError(f"{path}: is a ROS 1 bag; convert it first: rosbags-convert --src {path} --dst FOLDER")
    if magic.startswith(_ZSTD):
        raise InputError(f"{path}: is compressed as a whole; decompress it first: zstd -d {path}")
    raise InputError(f"{path}: is neither an MCAP file nor a rosbag2 sqlite3 file; give a rosbag2 folder or a .mcap")


class Closing:
    """What all bags share: closing at the end of a `with`."""

    def close(self) -> None:
        """Close the files."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class McapBag(Closing):
    """An MCAP file of any profile.

    Args:
        path: The file.
        limits: Upper bounds on every size in the file.

    Raises:
        RecordingError: The file is damaged, truncated or beyond a limit.
        InputError: A topic holds messages of two types.
    """

    def __init__(self, path: Path, limits: Limits):
        self.path = path
        self._reader = RecordingReader(path, cameras={}, limits=limits)
        self.topics: dict[str, BagTopic] = {}
        for channel, count in self._reader.channels():
            topic = BagTopic(
                channel.topic,
                messages.full_type_name(channel.msgtype),
                channel.encoding,
                count,
                channel.definition_encoding,
                channel.definition,
            )
            _merge(self.topics, topic, path)

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Yield the messages of some topics in the order in which they were received."""
        for message in self._reader.raw_messages(topics):
            yield BagMessage(message.topic, message.log_time_ns, message.data)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class FolderBag(Closing):
    """The storage files of one bag, read as one.

    Args:
        path: The folder.
        bags: Its storage files, open.
        message_zstd: Whether each message is compressed.
        limits: Upper bounds.
    """

    def __init__(self, path: Path, bags: list[Bag], message_zstd: bool, limits: Limits):
        self.path = path
        self._bags = bags
        self._zstd = message_zstd
        self._limits = limits
        self.topics: dict[str, BagTopic] = {}
        for bag in bags:
            for topic in bag.topics.values():
                _merge(self.topics, topic, path)

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Yield the messages of some topics in the order in which they were received."""
        streams = [bag.messages([name for name in topics if name in bag.topics]) for bag in self._bags]
        merged = heapq.merge(*streams, key=lambda message: message.received_ns)
        return (self._decompressed(message) for message in merged) if self._zstd else merged

    def close(self) -> None:
        """Close the files."""
        for bag in self._bags:
            bag.close()

    def _decompressed(self, message: BagMessage) -> BagMessage:
        limit = self._limits.max_message_bytes
        try:
            size = zstandard.frame_content_size(message.data)
            if size > limit:
                raise InputError(f"{self.path}: a message of {message.topic} has {size} bytes, the limit is {limit}")
            data = zstandard.ZstdDecompressor().decompress(message.data, max_output_size=limit)
        except zstandard.ZstdError as error:
            raise InputError(
                f"{self.path}: a message of {message.topic} does not decompress ({error}); copy the bag again"
            ) from None
        return message._replace(data=data)


def _merge(topics: dict[str, BagTopic], topic: BagTopic, path: Path) -> None:
    known = topics.get(topic.name)
    if known is None:
        topics[topic.name] = topic
        return
    if (known.msgtype, known.encoding) != (topic.msgtype, topic.encoding):
        raise InputError(
            f"{path}: topic {topic.name} holds {known.msgtype} and {topic.msgtype}; record it again under two names"
        )
    topics[topic.name] = BagTopic(
        known.name,
        known.msgtype,
        known.encoding,
        known.count + topic.count,
        known.definition_encoding,
        known.definition,
    )


def _open_folder(path: Path, limits: Limits) -> Bag:
    files, message_zstd = _storage_files(path)
    if len(files) > MAX_FILES:
        raise InputError(f"{path}: {len(files)} storage files, the limit is {MAX_FILES}; give a part of them")
    bags: list[Bag] = []
    try:
        for file in files:
            bags.append(open_bag(file, limits))  # noqa: PERF401 (what is open must be closed after an error)
        return FolderBag(path, bags, message_zstd, limits)
    except BaseException:
        for bag in bags:
            bag.close()
        raise


def _storage_files(path: Path) -> tuple[list[Path], bool]:
    """Return a rosbag2 folder's storage files, and whether its messages are compressed one by one."""
    yaml_path = path / "metadata.yaml"
    if not yaml_path.is_file():
        files = sorted(file for file in path.iterdir() if file.suffix in (".db3", ".mcap") and file.is_file())
        if not files:
            raise InputError(f"{path}: holds no metadata.yaml, .db3 or .mcap file; give a rosbag2 folder")
        return files, False
    info = _load_yaml(yaml_path)
    names = info.get("relative_file_paths")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{yaml_path}: lists no storage file; restore it, or delete it to read all files in the folder"
        )
    mode = str(info.get("compression_mode") or "").lower()
    if mode == "file":
        raise InputError(
            f"{path}: its files are compressed as a whole; decompress them (zstd -d) and delete metadata.yaml"
        )
    if mode not in ("", "none", "message", "storage"):
        raise InputError(f"{yaml_path}: compression mode {mode[:40]!r}, expected none or message; convert the bag")
    if mode == "message" and info.get("compression_format") != "zstd":
        raise InputError(f"{yaml_path}: compression {str(info.get('compression_format'))[:40]!r}, expected zstd")
    files = []
    for name in names:
        file = path / PurePosixPath(name).name  # old bags repeat the folder's name; nothing outside it is read
        if not file.name or not file.is_file() or not file.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{path}: metadata.yaml lists {name[:80]!r}, which is not in the folder; copy it whole")
        files.append(file)
    return files, mode == "message"


def _load_yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML

    try:
        if path.stat().st_size > _MAX_YAML_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {_MAX_YAML_BYTES}; check the folder")
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check that the folder is complete") from None
    try:
        data = YAML(typ="safe").load(text)
        info = data["rosbag2_bagfile_information"]
    except Exception as error:  # a parser on foreign text: YAMLError, RecursionError, TypeError, KeyError, ...
        said = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: is no rosbag2 metadata ({said}); restore it, or delete it") from None
    if not isinstance(info, dict):
        raise InputError(f"{path}: is no rosbag2 metadata; restore it, or delete it to read all files in the folder")
    return info
