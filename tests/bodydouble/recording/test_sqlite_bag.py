"""A rosbag2 sqlite3 file whose damage sqlite3 itself can tell only in bytes that are no text."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bodydouble.errors import InputError
from bodydouble.recording.bag import open_bag


def test_a_schema_that_is_named_by_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bag.db3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (id INTEGER)")
    connection.commit()
    connection.close()
    path.write_bytes(
        path.read_bytes().replace(b"CREATE TABLE other", b"CREATE TABXE other").replace(b"other", b"oth\xff\xfe")
    )
    with pytest.raises(InputError, match=r"bag\.db3: truncated or damaged sqlite3 file"):
        open_bag(path)
