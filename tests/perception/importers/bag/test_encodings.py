"""Images as cameras send them: every encoding, byte order and padding comes back as it went in."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bodydouble.recording import messages
from bodydouble.recording.images import decode_color, decode_depth, decode_depth_values
from bodydouble.recording.limits import DEFAULT_LIMITS
from tests.perception.importers.bag.bag_samples import header, image

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**32 - 1)


def built(pixels: np.ndarray, encoding: str, pad: int, big: bool) -> Any:
    """Return the message after a way through CDR bytes."""
    data = messages.serialize(messages.IMAGE, image(pixels, encoding, header(0), pad, big))
    return messages.deserialize(messages.IMAGE, data)


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "mono8"]), st.integers(0, 5), st.booleans())
def test_colour(size: tuple[int, int], seed: int, encoding: str, pad: int, big: bool) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    if encoding == "mono8":
        rgb[..., 1] = rgb[..., 2] = rgb[..., 0]
        sent = rgb[..., 0]
    else:
        sent = rgb[..., ::-1] if encoding.startswith("bgr") else rgb
        if encoding.endswith("a8"):
            sent = np.concatenate([sent, np.full((*size, 1), 9, np.uint8)], axis=2)
    np.testing.assert_array_equal(decode_color(built(sent, encoding, pad, big), DEFAULT_LIMITS), rgb)


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, st.sampled_from(["16UC1", "mono16"]), st.integers(0, 5), st.booleans())
def test_integer_depth(size: tuple[int, int], seed: int, encoding: str, pad: int, big: bool) -> None:
    mm = np.random.default_rng(seed).integers(0, 65536, size).astype(np.uint16)
    message = built(mm, encoding, pad, big)
    values = decode_depth_values(message, DEFAULT_LIMITS)
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, mm)
    metres = decode_depth(message, DEFAULT_LIMITS)
    np.testing.assert_allclose(metres, np.where(mm == 65535, 0, mm) / 1000, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(sizes, st.data(), st.integers(0, 5), st.booleans())
def test_float_depth(size: tuple[int, int], data: st.DataObject, pad: int, big: bool) -> None:
    count = size[0] * size[1]
    values = data.draw(st.lists(st.floats(width=32), min_size=count, max_size=count))
    sent = np.array(values, np.float32).reshape(size)
    message = built(sent, "32FC1", pad, big)
    np.testing.assert_array_equal(decode_depth_values(message, DEFAULT_LIMITS), sent)
    with np.errstate(invalid="ignore"):
        expected = np.where((sent > 0) & np.isfinite(sent), sent, 0)
    np.testing.assert_array_equal(decode_depth(message, DEFAULT_LIMITS), expected)


def compressed(values: np.ndarray, image_format: str, head: bytes) -> Any:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    fields = {"header": header(0), "format": image_format, "data": head + buffer.getvalue()}
    return messages.build(messages.COMPRESSED_IMAGE, fields)


@settings(max_examples=20, deadline=None)
@given(sizes, seeds)
def test_compressed_depth_of_integers(size: tuple[int, int], seed: int) -> None:
    mm = np.random.default_rng(seed).integers(0, 65536, size).astype(np.uint16)
    for image_format, head in (("png", b""), ("16UC1; compressedDepth png", bytes(12))):
        np.testing.assert_array_equal(decode_depth_values(compressed(mm, image_format, head), DEFAULT_LIMITS), mm)


def test_compressed_depth_of_floats() -> None:
    """The quantised inverse depth of compressed_depth_image_transport: A / depth + B, with its default numbers."""
    quantisation, most = 100.0, 10.0
    a = quantisation * (quantisation + 1.0)
    b = 1.0 - a / most
    depth = np.linspace(0.3, 9.5, 64, dtype=np.float32).reshape(8, 8)
    values = np.rint(a / depth + b).astype(np.uint16)
    values[0, 0] = 0  # no reading
    head = struct.pack("<iff", 0, a, b)
    got = decode_depth(compressed(values, "32FC1; compressedDepth", head), DEFAULT_LIMITS)
    assert got[0, 0] == 0.0
    # Half a step of the inverse depth: z^2 / (2 A).
    error = np.abs(got - depth)[values > 0]
    assert (error <= depth[values > 0] ** 2 / (2 * a) * 1.1 + 1e-4).all()


def test_what_cannot_be_decoded_is_named() -> None:
    pixels = np.zeros((2, 2), np.uint16)
    with pytest.raises(ValueError, match="depth encoding '8UC1', expected one of 16UC1, mono16, 32FC1"):
        decode_depth_values(built(pixels, "8UC1", 0, False), DEFAULT_LIMITS)
    with pytest.raises(ValueError, match="format rvl, expected png"):
        decode_depth_values(compressed(pixels, "16UC1; compressedDepth rvl", bytes(12)), DEFAULT_LIMITS)
    with pytest.raises(ValueError, match="without its header"):
        fields = {"header": header(0), "format": "16UC1; compressedDepth png", "data": b"123"}
        decode_depth_values(messages.build(messages.COMPRESSED_IMAGE, fields), DEFAULT_LIMITS)
