"""Zip archives from others: entries are counted and measured before they are read, and never unpacked to the disk."""

from __future__ import annotations

import zipfile
from collections.abc import KeysView
from pathlib import Path
from types import TracebackType

from bodydouble.errors import InputError

MAX_ENTRIES = 1 << 20
_CHUNK = 1 << 20


class Archive:
    """A zip file opened for reading; use it as a context manager.

    Args:
        path: The file.
        kind: What it should be, for messages.

    Raises:
        InputError: The file is no zip file, is truncated, or has too many entries.
    """

    def __init__(self, path: Path, kind: str):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); give {kind}") from None
        except Exception as error:  # a parser on foreign bytes: BadZipFile, struct.error, NotImplementedError, ...
            raise InputError(f"{path}: is no complete zip file ({error}); give {kind}, copied whole") from None
        infos = self._zip.infolist()
        if len(infos) > MAX_ENTRIES:
            self._zip.close()
            raise InputError(f"{path}: {len(infos)} entries, the limit is {MAX_ENTRIES}")
        self._infos = {info.filename: info for info in infos}

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def names(self) -> KeysView[str]:
        """Names of the entries, as stored; they are keys and never become paths."""
        return self._infos.keys()

    def read(self, name: str, limit: int) -> bytes:
        """Return an entry's content.

        Raises:
            InputError: There is no such entry, or it is damaged, encrypted, or larger than the limit.
        """
        info = self._infos.get(name)
        if info is None:
            raise InputError(f"{self.path}: holds no entry {name!r}; export it again")
        if info.file_size > limit:  # what it claims; what it holds is bounded below
            raise InputError(f"{self.path}: entry {name!r} has {info.file_size} bytes, the limit is {limit}")
        parts, total = [], 0
        try:
            with self._zip.open(info) as file:
                while part := file.read(min(_CHUNK, limit + 1 - total)):
                    parts.append(part)
                    total += len(part)
                    if total > limit:
                        break
        except Exception as error:  # a decoder on foreign bytes: BadZipFile, zlib.error, RuntimeError, EOFError, ...
            raise InputError(f"{self.path}: entry {name!r} is damaged ({error}); export it again") from None
        if total > limit:
            raise InputError(f"{self.path}: entry {name!r} has more than {limit} bytes, the limit")
        return b"".join(parts)
