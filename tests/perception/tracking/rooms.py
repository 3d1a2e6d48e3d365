"""A camera that moves through a small rendered room on a known path, as tracking sees it."""

from dataclasses import replace

import numpy as np

from bodydouble.frames import make_se3, se3_inverse
from perception.synthetic.cameras import look_at
from perception.synthetic.room import Mesh, room
from perception.views import View
from tests.perception.small_scenes import view

ROOM: Mesh = room(np.random.default_rng(0))


def path(count: int, span: float = 1.0) -> np.ndarray:
    """Poses (count, 4, 4): a step aside and a look around at eye height, the same way whatever the count."""
    s = np.linspace(0, span, count)
    eye = np.stack([1.9 - 0.3 * s, 0.5 * s - 0.5, 1.4 + 0.1 * np.sin(4 * s)], axis=1)
    target = np.stack([-0.6 + 0 * s, 0.9 * np.sin(2.2 * s), 0.6 + 0.2 * s], axis=1)
    return look_at(eye, target, 0.05 * np.sin(5 * s))


def seen(poses: np.ndarray, places=(), *, seed: int | None = 0, colour: bool = True) -> View:
    """The room from the poses, which tracking is not told; see `small_scenes.view` for the mover's places."""
    shown = view(ROOM, poses, places, seed=seed)
    images = [image for image in shown.color if image is not None]
    gray = np.stack([image[::2, ::2].mean(axis=2).astype(np.uint8) for image in images])
    return replace(shown, T_world_camera=np.full_like(poses, np.nan), gray=gray if colour else None)


def errors(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors of position, m, and orientation, degrees, of each frame, relative to the first frame that was found."""
    first = int(np.flatnonzero(np.isfinite(found[:, 0, 0]))[0])
    off = se3_inverse(se3_inverse(truth[first]) @ truth) @ (se3_inverse(found[first]) @ found)
    turn = np.degrees(np.arccos(np.clip((np.trace(off[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
    return np.linalg.norm(off[:, :3, 3], axis=1), turn


def without(shown: View, frames) -> View:
    """The view with no depth and no brightness in some frames: a hand before the lens."""
    depth = np.asarray(shown.depth_mm).copy()
    depth[frames] = 0
    gray = shown.gray
    if gray is not None:
        gray = np.asarray(gray).copy()
        gray[frames] = 0
    return replace(shown, depth_mm=depth, gray=gray)


def only(shown: View, frames) -> View:
    """Some of a view's frames."""
    return replace(
        shown,
        times_ns=shown.times_ns[frames],
        T_world_camera=shown.T_world_camera[frames],
        depth_mm=np.asarray(shown.depth_mm)[frames],
        color=[None] * len(shown.times_ns[frames]),
        gray=None if shown.gray is None else np.asarray(shown.gray)[frames],
    )


def moved(poses: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Poses after a rigid motion of everything."""
    return make_se3(turn, shift) @ poses
