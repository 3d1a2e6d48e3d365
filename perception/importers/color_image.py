"""A colour image as a file's bytes: checked, or brought to the size of the depth image."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from bodydouble.errors import InputError
from perception.importers.source_files import MAX_PIXELS


def open_color(data: bytes, where: str) -> tuple[Image.Image, str]:
    """Return a JPEG or PNG image, decoded, and its format (`jpeg` or `png`).

    Raises:
        InputError: The bytes are neither, are damaged, or hold too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{where}: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS}")
            image_format = str(image.format).lower()
            image.load()  # a truncated file shows only when it is decoded
            return image, image_format
    except InputError:
        raise
    except Exception as error:  # a decoder on foreign bytes
        raise InputError(f"{where}: is no readable JPEG or PNG ({error}); copy it again") from None


def shrink(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return the image as RGB (height, width, 3) uint8 at another size, each pixel the mean of the area it covers."""
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX))


def scale_intrinsics(K: np.ndarray, size: tuple[int, int], new_size: tuple[int, int]) -> np.ndarray:
    """Return K (3, 3) of an image of (width, height) for the same view at another size, pixel centres at integers."""
    sx, sy = new_size[0] / size[0], new_size[1] / size[1]
    out = K.copy()
    out[0, 0] *= sx
    out[1, 1] *= sy
    out[0, 2] = (K[0, 2] + 0.5) * sx - 0.5
    out[1, 2] = (K[1, 2] + 0.5) * sy - 0.5
    return out
