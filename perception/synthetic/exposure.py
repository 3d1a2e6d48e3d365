"""One exposure of a camera: who is in the picture at that time, and the blur of what moves meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bodydouble.motion import HumanMotion
from perception.synthetic.acting import whole_body
from perception.synthetic.render import Renderer

MOMENTS = 5
"""Moments that a blurred exposure is averaged over."""


@dataclass(frozen=True)
class Shot:
    """One image to take. S moments of the exposure."""

    camera: str
    """Name of the camera."""
    t_ns: int
    """Middle of the exposure, true time, ns."""
    times_ns: np.ndarray
    """Times of the moments (S,), ns."""
    T_world_camera: np.ndarray
    """Poses of the camera at the moments (S, 4, 4)."""
    seed: int
    """Seed of the noise."""


@dataclass(frozen=True)
class Actor:
    """A person who is seen, and when."""

    motion: HumanMotion
    """What the person does."""
    away_ns: tuple[int, int] = (0, 0)
    """Time in which the person is out of the room, from and to, ns."""

    def vertices(self, t_ns: int) -> np.ndarray | None:
        """Return the vertices (V, 3), world, m, at a time; None while the person is away."""
        if self.away_ns[0] <= t_ns < self.away_ns[1]:
            return None
        times = self.motion.times_ns
        return body_vertices(self.motion, int(np.clip(t_ns, times[0], times[-1])))


def moments(blur_s: float) -> np.ndarray:
    """Return the times of an exposure's moments from its middle (S,), int64, ns; one where nothing blurs."""
    if blur_s == 0:
        return np.zeros(1, dtype=np.int64)
    return np.round(blur_s * 1e9 * np.linspace(-0.5, 0.5, MOMENTS)).astype(np.int64)


def expose(renderer: Renderer, actors: Sequence[Actor], shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """Return colour (H, W, 3), uint8, and depth (H, W), m, infinite where nothing is.

    Colour is the mean over the moments. So is depth, as a time-of-flight camera has it: at a moving edge it reads a
    distance between the two surfaces, where there is nothing.
    """
    colours, depths = [], []
    for t_ns, pose in zip(shot.times_ns, shot.T_world_camera, strict=True):
        bodies = [actor.vertices(int(t_ns)) for actor in actors]
        colour, depth = renderer.render(pose, *bodies)
        colours.append(colour)
        depths.append(depth)
    if len(colours) == 1:
        return colours[0], depths[0]
    return np.stack(colours).mean(axis=0).astype(np.uint8), np.stack(depths).mean(axis=0)


def body_vertices(motion: HumanMotion, t_ns: int) -> np.ndarray:
    """Return the person's vertices (V, 3), world, m, at a time between two frames of the motion."""
    body = whole_body()
    after = int(np.clip(np.searchsorted(motion.times_ns, t_ns), 1, len(motion.times_ns) - 1))
    before = after - 1
    share = (t_ns - motion.times_ns[before]) / (motion.times_ns[after] - motion.times_ns[before])
    a, b = motion.pose[before], motion.pose[after]
    b = np.where(np.sum(a * b, axis=-1, keepdims=True) < 0, -b, b)
    pose = torch.from_numpy((1 - share) * a + share * b).to(body.dtype)
    root = torch.from_numpy((1 - share) * motion.root_pos[before] + share * motion.root_pos[after]).to(body.dtype)
    with torch.no_grad():
        state = body.forward(pose[None], root[None], torch.from_numpy(motion.shape).to(body.dtype))
    assert state.vertices is not None
    return state.vertices[0].numpy()
