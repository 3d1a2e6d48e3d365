"""LZFSE, Apple's compression, decoded within bounds.

The block headers are walked first (layout: lzfse_internal.h of Apple's reference implementation), so that a truncated
or bloated stream never reaches the decoder, which would enlarge its output without bound.
"""

from __future__ import annotations

import importlib
import struct
from typing import Any

from bodydouble.errors import InputError

_RAW, _V1, _V2, _LZVN, _END = b"bvx-", b"bvx1", b"bvx2", b"bvxn", b"bvx$"
_V2_HEADER = struct.Struct("<4sIQQQ")


def decoder() -> Any:
    """Return the module that decodes LZFSE.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module("liblzfse")
    except ImportError:
        raise InputError(
            "Record3D depth is compressed with LZFSE, which needs the package pyliblzfse; install it with "
            "`pip install 'bodydouble[record3d]'`"
        ) from None


def decompress(data: bytes, size: int) -> bytes:
    """Return what an LZFSE stream holds.

    Args:
        data: The stream.
        size: Bytes that it must hold.

    Raises:
        ValueError: The stream is truncated or damaged, or holds another number of bytes.
        InputError: The decoder is not installed.
    """
    declared = raw_size(data)
    if declared != size:
        raise ValueError(f"holds {declared} bytes, expected {size}")
    module = decoder()
    try:
        out = module.decompress(data)
    except (module.error, MemoryError):
        raise ValueError("the LZFSE stream is damaged") from None
    if len(out) != size:
        raise ValueError(f"decompresses to {len(out)} bytes, expected {size}")
    return out


def raw_size(data: bytes) -> int:
    """Return the bytes that a stream's block headers declare.

    Raises:
        ValueError: The stream is no LZFSE, or is truncated.
    """
    at, total = 0, 0
    while True:
        magic = data[at : at + 4]
        if magic == _END:
            return total
        try:
            if magic == _RAW:
                (raw,) = struct.unpack_from("<I", data, at + 4)
                length = 8 + raw
            elif magic == _LZVN:
                raw, payload = struct.unpack_from("<II", data, at + 4)
                length = 12 + payload
            elif magic == _V2:
                _, raw, first, second, third = _V2_HEADER.unpack_from(data, at)
                literals, lmd, header = (first >> 20) & 0xFFFFF, (second >> 40) & 0xFFFFF, third & 0xFFFFFFFF
                if header < _V2_HEADER.size:
                    raise ValueError("the LZFSE stream is damaged")
                length = header + literals + lmd
            elif magic == _V1 or len(magic) == 4:
                raise ValueError("is no LZFSE stream of a known form" if at == 0 else "the LZFSE stream is damaged")
            else:
                raise ValueError("the LZFSE stream is truncated")
        except struct.error:
            raise ValueError("the LZFSE stream is truncated") from None
        at += length
        total += raw
        if at >= len(data):
            raise ValueError("the LZFSE stream is truncated")
