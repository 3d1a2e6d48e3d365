"""A camera's poses out of a bag's transforms: which frame is the world, and the pose at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import se3_inverse
from bodydouble.recording.transforms import TransformTree
from perception.importers.bag.cameras import NONE

WORLD_NAMES = ("world", "map", "odom", "earth", "mocap")
"""Names of frames that stand still in the room (REP 105 and common trackers)."""
MAX_WAITING = 2000
"""Most times that wait for a pose."""
_OPTION = "--config.world"


def choose_world(tree: TransformTree, frame: str, told: str) -> tuple[str | None, str | None]:
    """Return the frame that is taken as the world for a camera's frame, or None for no poses, and a note.

    Args:
        tree: The transforms seen.
        frame: Frame of the camera's images.
        told: What the user named; `none` for no poses, empty to decide by the data.

    Raises:
        InputError: The named frame is not above the camera's, or it is not clear what is the world.
    """
    if told == NONE:
        return None, None
    above = _above(tree, frame)
    way = " -> ".join([frame or "(no name)", *(parent for parent, _ in above)])
    if told:
        if told not in [parent for parent, _ in above]:
            raise InputError(f"{_OPTION} {told}: is not above the camera's frame: {way}; name one of these, or {NONE}")
        return told, None
    if not above:
        return None, f"no transform holds the camera's frame {frame!r}; no poses"
    root, moves = above[-1][0], not all(static for _, static in above)
    if is_world(root):
        return root, f"the world is the frame {root}: {way}"
    if not moves:
        return None, (
            f"the transforms above the camera never change and end in {root}: {way}; no poses. If the camera stood "
            f"still, give {_OPTION} {root}"
        )
    raise InputError(f"which frame stands still in the room? {way}; name it with {_OPTION}, or {NONE} for no poses")


def is_world(frame: str) -> bool:
    """Return whether a frame's name says that it stands still in the room."""
    return frame.split("/")[-1].lower() in WORLD_NAMES


def relative(tree: TransformTree, to: str, source: str) -> np.ndarray | None:
    """Return T_to_source (4, 4) where static transforms join the two frames, else None."""
    roots = []
    for frame in (to, source):
        chain, out = _above(tree, frame), [(frame, True)]
        for parent, static in chain:
            out.append((parent, out[-1][1] and static))
        roots.append(dict(out))
    common = next((name for name in roots[0] if name in roots[1]), None)
    if common is None or not (roots[0][common] and roots[1][common]):
        return None
    T_common_to, T_common_source = (_static(tree, frame, common) for frame in (to, source))
    return se3_inverse(T_common_to) @ T_common_source


class PoseLookup:
    """Looks up one camera's poses as transforms stream by.

    Args:
        tree: The transforms so far; filled by the caller.
        frame: Frame of the camera's images.
        world: Frame that is the world.
    """

    def __init__(self, tree: TransformTree, frame: str, world: str):
        self._tree, self._frame, self._world = tree, frame, world

    def ready(self, t_ns: int) -> bool:
        """Return whether nothing better can come for a time."""
        known = any(parent == self._world for parent, _ in _above(self._tree, self._frame))
        return known and self._tree.settled(self._frame, t_ns)

    def at(self, t_ns: int) -> np.ndarray | None:
        """Return T_world_camera (4, 4), or None where it is not known."""
        above = [parent for parent, _ in _above(self._tree, self._frame)]
        if self._world not in above:
            return None
        T_root_camera = self._tree.lookup(self._frame, t_ns)
        if T_root_camera is None or self._world == above[-1]:
            return T_root_camera
        T_root_world = self._tree.lookup(self._world, t_ns)
        return None if T_root_world is None else se3_inverse(T_root_world) @ T_root_camera


class PoseQueue:
    """Times that wait for their pose.

    Args:
        write: Called with T_world_camera (4, 4) and its time.
    """

    def __init__(self, write: Callable[[np.ndarray, int], None]):
        self._write = write
        self._times: deque[int] = deque()
        self.written = 0
        """Poses so far."""

    def add(self, t_ns: int) -> None:
        """Take in a time that needs a pose; the oldest is given up where too many wait."""
        self._times.append(t_ns)
        if len(self._times) > MAX_WAITING:
            self._times.popleft()

    def flush(self, lookup: PoseLookup, final: bool = False) -> None:
        """Write the poses for which nothing better can come (all that are known, if `final`)."""
        while self._times and (final or lookup.ready(self._times[0])):
            t_ns = self._times.popleft()
            pose = lookup.at(t_ns)
            if pose is not None:
                self._write(pose, t_ns)
                self.written += 1


def _above(tree: TransformTree, frame: str) -> list[tuple[str, bool]]:
    try:
        return tree.above(frame)
    except ValueError as error:
        raise InputError(f"transforms: {error}; record them again") from None


def _static(tree: TransformTree, frame: str, ancestor: str) -> np.ndarray:
    """Return T_ancestor_frame (4, 4) over static transforms."""
    out = np.eye(4)
    while frame != ancestor:
        parent = tree.above(frame)[0][0]
        step = tree.static(frame)
        out, frame = step @ out, parent
    return out
