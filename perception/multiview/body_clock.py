"""The clocks once more, from the fitted body: a camera whose clock is off sees the body displaced along its motion.

A camera whose clock is ahead by d sees at time t what the others see at t - d: the skin lies at x - v d instead of x.
The fit stands between the cameras, so only the difference between two of them counts: where both see a limb, -d is the
slope of the gap along the skin's normal over the speed of the skin along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perception.body.anny_data import BONE_NAMES
from perception.fit import FittedBody
from perception.segment import PersonPoints
from perception.skin import Skin, eyes_of, gather, match
from perception.views import View

VERTICES = 500
"""Vertices of the skin."""
REACH_M = 0.04
"""Gap at which a point has lost half its weight, m."""
MIN_POINTS = 3
"""Points of a limb that a camera must have in a frame for the limb to count."""
_BATCH = 64


@dataclass(frozen=True)
class BodyClocks:
    """How far the cameras' clocks are from the body's time. C cameras."""

    ahead_s: np.ndarray
    """Time by which each camera's clock is ahead of the first one's, s; NaN where the motion does not tell."""
    deviation_s: np.ndarray
    """Standard deviation of it, s."""

    def change_s(self) -> np.ndarray:
        """Return what to take from each camera's clock (C,), s: nothing where the offset is lost in its deviation."""
        known = np.isfinite(self.ahead_s) & (np.abs(self.ahead_s) > 2 * self.deviation_s)
        return np.where(known, self.ahead_s, 0.0)


@torch.no_grad()
def body_clocks(body: FittedBody, person: PersonPoints, views: Sequence[View]) -> BodyClocks:
    """Return what is left between the clocks of cameras that the body was fitted to.

    Args:
        body: The body, fitted to the points.
        person: The person's points.
        views: The cameras, with poses and on clocks that are nearly one.
    """
    skin = Skin(VERTICES)
    pose, root, shape = (torch.as_tensor(x, dtype=torch.float32) for x in (body.pose, body.root_pos, body.shape))
    points = torch.as_tensor(person.points, dtype=torch.float32)
    origin = torch.as_tensor(person.origin, dtype=torch.float32)
    eyes = eyes_of(origin)
    owner = skin.body.weights.argmax(dim=1)
    period_s = 1e-9 * float(np.median(np.diff(person.times_ns)))
    rows: list[list[np.ndarray]] = [[] for _ in views]
    frames = np.flatnonzero(person.count > 0)
    frames = frames[(frames > 0) & (frames < len(pose) - 1)]
    for start in range(0, len(frames), _BATCH):
        index = torch.as_tensor(frames[start : start + _BATCH])
        state, normals = skin.pose(pose[index], root[index], shape)
        before, after = (skin.pose(pose[index + step], root[index + step], shape)[0] for step in (-1, 1))
        assert state.vertices is not None and before.vertices is not None and after.vertices is not None
        velocity = (after.vertices - before.vertices) / (2 * period_s)
        found = match(state.vertices, normals, points[index], eyes.part(index))
        normal = gather(normals, found.vertex)
        gap = ((points[index] - gather(state.vertices, found.vertex)) * normal).sum(-1)
        speed = (gather(velocity, found.vertex) * normal).sum(-1)
        camera, late_s = _cameras_of(origin[index], person.times_ns[index.numpy()], views)
        both = _seen_by_several(camera, owner[found.vertex], len(views))
        gap = gap - speed * late_s
        for number in range(len(views)):
            chosen = both & (camera == number)
            rows[number].append(torch.stack([gap[chosen], speed[chosen]], dim=1).double().numpy())
    slopes = [_slope(np.concatenate(row)) if row else (np.nan, np.nan) for row in rows]
    slope, deviation = np.array(slopes).T
    return BodyClocks(slope[0] - slope, np.hypot(deviation, deviation[0]))


def _cameras_of(origin: torch.Tensor, times_ns: np.ndarray, views: Sequence[View]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which view saw each point (B, P), and how much later than the frame's time it did (B, P), s."""
    nearest, late_s = [], []
    for view in views:
        image = np.abs(view.times_ns[:, None] - times_ns).argmin(axis=0)
        place = torch.as_tensor(view.T_world_camera[image, :3, 3], dtype=torch.float32)
        nearest.append((origin - place[:, None]).norm(dim=-1))
        late_s.append(torch.as_tensor((view.times_ns[image] - times_ns) * 1e-9, dtype=torch.float32))
    camera = torch.stack(nearest, dim=-1).argmin(dim=-1)
    return camera, torch.stack(late_s, dim=-1).gather(1, camera)


def _seen_by_several(camera: torch.Tensor, bone: torch.Tensor, cameras: int) -> torch.Tensor:
    """Return which points (B, P) lie on a limb that several cameras see in the frame.

    A limb that one camera sees alone follows that camera, whatever its clock.
    """
    bones = len(BONE_NAMES)
    counts = torch.zeros(len(camera), cameras * bones)
    counts.scatter_add_(1, camera * bones + bone, torch.ones(camera.shape))
    several = (counts.unflatten(1, (cameras, bones)) >= MIN_POINTS).sum(dim=1) > 1
    return several.gather(1, bone)


def _slope(rows: np.ndarray) -> tuple[float, float]:
    """Return the slope of gaps over speeds (N, 2), with a robust weight, and its standard deviation.

    The gaps' mean is taken out with it: skin is a little thicker or thinner than the points everywhere.
    """
    if len(rows) < 100:
        return np.nan, np.nan
    gap, speed = rows.T
    value, weight = np.zeros(2), np.ones(len(rows))
    A = np.stack([speed, np.ones(len(rows))], axis=1)
    normal = A.T @ A
    for _ in range(8):
        weight = 1 / (1 + ((gap - A @ value) / REACH_M) ** 2) ** 2
        normal = A.T @ (A * weight[:, None])
        if np.linalg.cond(normal) > 1e12:
            return np.nan, np.nan
        value = np.linalg.solve(normal, A.T @ (weight * gap))
    # Neighbouring points and frames err alike: about fifty of them count as one.
    spread = np.sum(weight * (gap - A @ value) ** 2) / weight.sum()
    return float(value[0]), float(np.sqrt(50 * spread * np.linalg.inv(normal)[0, 0]))
