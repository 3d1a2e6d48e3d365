"""Where a person's skin meets the scene: what who rests lies on, and the true contacts of eight body parts."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import open3d as o3d
import torch
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from perception.body.anny_body import CONTACT_NAMES, AnnyBody
from perception.body.anny_data import BONE_NAMES, SHAPE_NAMES
from perception.synthetic.motions import Tracks
from perception.synthetic.room import ROOM_HALF, Mesh, box

TOUCH_M = 0.015
"""Distance between skin and surface within which a part touches, m."""
TOUCH_SPEED_M_S = 0.15
"""Speed of the skin above which it does not, m/s."""
PRESSED_M = 0.004
"""How far flesh and fingers give way where the body rests, m."""
_NEAREST = 5
"""Vertices, the nearest ones, that decide over a part."""
_BONES: dict[str, tuple[str, ...]] = {
    "left_foot": ("left_ankle", "left_toe"),
    "right_foot": ("right_ankle", "right_toe"),
    "left_hand": ("left_wrist",),
    "right_hand": ("right_wrist",),
    "pelvis": ("pelvis", "left_hip", "right_hip"),
    "left_knee": ("left_hip", "left_knee"),
    "right_knee": ("right_hip", "right_knee"),
    "back": ("spine1", "spine2", "spine3"),
}
_TRUNK = ("pelvis", "left_hip", "right_hip", "spine1", "spine2", "spine3")
"""Bones whose skin carries who sits or lies."""
_HANDS = ("left_wrist", "right_wrist")


class Surroundings:
    """The surfaces around a person."""

    def __init__(self, mesh: Mesh):
        """Take closed surfaces."""
        self._scene = o3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            o3d.core.Tensor(mesh.vertices.astype(np.float32)), o3d.core.Tensor(mesh.triangles.astype(np.uint32))
        )

    @classmethod
    def of(cls, mesh: Mesh | None) -> Surroundings:
        """Return a scene's surroundings, or a bare floor's at z = 0."""
        half_x, half_y = ROOM_HALF
        return cls(mesh or box((0, 0, -0.05), (8 * half_x, 8 * half_y, 0.1), (0, 0, 0)))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the distance (...) of points (..., 3) to the nearest surface, m, from either side."""
        found = self._scene.compute_distance(o3d.core.Tensor(points.astype(np.float32)), nthreads=1)
        return found.numpy().astype(np.float64)

    def height(self, points: np.ndarray, above: float = 0.2) -> np.ndarray:
        """Return the height (...) of points (..., 3) over the surface below, m; negative up to `above` inside of it."""
        rays = np.empty((*points.shape[:-1], 6), np.float32)
        rays[..., :3] = points + np.array([0, 0, above])
        rays[..., 3:] = (0, 0, -1)
        hit = self._scene.cast_rays(o3d.core.Tensor(rays), nthreads=1)["t_hit"].numpy()
        return hit.astype(np.float64) - above


@functools.cache
def _body() -> AnnyBody:
    return AnnyBody.load()


@functools.cache
def _owner() -> tuple[np.ndarray, np.ndarray]:
    """Return the outer skin's vertices, and the bone of each."""
    outer = _body().outer_vertices()
    return outer, _body().weights.argmax(dim=1).numpy()[outer]


@functools.cache
def _skin_of(bones: tuple[str, ...], count: int) -> np.ndarray:
    """Return vertices (at most `count`) on some bones."""
    outer, owner = _owner()
    own = outer[np.isin(owner, [BONE_NAMES.index(bone) for bone in bones])]
    return own[:: max(1, len(own) // count)]


@functools.cache
def part_skin() -> dict[str, np.ndarray]:
    """Return the vertices of each part: soles, hands, seat, fronts of the knees, back."""
    rest = _body().rest(torch.full((len(SHAPE_NAMES),), 0.5, dtype=_body().dtype))
    vertices, joints = rest.vertices.numpy(), rest.joint_pos.numpy()
    outer, owner = _owner()
    found = {}
    for name, bones in _BONES.items():
        own = outer[np.isin(owner, [BONE_NAMES.index(bone) for bone in bones])]
        if name.endswith("foot"):
            own = own[vertices[own, 2] < vertices[own, 2].min() + 0.02]
        elif name == "pelvis":
            way = vertices[own] - joints[BONE_NAMES.index("pelvis")]
            own = own[(np.linalg.norm(way, axis=1) < 0.25) & ((way[:, 0] < -0.03) | (way[:, 2] < -0.06))]
        elif name.endswith("knee"):
            way = vertices[own] - joints[BONE_NAMES.index(name)]
            own = own[(np.linalg.norm(way, axis=1) < 0.09) & (way[:, 0] > 0.02)]
        elif name == "back":
            # The lowest bone of the spine carries some of the seat's skin.
            above = vertices[own, 2] > joints[BONE_NAMES.index("pelvis"), 2] + 0.12
            own = own[above & (vertices[own, 0] < joints[BONE_NAMES.index("spine2"), 0] - 0.03)]
        found[name] = own
    return found


@torch.no_grad()
def _vertices(index: np.ndarray, pose: np.ndarray, root: np.ndarray, shape: Sequence[float]) -> np.ndarray:
    body = _body().subset(index)
    state = body.forward(*(torch.as_tensor(x, dtype=body.dtype) for x in (pose, root, np.asarray(shape))))
    assert state.vertices is not None
    return state.vertices.numpy()


def touching(
    pose: np.ndarray, root: np.ndarray, shape: Sequence[float], around: Surroundings, fps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return which parts touch: their nearest skin is on a surface and slow.

    Args:
        pose: Local bone rotations (T, 22, 4), wxyz.
        root: Pelvis (T, 3), world, m.
        shape: Shape parameters (5,).
        around: The surfaces.
        fps: Frames per second.

    Returns:
        Contacts (T, 8), bool, in CONTACT_NAMES' order; the middle of each part's nearest skin (T, 8, 3), world, m.
    """
    frames = np.arange(len(pose))
    half = max(1, round(0.07 * fps))
    before, after = np.maximum(frames - half, 0), np.minimum(frames + half, len(frames) - 1)
    touches = np.zeros((len(pose), len(CONTACT_NAMES)), bool)
    places = np.zeros((len(pose), len(CONTACT_NAMES), 3))
    for part, name in enumerate(CONTACT_NAMES):
        skin = _vertices(part_skin()[name], pose, root, shape)
        distance = around.distance(skin)
        nearest = np.argpartition(distance, _NEAREST, axis=1)[:, :_NEAREST]
        way = np.take_along_axis(skin[after] - skin[before], nearest[..., None], axis=1).mean(axis=1)
        speed = np.linalg.norm(way, axis=1) * fps / np.maximum(after - before, 1)
        near = np.take_along_axis(distance, nearest, axis=1).mean(axis=1)
        touches[:, part] = (near < TOUCH_M) & (speed < TOUCH_SPEED_M_S)
        places[:, part] = np.take_along_axis(skin, nearest[..., None], axis=1).mean(axis=1)
    return touches, places


def place_on(
    tracks: Tracks,
    around: Surroundings,
    solve: Callable[[Tracks], np.ndarray],
    shape: Sequence[float],
    fps: float,
) -> Tracks:
    """Return the tracks with the trunk resting on the surface below where it rests, and the hands out of it.

    Args:
        tracks: The plan.
        around: The surfaces.
        solve: Gives the pose (T, 22, 4) of a plan.
        shape: Shape parameters (5,).
        fps: Frames per second.
    """
    resting = np.flatnonzero(tracks.rest >= 1.0)
    frames = np.arange(len(tracks.rest))
    # A frame on the way down or up goes towards the nearest frame at rest.
    after = np.clip(np.searchsorted(resting, frames), 0, len(resting) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.where(np.abs(resting[before] - frames) < np.abs(resting[after] - frames), before, after)
    for _ in range(3):
        trunk = _vertices(_skin_of(_TRUNK, 1500), solve(tracks)[resting], tracks.pelvis[resting], shape)
        gap = around.height(trunk).min(axis=1) + PRESSED_M
        pelvis = tracks.pelvis.copy()
        pelvis[:, 2] -= tracks.rest * gap[nearer]
        tracks = dataclasses.replace(tracks, pelvis=pelvis)
    for _ in range(4):
        skin = _vertices(_skin_of(_HANDS, 800), solve(tracks), tracks.pelvis, shape)
        raised = tracks.hands.copy()
        side = np.isin(_skin_of(_HANDS, 800), _skin_of(_HANDS[:1], 100_000))
        window = 2 * round(0.1 * fps) + 1
        for hand, own in enumerate((side, ~side)):
            inside = np.maximum(-around.height(skin[:, own]).min(axis=1) - PRESSED_M, 0)
            # The fingers rise more than the wrist, the forearm turns about the elbow.
            raised[:, hand, 2] += 0.5 * uniform_filter1d(maximum_filter1d(inside, window), window)
        tracks = dataclasses.replace(tracks, hands=raised)
    return tracks
