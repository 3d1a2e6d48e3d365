import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from bodydouble.errors import InputError
from bodydouble.recording import messages
from bodydouble.recording.images import decode_color, decode_depth, depth_to_mm, encode_jpeg, mm_to_metres
from bodydouble.recording.limits import Limits

LIMITS = Limits()
shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def image(array: np.ndarray, encoding: str, pad: int = 0, big: bool = False):
    """An Image message with `pad` bytes after each row."""
    order = ">" if big else "<"
    rows = array.astype(array.dtype.newbyteorder(order)).reshape(array.shape[0], -1).view(np.uint8)
    rows = np.hstack([rows, np.full((rows.shape[0], pad), 99, np.uint8)])
    fields = {"height": array.shape[0], "width": array.shape[1], "encoding": encoding, "is_bigendian": int(big)}
    fields |= {"step": rows.shape[1], "data": rows.reshape(-1)}
    return messages.deserialize(messages.IMAGE, messages.serialize(messages.IMAGE, fields))


def compressed(data: bytes, image_format: str):
    fields = {"format": image_format, "data": data}
    return messages.deserialize(messages.COMPRESSED_IMAGE, messages.serialize(messages.COMPRESSED_IMAGE, fields))


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@given(hnp.arrays(np.uint16, shapes), st.integers(0, 3), st.booleans())
def test_depth_16uc1(mm, pad, big):
    depth = decode_depth(image(mm, "16UC1", pad * 2, big), LIMITS)
    assert depth.dtype == np.float32
    expected = np.where(mm == 65535, 0, mm)
    np.testing.assert_allclose(depth, expected * 1e-3, rtol=1e-6)
    np.testing.assert_array_equal(np.rint(depth * 1000), expected)


@given(hnp.arrays(np.float32, shapes, elements=st.floats(width=32)), st.booleans())
def test_depth_32fc1_marks_what_is_no_reading(metres, big):
    depth = decode_depth(image(metres, "32FC1", big=big), LIMITS)
    valid = np.isfinite(metres) & (metres > 0)
    np.testing.assert_array_equal(depth, np.where(valid, metres, 0))


@given(hnp.arrays(np.uint16, shapes, elements=st.integers(0, 65534)))
def test_millimetres_survive_metres(mm):
    np.testing.assert_array_equal(depth_to_mm(mm_to_metres(mm)), mm)


@pytest.mark.parametrize(
    "depth",
    [
        np.full((2, 2), np.nan, np.float32),
        np.full((2, 2), np.inf),
        np.full((2, 2), -0.1),
        np.full((2, 2), 70.0),
        np.ones((2, 2), np.int32),
        np.ones((2, 2, 1)),
        np.ones((0, 2)),
    ],
)
def test_depth_that_cannot_be_stored_is_refused(depth):
    with pytest.raises(InputError, match="depth image"):
        depth_to_mm(depth)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), st.integers(0, 3))
def test_raw_colours(rgb, pad):
    np.testing.assert_array_equal(decode_color(image(rgb, "rgb8", pad), LIMITS), rgb)
    np.testing.assert_array_equal(decode_color(image(rgb[..., ::-1].copy(), "bgr8", pad), LIMITS), rgb)
    rgba = np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])
    np.testing.assert_array_equal(decode_color(image(rgba, "rgba8", pad), LIMITS), rgb)
    bgra = np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 7, np.uint8)])
    np.testing.assert_array_equal(decode_color(image(bgra, "bgra8"), LIMITS), rgb)
    grey = decode_color(image(rgb[..., 0].copy(), "mono8"), LIMITS)
    np.testing.assert_array_equal(grey, np.repeat(rgb[..., :1], 3, axis=2))
    np.testing.assert_array_equal(decode_color(compressed(png(rgb), "png"), LIMITS), rgb)


def test_jpeg_is_close_and_rgb():
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[..., 0] = 200
    out = decode_color(compressed(encode_jpeg(rgb, 90), "jpeg"), LIMITS)
    assert np.abs(out.astype(int) - rgb).max() <= 8


@given(hnp.arrays(np.uint16, shapes, elements=st.integers(0, 65534)))
def test_compressed_depth(mm):
    plain = decode_depth(compressed(png(mm), "16UC1; png"), LIMITS)
    np.testing.assert_array_equal(np.rint(plain * 1000), mm)
    transported = decode_depth(compressed(bytes(12) + png(mm), "16UC1; compressedDepth png"), LIMITS)
    np.testing.assert_array_equal(transported, plain)


def test_quantised_compressed_depth():
    # compressed_depth_image_transport: value = A / depth + B, with A = quality * (quality + 1), B = 1 - A / depth_max
    a, b = 100.0 * 101.0, 1.0 - 100.0 * 101.0 / 10.0
    depth = np.array([[0.5, 1.0, 2.0, 4.0]])
    values = np.rint(a / depth + b).astype(np.uint16)
    values = np.vstack([values, np.zeros_like(values)])
    data = struct.pack("<iff", 0, a, b) + png(values)
    out = decode_depth(compressed(data, "32FC1; compressedDepth png"), LIMITS)
    np.testing.assert_allclose(out[:1], depth, rtol=2e-3)
    assert (out[1] == 0).all()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (image(np.zeros((2, 2), np.uint16), "yuv422"), "encoding 'yuv422'"),
        (compressed(b"\xff\xd8\xff nothing", "jpeg"), "damaged"),
        (compressed(png(np.zeros((2, 2, 3), np.uint8))[:-28], "png"), "damaged"),
    ],
)
def test_bad_images(message, text):
    decode = decode_color if message.__msgtype__ == messages.COMPRESSED_IMAGE else decode_depth
    with pytest.raises(ValueError, match=text):
        decode(message, LIMITS)


def test_sizes_are_checked_before_pixels():
    fields = {"height": 2**31, "width": 2**31, "encoding": "16UC1", "step": 2**32 - 1, "data": [0]}
    message = messages.deserialize(messages.IMAGE, messages.serialize(messages.IMAGE, fields))
    with pytest.raises(ValueError, match="the limit is"):
        decode_depth(message, LIMITS)
    fields |= {"height": 1000, "width": 1000, "step": 2000}
    message = messages.deserialize(messages.IMAGE, messages.serialize(messages.IMAGE, fields))
    with pytest.raises(ValueError, match="in 1 bytes"):
        decode_depth(message, LIMITS)
    small = Limits(max_image_pixels=3)
    with pytest.raises(ValueError, match="the limit is 3"):
        decode_color(compressed(encode_jpeg(np.zeros((2, 2, 3), np.uint8), 90), "jpeg"), small)


@settings(max_examples=150)
@given(st.binary(max_size=40), st.integers(0, 400), st.sampled_from(["jpeg", "png"]))
def test_damaged_files_raise_only_value_errors(noise, at, kind):
    rgb = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    data = encode_jpeg(rgb, 90) if kind == "jpeg" else png(rgb)
    data = data[:at] + noise + data[at + len(noise) :]
    try:
        assert decode_color(compressed(data, kind), LIMITS).ndim == 3
    except ValueError:
        return


@pytest.mark.parametrize("rgb", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((2, 2, 4), np.uint8)])
def test_colours_that_cannot_be_stored_are_refused(rgb):
    with pytest.raises(InputError, match="colour image"):
        encode_jpeg(rgb, 90)
