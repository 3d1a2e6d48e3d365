"""A rosbag2 sqlite3 storage file, opened read-only and as hostile."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np

from bodydouble.errors import InputError
from bodydouble.recording import messages
from bodydouble.recording.bag import BagMessage, BagTopic, Closing
from bodydouble.recording.limits import Limits

MAX_MESSAGES = 1 << 24
"""Most messages of one file; their numbers and times are held in memory."""
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises: the second where the message of the first quotes bytes of the file that are no text."""


class SqliteBag(Closing):
    """A .db3 file of rosbag2, any version of its schema.

    The numbers and times of the messages are read first, their content one at a time: this needs no index in the file.

    Args:
        path: The file.
        limits: Upper bounds on topics, definitions and messages.

    Raises:
        InputError: The file is damaged, truncated, unfinished, no rosbag2 storage or beyond a limit.
    """

    def __init__(self, path: Path, limits: Limits):
        self.path = path
        self._limits = limits
        wal = path.with_name(path.name + "-wal")
        if wal.is_file() and wal.stat().st_size:
            raise InputError(
                f"{path}: its recorder was stopped before it finished ({wal.name} holds the rest); merge it: "
                f"sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'"
            )
        try:
            # immutable: nothing is created beside the file, no lock is taken, no hot journal is rolled back.
            self._connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)
        except _ERRORS as error:
            raise self._damaged(error) from None
        try:
            self._connection.execute("PRAGMA trusted_schema=OFF")
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.max_message_bytes)
            self._names = self._load_topics()
            self._rows = self._load_rows()
            self.topics = self._with_counts()
        except _ERRORS as error:
            self._connection.close()
            raise self._damaged(error) from None
        except BaseException:
            self._connection.close()
            raise

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Yield the messages of some topics in the order in which they were received."""
        wanted = [key for key, topic in self._names.items() if topic.name in topics]
        rows = self._rows[np.isin(self._rows["topic"], wanted)]
        try:
            for rowid, topic, time in rows.tolist():
                found = self._connection.execute("SELECT data FROM messages WHERE rowid = ?", (rowid,)).fetchone()
                if found is None or not isinstance(found[0], bytes):
                    raise InputError(f"{self.path}: message {rowid} holds no bytes; copy the bag again")
                yield BagMessage(self._names[topic].name, time, found[0])
        except _ERRORS as error:
            raise self._damaged(error) from None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _load_topics(self) -> dict[int, BagTopic]:
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise InputError(
                f"{self.path}: is no rosbag2 storage (no tables topics and messages); give a rosbag2 folder"
            )
        definitions: dict[str, tuple[str, bytes]] = {}
        if "message_definitions" in tables:
            rows = self._connection.execute(
                "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            )
            definitions = {
                str(name): (str(encoding), str(text).encode()[: self._limits.max_schema_bytes])
                for name, encoding, text in rows.fetchmany(self._limits.max_channels)
            }
        rows = self._connection.execute("SELECT id, name, type, serialization_format FROM topics")
        found = rows.fetchmany(self._limits.max_channels + 1)
        if len(found) > self._limits.max_channels:
            raise InputError(f"{self.path}: more than {self._limits.max_channels} topics, the limit")
        topics = {}
        for key, name, msgtype, encoding in found:
            if not isinstance(key, int) or not all(isinstance(text, str) for text in (name, msgtype, encoding)):
                raise InputError(f"{self.path}: its table of topics is damaged; copy the bag again")
            described = definitions.get(msgtype, ("", b""))
            topics[key] = BagTopic(name, messages.full_type_name(msgtype), encoding, 0, *described)
        return topics

    def _load_rows(self) -> np.ndarray:
        """Return row number, topic and time of every message, by time; ties in the order of writing."""
        dtype = np.dtype([("row", np.int64), ("topic", np.int64), ("time", np.int64)])
        rows = self._connection.execute("SELECT rowid, topic_id, timestamp FROM messages")
        try:
            table = np.fromiter(_bounded(rows, self.path), dtype)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{self.path}: its table of messages is damaged; copy the bag again") from None
        table = table[np.isin(table["topic"], list(self._names))]
        return table[np.lexsort((table["row"], table["time"]))]

    def _with_counts(self) -> dict[str, BagTopic]:
        out = {}
        for key, topic in self._names.items():
            if topic.name in out:
                raise InputError(f"{self.path}: topic {topic.name} is listed twice; copy the bag again")
            count = int((self._rows["topic"] == key).sum())
            fields = topic.name, topic.msgtype, topic.encoding, count, topic.definition_encoding, topic.definition
            out[topic.name] = BagTopic(*fields)
        return out

    def _damaged(self, error: Exception) -> InputError:
        if "too big" in str(error):
            return InputError(f"{self.path}: a message has more than {self._limits.max_message_bytes} bytes, the limit")
        said = " ".join(str(error).split())[:120]
        return InputError(f"{self.path}: truncated or damaged sqlite3 file ({said}); copy it again, whole")


def _bounded(rows: sqlite3.Cursor, path: Path) -> Iterator[tuple[int, int, int]]:
    for count, row in enumerate(rows):
        if count >= MAX_MESSAGES:
            raise InputError(f"{path}: more than {MAX_MESSAGES} messages, the limit; split the bag")
        yield row
