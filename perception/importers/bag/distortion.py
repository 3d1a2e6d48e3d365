"""Removing lens distortion: each pixel of an ideal pinhole image looked up in the distorted one.

Models as ROS and OpenCV have them: plumb_bob and rational_polynomial (Brown, "Decentering distortion of lenses", 1966;
radial k1 k2 k3, tangential p1 p2, denominator k4 k5 k6), equidistant (Kannala and Brandt, 2006: k1 to k4 of the angle).
"""

from __future__ import annotations

import numpy as np

from bodydouble.errors import InputError

_COUNTS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
_RADII = 512


def distort(xy: np.ndarray, model: str, D: np.ndarray) -> np.ndarray:
    """Return where a lens puts rays (..., 2) given as x / z and y / z, in the same units."""
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    if model == "equidistant":
        r = np.sqrt(r2)
        angle = np.arctan(r)
        bent = angle * (1 + sum(k * angle ** (2 * i + 2) for i, k in enumerate(D)))
        return xy * np.where(r > 1e-9, bent / np.maximum(r, 1e-12), 1.0)[..., None]
    k1, k2, p1, p2, k3, k4, k5, k6 = np.pad(D, (0, 8 - len(D)))
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


class Undistortion:
    """Takes images of one distorted camera to the ideal pinhole of the same K and size.

    Args:
        K: Intrinsics (3, 3) of the distorted images.
        D: Distortion coefficients.
        model: plumb_bob, rational_polynomial or equidistant.
        size: Width and height, pixels.
        where: Source, for messages.

    Raises:
        InputError: Another model, or another number of coefficients.
    """

    def __init__(self, K: np.ndarray, D: np.ndarray, model: str, size: tuple[int, int], where: str):
        if len(D) not in _COUNTS.get(model, ()) or not np.isfinite(D).all():
            raise InputError(
                f"{where}: distortion model {model!r} with {len(D)} coefficients, expected plumb_bob (5), "
                "rational_polynomial (8) or equidistant (4); rectify the images first (image_proc)"
            )
        columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
        xy = np.stack([(columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1]], axis=-1)
        bent = distort(xy, model, D)
        self._u = (bent[..., 0] * K[0, 0] + K[0, 2]).astype(np.float32)
        self._v = (bent[..., 1] * K[1, 1] + K[1, 2]).astype(np.float32)
        # Beyond the radius where the polynomial turns back, the model sees the image a second time.
        reach = np.linspace(0.0, float(np.sqrt((xy**2).sum(-1).max())), _RADII)
        seen = distort(np.stack([reach, 0 * reach], axis=-1), model, np.where(_tangential(model, len(D)), 0.0, D))
        back = np.flatnonzero(np.diff(seen[:, 0]) <= 0)
        valid = (xy**2).sum(-1) <= (reach[back[0]] ** 2 if back.size else np.inf)
        valid &= (self._u >= -0.5) & (self._u <= size[0] - 0.5) & (self._v >= -0.5) & (self._v <= size[1] - 0.5)
        self._valid = valid
        self._column = np.clip(np.rint(np.where(valid, self._u, 0)), 0, size[0] - 1).astype(np.intp)
        self._row = np.clip(np.rint(np.where(valid, self._v, 0)), 0, size[1] - 1).astype(np.intp)

    def depth(self, image: np.ndarray) -> np.ndarray:
        """Return a depth image (H, W) undistorted: the nearest reading, never a mixture; 0 outside."""
        return np.where(self._valid, image[self._row, self._column], image.dtype.type(0))

    def color(self, image: np.ndarray) -> np.ndarray:
        """Return a colour image (H, W, 3) uint8 undistorted, bilinear; black outside."""
        height, width = image.shape[:2]
        u, v = np.clip(self._u, 0, width - 1), np.clip(self._v, 0, height - 1)
        c0, r0 = np.minimum(u.astype(np.intp), max(width - 2, 0)), np.minimum(v.astype(np.intp), max(height - 2, 0))
        c1, r1 = np.minimum(c0 + 1, width - 1), np.minimum(r0 + 1, height - 1)
        a, b = (u - c0)[..., None], (v - r0)[..., None]
        top = image[r0, c0] * (1 - a) + image[r0, c1] * a
        low = image[r1, c0] * (1 - a) + image[r1, c1] * a
        mixed = np.rint(top * (1 - b) + low * b).astype(np.uint8)
        return np.where(self._valid[..., None], mixed, np.uint8(0))


def _tangential(model: str, count: int) -> np.ndarray:
    """Return which coefficients are tangential."""
    return np.isin(np.arange(count), (2, 3)) & (model != "equidistant")
