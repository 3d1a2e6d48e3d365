"""ROS 2 messages without ROS: definitions, building from plain values, and CDR bytes (rosbags' type store, Jazzy)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bodydouble.errors import InputError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
_TIME_TYPES = ("builtin_interfaces/msg/Time", "builtin_interfaces/msg/Duration")
_NS = 1_000_000_000
_MISSING = object()


@functools.cache
def typestore() -> Any:
    """Return the one store of ROS 2 Jazzy message types; it is never extended by what a file claims."""
    return get_typestore(Stores.ROS2_JAZZY)


def full_type_name(msgtype: str) -> str:
    """Return `package/msg/Type` for `package/msg/Type` or `package/Type`."""
    parts = msgtype.split("/")
    return f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else msgtype


def is_known(msgtype: str) -> bool:
    """Return whether the type is one of ROS 2 Jazzy's."""
    return full_type_name(msgtype) in typestore().fielddefs


def require_known(msgtype: str) -> str:
    """Return the full type name.

    Raises:
        InputError: The type is not one of ROS 2 Jazzy's.
    """
    name = full_type_name(msgtype)
    if name not in typestore().fielddefs:
        raise InputError(f"message type {msgtype!r} is not one of ROS 2 Jazzy's; use a standard type")
    return name


@functools.cache
def definition(msgtype: str) -> str:
    """Return the full text definition (dependencies included) that is embedded in files, encoding `ros2msg`."""
    return typestore().generate_msgdef(require_known(msgtype), ros_version=2)[0]


@functools.lru_cache(maxsize=256)
def same_definition(msgtype: str, text: str) -> bool:
    """Return whether a definition found in a file has, field by field, the layout that this store decodes."""
    name = full_type_name(msgtype)
    if text == definition(name):
        return True
    try:
        found = get_types_from_msg(text, name)
    except Exception:  # a foreign parser on foreign text: whatever it raises means "not this definition"
        return False
    known = typestore().fielddefs
    return name in found and all(
        key in known and [tuple(f) for f in fields] == [tuple(f) for f in known[key][1]]
        for key, (_, fields) in found.items()
    )


def stamp_ns(stamp: Any) -> int:
    """Return nanoseconds of a `builtin_interfaces` Time or Duration message."""
    return int(stamp.sec) * _NS + int(stamp.nanosec)


def header(t_ns: int, frame_id: str) -> dict[str, Any]:
    """Return the fields of a `std_msgs/msg/Header`."""
    return {"stamp": t_ns, "frame_id": frame_id}


def build(msgtype: str, value: Any) -> Any:
    """Build a message of the store's own class.

    Args:
        msgtype: Type name, e.g. `sensor_msgs/msg/JointState`.
        value: Mapping of fields (missing fields are zero, as in ROS), or an object with the fields as attributes
            (a message of rclpy or of rosbags). Times may be given as integer nanoseconds.

    Raises:
        InputError: An unknown type or field, or a value that does not fit its field.
    """
    return _build_named(require_known(msgtype), value, full_type_name(msgtype))


def serialize(msgtype: str, value: Any) -> bytes:
    """Return the little-endian CDR bytes (with encapsulation header) of `build(msgtype, value)`.

    Raises:
        InputError: As `build`, or a number outside its field's range.
    """
    name = full_type_name(msgtype)
    message = build(name, value)
    try:
        return bytes(typestore().serialize_cdr(message, name, little_endian=True))
    except Exception as error:  # struct.error, SerdeError, ...: all mean that a value does not fit
        raise InputError(f"{name}: cannot be serialized ({error}); check the ranges of its numbers") from None


def deserialize(msgtype: str, data: bytes | memoryview) -> Any:
    """Return the message that CDR bytes hold; arrays are read-only views into `data`.

    Bytes after the message are ignored: Fast DDS appends some (it sizes its buffer for the worst alignment).

    Raises:
        ValueError: The bytes do not hold such a message.
    """
    if len(data) < 4 or data[0] != 0 or data[1] not in (0, 1):
        raise ValueError("no CDR encapsulation header")
    store = typestore()
    try:
        layout = store.get_msgdef(full_type_name(msgtype))
        parse = layout.deserialize_cdr_le if data[1] else layout.deserialize_cdr_be
        message, end = parse(data[4:], 0, layout.cls, store)
    except Exception as error:  # generated code on foreign bytes: IndexError, struct.error, MemoryError, ...
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if end + 4 > len(data):
        raise ValueError(f"{len(data)} bytes, expected {end + 4}")
    return message


def _build_named(name: str, value: Any, where: str) -> Any:
    store = typestore()
    if name in _TIME_TYPES and isinstance(value, int | np.integer):
        value = {"sec": int(value) // _NS, "nanosec": int(value) % _NS}
    fields = store.fielddefs[name][1]
    if isinstance(value, Mapping):
        unknown = set(value) - {field for field, _ in fields}
        if unknown:
            raise InputError(f"{where}: no field {sorted(unknown)[0]!r} in {name}")
        found = [value.get(field, _MISSING) for field, _ in fields]
    else:
        found = [getattr(value, field, _MISSING) for field, _ in fields]
        if fields and all(item is _MISSING for item in found):
            raise InputError(f"{where}: a {type(value).__name__} is no {name}; give a mapping or a message")
    values = [_build_field(desc, item, f"{where}.{field}") for (field, desc), item in zip(fields, found, strict=True)]
    return store.types[name](*values)


def _build_field(desc: Any, value: Any, where: str) -> Any:
    kind, detail = desc
    if kind == Nodetype.NAME:
        return _build_named(detail, {} if value is _MISSING else value, where)
    if kind == Nodetype.BASE:
        return _build_scalar(detail[0], value, where)
    (item_kind, item_detail), count = detail
    if value is _MISSING:
        size = count if kind == Nodetype.ARRAY else 0
        value = [_MISSING] * size
    if item_kind == Nodetype.NAME:
        out = [_build_named(item_detail, {} if v is _MISSING else v, f"{where}[{i}]") for i, v in enumerate(value)]
    elif item_detail[0] == "string":
        out = [_build_scalar("string", v, where) for v in value]
    else:
        out = _build_array(item_detail[0], value, where)
    if (kind == Nodetype.ARRAY and len(out) != count) or (kind == Nodetype.SEQUENCE and count and len(out) > count):
        raise InputError(f"{where}: {len(out)} items, expected {'' if kind == Nodetype.ARRAY else 'at most '}{count}")
    return out


def _build_scalar(base: str, value: Any, where: str) -> Any:
    if base == "string":
        if value is _MISSING:
            return ""
        if not isinstance(value, str):
            raise InputError(f"{where}: {type(value).__name__}, expected text")
        return value
    if value is _MISSING:
        return 0.0 if base.startswith("float") else 0
    if isinstance(value, bytes) and base in ("byte", "octet") and len(value) == 1:
        return value[0]  # rclpy's form of ROS `byte`
    if not isinstance(value, int | float | np.integer | np.floating | np.bool_):
        raise InputError(f"{where}: {type(value).__name__}, expected a number")
    if base.startswith("float"):
        return float(value)
    if int(value) != value:
        raise InputError(f"{where}: {value} is no integer")
    return bool(value) if base == "bool" else int(value)


def _build_array(base: str, value: Any, where: str) -> np.ndarray:
    dtype = np.dtype({"bool": "bool", "byte": "uint8", "octet": "uint8", "char": "uint8"}.get(base, base))
    if isinstance(value, bytes | bytearray | memoryview):
        array = np.frombuffer(value, np.uint8)
    elif isinstance(value, list | tuple) and value and value[0] is _MISSING:
        return np.zeros(len(value), dtype)
    else:
        array = np.asarray(value)
    if array.size == 0:
        return np.zeros(0, dtype)
    if array.dtype == dtype:
        return np.ascontiguousarray(array).reshape(-1)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: values of type {array.dtype}, expected {dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        out = array.astype(dtype).reshape(-1)
    if dtype.kind != "f" and not np.array_equal(out, array.reshape(-1)):
        raise InputError(f"{where}: values do not fit {dtype}")
    return np.ascontiguousarray(out)
