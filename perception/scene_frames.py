"""The frames that the scene is built from: those with colour, read one at a time and never held together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from bodydouble.errors import InputError
from perception.views import View


@dataclass(frozen=True)
class Frame:
    """One image of H x W pixels."""

    depth_mm: np.ndarray
    """Depth (H, W), uint16, mm; 0 is no reading."""
    color: np.ndarray
    """Colour (H, W, 3), uint8."""
    K: np.ndarray
    """Intrinsics (3, 3), pixels."""
    T_world_camera: np.ndarray
    """Pose (4, 4)."""


class SceneFrames(Sequence[Frame]):
    """The frames with colour of all views, view by view; a slice is another such sequence.

    Args:
        views: The views.
        places: View and frame numbers to take; all frames with colour where not given.

    Raises:
        InputError: There is no colour, or it has another size than the depth.
    """

    def __init__(self, views: Sequence[View], places: list[tuple[int, int]] | None = None):
        self._views = views
        if places is None:
            places = []
            for number, view in enumerate(views):
                for index, color in enumerate(view.color):
                    if color is not None:
                        _check_size(view, color)
                        places.append((number, index))
            if not places:
                raise InputError("the recording has no colour images; the scene needs colour and depth")
        self._places = places

    @property
    def times_ns(self) -> np.ndarray:
        """Times of the frames (F,), int64, ns."""
        return np.array([self._views[number].times_ns[index] for number, index in self._places], dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._places)

    @overload
    def __getitem__(self, key: int) -> Frame: ...

    @overload
    def __getitem__(self, key: slice) -> SceneFrames: ...

    def __getitem__(self, key: int | slice) -> Frame | SceneFrames:
        """Return a frame, read now, or the sequence of some of them."""
        if isinstance(key, slice):
            return SceneFrames(self._views, self._places[key])
        number, index = self._places[key]
        view = self._views[number]
        color = view.color[index]
        assert color is not None
        return Frame(np.asarray(view.depth_mm[index]), color, view.K, view.T_world_camera[index])


def _check_size(view: View, color: np.ndarray) -> None:
    width, height = view.size
    if color.shape[:2] != (height, width):
        raise InputError(
            f"camera {view.name}: colour is {color.shape[1]}x{color.shape[0]}, depth {width}x{height}; "
            "register the depth to the colour image"
        )
