"""Images between arrays and ROS messages: colour uint8 RGB, depth in millimetres (16UC1) or metres (32FC1)."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np
from PIL import Image as PilImage

from bodydouble.errors import InputError
from bodydouble.recording.limits import Limits
from bodydouble.recording.messages import COMPRESSED_IMAGE

_COLOR_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
_DEPTH_DTYPES = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
_MAX_DEPTH_M = 65.5344
"""What rounds to 65534 mm; 65535 mm means no reading."""
_PNG_HEADER_BYTES = 12
"""compressed_depth_image_transport puts this many bytes of quantisation parameters before the PNG."""


def encode_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """Return a colour image (H, W, 3) uint8 as JPEG.

    Raises:
        InputError: Another shape or type.
    """
    rgb = np.asarray(rgb)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise InputError(f"colour image: {rgb.dtype} {rgb.shape}, expected uint8 (H, W, 3)")
    buffer = io.BytesIO()
    PilImage.fromarray(np.ascontiguousarray(rgb)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def depth_to_mm(depth: np.ndarray) -> np.ndarray:
    """Return a depth image (H, W) as uint16 millimetres, 0 = no reading.

    Args:
        depth: float32/float64 metres, or uint16 millimetres (returned as is).

    Raises:
        InputError: Another shape or type, NaN, infinity, or metres outside [0, 65.534].
    """
    depth = np.asarray(depth)
    if depth.ndim != 2 or 0 in depth.shape:
        raise InputError(f"depth image: shape {depth.shape}, expected (H, W)")
    if depth.dtype == np.uint16:
        return np.ascontiguousarray(depth)
    if depth.dtype.kind != "f":
        raise InputError(f"depth image: {depth.dtype}, expected float metres or uint16 millimetres")
    low, high = float(depth.min()), float(depth.max())
    if not (low >= 0.0 and high <= _MAX_DEPTH_M):  # also false for NaN
        raise InputError(f"depth image: values {low} to {high} m, expected 0 (no reading) to 65.534 m")
    return (depth * 1000.0 + 0.5).astype(np.uint16)


def decode_color(message: Any, limits: Limits) -> np.ndarray:
    """Return the colour image (H, W, 3) uint8 RGB of an Image or CompressedImage message.

    Raises:
        ValueError: The image is damaged, too large, or of an encoding that is not supported.
    """
    if message.__msgtype__ == COMPRESSED_IMAGE:
        return _decode_file(bytes(message.data), ("JPEG", "PNG"), limits, "RGB")
    encoding = message.encoding
    if encoding not in _COLOR_CHANNELS:
        raise ValueError(f"colour encoding {encoding!r}, expected one of {', '.join(_COLOR_CHANNELS)}")
    channels = _COLOR_CHANNELS[encoding]
    pixels = _raw_pixels(message, "u1", channels, limits)
    if encoding == "mono8":
        return np.repeat(pixels, 3, axis=2)
    if encoding.startswith("bgr"):
        return np.ascontiguousarray(pixels[..., 2::-1])
    return np.ascontiguousarray(pixels[..., :3])


def decode_depth(message: Any, limits: Limits) -> np.ndarray:
    """Return the depth image (H, W) float32 metres, 0 = no reading, of an Image or CompressedImage message.

    65535 mm, NaN, infinite and negative readings (REP 118) become 0.

    Raises:
        ValueError: The image is damaged, too large, or of an encoding that is not supported.
    """
    values = decode_depth_values(message, limits)
    return mm_to_metres(values) if values.dtype == np.uint16 else _zero_invalid(values)


def decode_depth_values(message: Any, limits: Limits) -> np.ndarray:
    """Return the depth image (H, W) as its sender counts: uint16 (millimetres by convention) or float32 (metres).

    Raises:
        ValueError: The image is damaged, too large, or of an encoding that is not supported.
    """
    if message.__msgtype__ == COMPRESSED_IMAGE:
        return _decode_compressed_depth(bytes(message.data), message.format, limits)
    encoding = message.encoding
    if encoding not in _DEPTH_DTYPES:
        raise ValueError(f"depth encoding {encoding!r}, expected one of {', '.join(_DEPTH_DTYPES)}")
    pixels = _raw_pixels(message, _DEPTH_DTYPES[encoding], 1, limits)[..., 0]
    return pixels.astype(np.float32 if encoding == "32FC1" else np.uint16)


def mm_to_metres(mm: np.ndarray) -> np.ndarray:
    """Return uint16 millimetres (H, W) as float32 metres; 65535 (no reading on some sensors) becomes 0."""
    metres = mm.astype(np.float32)
    metres *= np.float32(0.001)
    if mm.size and mm.max() == 65535:
        metres[mm == 65535] = 0.0
    return metres


def _zero_invalid(metres: np.ndarray) -> np.ndarray:
    metres[~((metres > 0.0) & (metres < np.inf))] = 0.0
    return metres


def _decode_compressed_depth(data: bytes, image_format: str, limits: Limits) -> np.ndarray:
    """Decode a 16-bit PNG: plain uint16, or as compressed_depth_image_transport writes it.

    That transport puts int32 format, float32 A, float32 B before the PNG; 32FC1 depth is A / (value - B).
    """
    quantised = None
    if "compressedDepth" in image_format:
        if image_format.endswith("rvl"):
            raise ValueError("compressedDepth of format rvl, expected png; publish it again with format png")
        if len(data) < _PNG_HEADER_BYTES:
            raise ValueError("compressedDepth without its header")
        quantised = struct.unpack_from("<ff", data, 4) if image_format.startswith("32FC1") else None
        data = data[_PNG_HEADER_BYTES:]
    values = _decode_file(data, ("PNG",), limits, "I;16").astype(np.uint16, copy=False)
    if quantised is None:
        return values
    a, b = quantised
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        metres = (a / (values.astype(np.float64) - b)).astype(np.float32)
    metres[values == 0] = 0.0
    return _zero_invalid(metres)


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1 or width * height > limits.max_image_pixels:
        raise ValueError(f"image of {width} x {height} pixels, the limit is {limits.max_image_pixels} pixels")


def _raw_pixels(message: Any, dtype: str, channels: int, limits: Limits) -> np.ndarray:
    width, height, step = int(message.width), int(message.height), int(message.step)
    _check_pixels(width, height, limits)
    item = np.dtype(dtype).itemsize
    row = width * channels * item
    if step < row or step * height > len(message.data):
        raise ValueError(f"image of {width} x {height} with step {step} in {len(message.data)} bytes")
    rows = np.asarray(message.data, np.uint8)[: step * height].reshape(height, step)[:, :row]
    order = ">" if message.is_bigendian and item > 1 else "<"
    return np.ascontiguousarray(rows).view(order + dtype).reshape(height, width, channels)


def _decode_file(data: bytes, formats: tuple[str, ...], limits: Limits, mode: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PilImage.open(io.BytesIO(data), formats=formats) as image:
                _check_pixels(image.width, image.height, limits)
                if mode != "RGB" and image.mode not in (mode, "I"):
                    raise ValueError(f"PNG of mode {image.mode}, expected 16 bit")
                return np.array(image.convert(mode) if mode == "RGB" and image.mode != "RGB" else image)
    except ValueError:
        raise
    except Exception as error:  # a decoder on foreign bytes: OSError, SyntaxError, struct.error, ...
        raise ValueError(f"{'/'.join(formats)} image is damaged ({error})") from None
