"""Poses from /tf: a tree of frames whose transforms change over time, looked up by interpolation."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bodydouble.frames import make_se3, quat_slerp, quat_to_matrix
from bodydouble.recording.messages import stamp_ns

_MAX_FRAMES = 1024
_MAX_STAMPS = 4096
"""Transforms kept per frame: at 1 kHz the last four seconds."""
_MAX_DEPTH = 64


@dataclass
class _Edge:
    """A frame's transform to its parent over time: sorted stamps, each with translation and wxyz quaternion."""

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    values: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


class TransformTree:
    """The transforms seen so far; old ones are forgotten, so look up in the order of time.

    Args:
        max_gap_ns: Longest time between two transforms over which a pose is interpolated.
    """

    def __init__(self, max_gap_ns: int):
        self._max_gap_ns = max_gap_ns
        self._edges: dict[str, _Edge] = {}

    def add(self, message: Any, static: bool, t_ns: int | None = None) -> None:
        """Take in a TFMessage, at its own stamps or at a given time.

        Raises:
            ValueError: A transform is not finite, has no orientation, or there are too many frames.
        """
        for item in message.transforms:
            t, q = item.transform.translation, item.transform.rotation
            translation, quat = np.array([t.x, t.y, t.z]), np.array([q.w, q.x, q.y, q.z])
            norm = math.hypot(q.w, q.x, q.y, q.z)
            if not (np.isfinite(translation).all() and 0.5 < norm < 2.0):
                raise ValueError(f"transform of {item.child_frame_id!r} is not finite or has no orientation")
            parent, child = item.header.frame_id.lstrip("/"), item.child_frame_id.lstrip("/")
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.static != static:
                edge = self._edges[child] = _Edge(parent, static)
                if len(self._edges) > _MAX_FRAMES:
                    raise ValueError(f"more than {_MAX_FRAMES} frames")
            stamp = 0 if static else stamp_ns(item.header.stamp) if t_ns is None else t_ns
            if stamp not in edge.values:
                insort(edge.stamps, stamp)
            edge.values[stamp] = translation, quat / norm
            if len(edge.stamps) > _MAX_STAMPS:
                del edge.values[edge.stamps.pop(0)]

    def above(self, frame: str) -> list[tuple[str, bool]]:
        """Return the frames above `frame` up to its root, each with whether the transform to it is static."""
        return [(edge.parent, edge.static) for edge in self._chain(frame)]

    def static(self, frame: str) -> np.ndarray:
        """Return T_parent_frame (4, 4) of a frame whose transform never changes."""
        translation, quat = self._edges[frame].values[0]
        return make_se3(quat_to_matrix(quat), translation)

    def settled(self, frame: str, t_ns: int) -> bool:
        """Return whether every transform from `frame` up to its root has been seen at or after a time."""
        chain = self._chain(frame)
        return bool(chain) and all(edge.static or edge.stamps[-1] >= t_ns for edge in chain)

    def lookup(self, frame: str, t_ns: int) -> np.ndarray | None:
        """Return T_root_frame (4, 4) at a time, or None where it is not known within `max_gap_ns`."""
        chain = self._chain(frame)
        out = np.eye(4)
        for edge in chain:
            transform = self._interpolate(edge, t_ns)
            if transform is None:
                return None
            out = transform @ out
        return out if chain else None

    def _chain(self, frame: str) -> list[_Edge]:
        chain: list[_Edge] = []
        while (edge := self._edges.get(frame)) is not None:
            chain.append(edge)
            frame = edge.parent
            if len(chain) > _MAX_DEPTH:
                raise ValueError(f"the frames above {frame!r} form a loop")
        return chain

    def _interpolate(self, edge: _Edge, t_ns: int) -> np.ndarray | None:
        stamps = edge.stamps
        if edge.static:
            translation, quat = edge.values[stamps[0]]
            return make_se3(quat_to_matrix(quat), translation)
        after = bisect_left(stamps, t_ns)
        if after < len(stamps) and stamps[after] == t_ns:
            translation, quat = edge.values[t_ns]
            return make_se3(quat_to_matrix(quat), translation)
        if after == 0 or after == len(stamps) or stamps[after] - stamps[after - 1] > self._max_gap_ns:
            return None
        first, second = stamps[after - 1], stamps[after]
        (p0, q0), (p1, q1) = edge.values[first], edge.values[second]
        share = (t_ns - first) / (second - first)
        return make_se3(quat_to_matrix(quat_slerp(q0, q1, share)), p0 + share * (p1 - p0))
