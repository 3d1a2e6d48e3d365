"""Messages of types that ROS 2 does not ship: their definitions are read from the bag itself or from .msg files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bodydouble.errors import InputError
from bodydouble.recording import messages
from bodydouble.recording.bag import BagMessage, BagTopic
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits

MAX_DEFINITIONS = 1000
"""Most .msg files of one folder."""
MAX_NUMBERS = 10_000
"""Most numbers of one message; images and clouds have more and are not listed."""
_MAX_DEPTH = 16


class ForeignTypes:
    """Decodes topics of any type whose definition is known. The definitions stay in here: no other reader sees them."""

    def __init__(self, definitions: Path | None = None, limits: Limits = DEFAULT_LIMITS) -> None:
        """Read definitions.

        Args:
            definitions: Folder with PACKAGE/msg/NAME.msg files, at any depth; None for the bags' own alone.
            limits: Upper bounds on definitions and messages.

        Raises:
            InputError: The folder holds no .msg file, too many, or one that cannot be read.
        """
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._limits = limits
        found: dict[str, Any] = {}
        for name, path in _definition_files(definitions).items():
            if name not in self._store.fielddefs:
                found |= self._parse(_text(path, limits), name, str(path))
        self._register(found, str(definitions))

    def reason_against(self, topic: BagTopic) -> str:
        """Return why a topic cannot be read; empty where it can. A definition in the bag is taken where none is known.

        Raises:
            InputError: The bag's definition cannot be read.
        """
        if topic.encoding != "cdr":
            return f"is in {topic.encoding or 'no encoding'}, expected cdr"
        text = topic.definition.decode("utf-8", "replace")
        if messages.is_known(topic.msgtype):
            embedded = topic.definition_encoding == "ros2msg" and text
            same = not embedded or messages.same_definition(topic.msgtype, text)
            return "" if same else f"has another definition of {topic.msgtype} than ROS 2"
        if topic.msgtype not in self._store.fielddefs and topic.definition_encoding == "ros2msg" and text:
            known = self._store.fielddefs
            parsed = self._parse(text, topic.msgtype, topic.name)
            self._register({name: fields for name, fields in parsed.items() if name not in known}, topic.name)
        if topic.msgtype not in self._store.fielddefs:
            return f"{topic.msgtype} has no definition here; give the folder of its .msg files with --definitions"
        return ""

    def decode(self, topic: BagTopic, message: BagMessage) -> Any:
        """Return a message of a topic that `reason_against` has nothing against.

        Raises:
            InputError: The message is damaged or beyond the limit.
        """
        size, limit = len(message.data), self._limits.max_small_message_bytes
        if size > limit:
            raise InputError(f"{topic.name}: a message of {size} bytes, the limit is {limit}")
        try:
            return self._store.deserialize_cdr(bytes(message.data), topic.msgtype)
        except Exception as error:  # generated code on foreign bytes: IndexError, struct.error, ...
            raise InputError(
                f"{topic.name}: the message received at {message.received_ns} ns is no {topic.msgtype} "
                f"({type(error).__name__}); check the definitions"
            ) from None

    def _parse(self, text: str, name: str, where: str) -> dict[str, Any]:
        try:
            return dict(get_types_from_msg(text, name))
        except Exception as error:  # a foreign parser on foreign text
            raise InputError(f"{where}: is no message definition ({str(error)[:80]})") from None

    def _register(self, found: dict[str, Any], where: str) -> None:
        try:
            self._store.register(found)
        except Exception as error:  # a type that names another which is not there
            raise InputError(f"{where}: its definitions are not complete ({str(error)[:80]})") from None


def numbers(message: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the numbers of a message: path, as in `skeletons[].joints[].position.x`, and values (n,), float64.

    Stamps are left out. A message of more than MAX_NUMBERS numbers yields no more than these.
    """
    found: dict[str, list[float]] = {}
    _collect(message, "", found, [MAX_NUMBERS], 0)
    for path, values in found.items():
        yield path, np.array(values, dtype=np.float64)


def _collect(value: Any, path: str, found: dict[str, list[float]], left: list[int], depth: int) -> None:
    if depth > _MAX_DEPTH or left[0] <= 0:
        return
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.name not in ("__msgtype__", "stamp", "header"):
                inner = f"{path}.{field.name}" if path else field.name
                _collect(getattr(value, field.name), inner, found, left, depth + 1)
    elif isinstance(value, np.ndarray):
        taken = value[: left[0]].astype(np.float64).tolist() if value.dtype.kind in "iufb" else []
        left[0] -= len(taken)
        found.setdefault(f"{path}[]", []).extend(taken)
    elif isinstance(value, list):
        for item in value:
            _collect(item, f"{path}[]", found, left, depth + 1)
    elif isinstance(value, int | float):
        left[0] -= 1
        found.setdefault(path, []).append(float(value))


def _definition_files(folder: Path | None) -> dict[str, Path]:
    """Return the .msg files by the name of their type."""
    if folder is None:
        return {}
    files = sorted(folder.rglob("msg/*.msg")) if folder.is_dir() else []
    if not files and folder.name == "msg":
        files = sorted(folder.glob("*.msg"))
    if not 0 < len(files) <= MAX_DEFINITIONS:
        raise InputError(
            f"{folder}: holds {len(files)} files PACKAGE/msg/NAME.msg, expected 1 to {MAX_DEFINITIONS}; give the "
            "folder of the package"
        )
    return {f"{file.resolve().parent.parent.name}/msg/{file.stem}": file for file in files}


def _text(path: Path, limits: Limits) -> str:
    try:
        if path.stat().st_size > limits.max_schema_bytes:
            raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {limits.max_schema_bytes}")
        return path.read_text(errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
