"""One camera of a bag, from its messages to the recording: pairs, units, geometry, poses."""

from __future__ import annotations

from typing import Any

import numpy as np

from bodydouble.errors import InputError
from bodydouble.recording import RecordingWriter, messages
from bodydouble.recording.images import decode_color, decode_depth_values
from bodydouble.recording.limits import Limits
from perception.importers.bag.cameras import CameraChoice
from perception.importers.bag.geometry import CameraGeometry
from perception.importers.bag.poses import PoseLookup, PoseQueue
from perception.importers.bag.survey import damaged_says
from perception.importers.color_image import open_color, shrink
from perception.importers.depth_unit import to_millimetres
from perception.live.pairing import Pair, Pairing

_WAITING = 30
"""Images that wait for their partner."""


class CameraStream:
    """Writes one camera's images and poses as its messages come.

    Args:
        writer: The recording.
        choice: The camera's topics.
        geometry: What its images need.
        metres: Metres per count of its depth images.
        slop_ns: Farthest distance in time of a pair, ns.
        poses: Where its poses come from; None for none.
        limits: Upper bounds on images.
    """

    def __init__(
        self,
        writer: RecordingWriter,
        choice: CameraChoice,
        geometry: CameraGeometry,
        metres: float,
        slop_ns: int,
        poses: PoseLookup | None,
        limits: Limits,
    ):
        self._writer, self._choice, self._geometry = writer, choice, geometry
        self._metres, self._poses, self._limits = metres, poses, limits
        self._pairing: Pairing[Any] = Pairing(slop_ns, _WAITING, self._write_depth)
        self._queue = PoseQueue(lambda pose, t_ns: writer.write_pose(choice.name, pose, t_ns))
        self._begun = False
        self.first_ns: int | None = None
        self.last_ns = 0
        self.frames = 0
        """Depth images written."""
        self.with_color = 0
        self.too_far = 0
        """Readings beyond what a recording holds."""
        self.went_back = 0
        """Images whose stamps do not rise."""
        self._last = {"depth": -1, "color": -1}

    @property
    def with_pose(self) -> int:
        """Depth images with a pose."""
        return self._queue.written

    @property
    def dropped_color(self) -> int:
        """Colour images that no depth image took."""
        return self._pairing.dropped_color

    def add(self, kind: str, message: Any, t_ns: int) -> None:
        """Take in an image message; kind is `depth` or `color`."""
        if t_ns <= self._last[kind]:
            self.went_back += 1
            return
        self._last[kind] = t_ns
        if self._choice.color is None:
            self._write_depth(t_ns, message)
            return
        for pair in (self._pairing.add_depth if kind == "depth" else self._pairing.add_color)(t_ns, message):
            self._write_pair(pair)

    def write_poses(self, final: bool = False) -> None:
        """Write the poses of depth images for which the transforms have come."""
        if self._poses is not None:
            self._queue.flush(self._poses, final)

    def finish(self) -> None:
        """Write what is left."""
        for pair in self._pairing.finish():
            self._write_pair(pair)
        self.write_poses(final=True)

    def _write_pair(self, pair: Pair[Any]) -> None:
        self._write_color(pair.color, pair.color_ns)
        self._write_depth(pair.depth_ns, pair.depth)
        self.with_color += 1

    def _write_depth(self, t_ns: int, message: Any) -> None:
        topic, geometry = self._choice.depth, self._geometry
        values = damaged_says(topic.name, lambda: decode_depth_values(message, self._limits))
        if (values.shape[1], values.shape[0]) != topic.size:
            raise InputError(
                f"{topic.name}: an image of {values.shape[1]} x {values.shape[0]} pixels, the first has "
                f"{topic.size[0]} x {topic.size[1]}; record with one size"
            )
        if values.dtype == np.uint16:
            values[values == 65535] = 0
        depth, far = to_millimetres(values, self._metres)
        self.too_far += far
        if geometry.undistort_depth is not None:
            depth = geometry.undistort_depth.depth(depth)
        if geometry.registration is not None:
            depth = geometry.registration(depth)
        self._begin(t_ns)
        self._writer.write_depth(self._choice.name, depth, t_ns)
        self.frames += 1
        self.first_ns = t_ns if self.first_ns is None else self.first_ns
        self.last_ns = t_ns
        if self._poses is not None:
            self._queue.add(t_ns)
            self.write_poses()

    def _write_color(self, message: Any, t_ns: int) -> None:
        topic, geometry, name = self._choice.color, self._geometry, self._choice.name
        assert topic is not None
        self._begin(t_ns)
        if message.__msgtype__ == messages.COMPRESSED_IMAGE:
            data = bytes(message.data)
            image, image_format = open_color(data, topic.name)
            self._check_size(image.size)
            if geometry.size == topic.size and geometry.undistort_color is None:
                self._writer.write_color_encoded(name, data, image_format, t_ns)
                return
            rgb = np.asarray(image.convert("RGB"))
        else:
            rgb = damaged_says(topic.name, lambda: decode_color(message, self._limits))
            self._check_size((rgb.shape[1], rgb.shape[0]))
        if geometry.undistort_color is not None:
            rgb = geometry.undistort_color.color(rgb)
        if geometry.size != topic.size:
            from PIL import Image

            rgb = shrink(Image.fromarray(rgb), geometry.size)
        self._writer.write_color(name, rgb, t_ns)

    def _check_size(self, size: tuple[int, int]) -> None:
        topic = self._choice.color
        assert topic is not None
        if size != topic.size:
            raise InputError(
                f"{topic.name}: an image of {size[0]} x {size[1]} pixels, the first has {topic.size[0]} x "
                f"{topic.size[1]}; record with one size"
            )

    def _begin(self, t_ns: int) -> None:
        if not self._begun:
            self._writer.write_camera_info(self._choice.name, self._geometry.K, *self._geometry.size, t_ns)
            self._begun = True
