"""Training data: bodies of random shapes and postures as a depth camera sees them, made on the fly in torch.

A body's skin is sampled densely, the samples that face the camera are kept where nothing nearer is in the same cell of
the camera's angles, then the sensor's faults are added: noise growing with the square of the distance, holes, things
standing before the person, the image's border, the floor's margin, clutter, loose clothes and few points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bodydouble.frames import quat_from_rotvec, quat_mul
from perception.body.anny_body import AnnyBody
from perception.body.anny_data import BONE_NAMES
from perception.body.limits import REST_POSTURE, limit_boxes
from perception.joints.canonical import MIN_POINTS, CanonicalViews, canonical_views
from perception.joints.network import JOINT_INDEX

CELL_RAD_M = 0.014
"""Cell in which the nearest sample hides the others, at the person's distance, m."""
GRID = 192
"""Cells of the camera's angles, across and down."""

_LEFT_ARM = [
    i for i, name in enumerate(BONE_NAMES) if name in ("left_collar", "left_shoulder", "left_elbow", "left_wrist")
]
_RIGHT_ARM = [
    i for i, name in enumerate(BONE_NAMES) if name in ("right_collar", "right_shoulder", "right_elbow", "right_wrist")
]
_LEGS = [i for i, name in enumerate(BONE_NAMES) if name.split("_")[-1] in ("hip", "knee", "ankle", "toe")]
_LIMBS = (_LEFT_ARM, _RIGHT_ARM, _LEGS)  # fmt: skip


@dataclass(frozen=True)
class DepthConfig:
    """How bodies and cameras are drawn. Shares are probabilities per view."""

    samples: int = 40_000
    """Samples of the skin."""
    mixed: float = 0.4
    """Share of postures whose limbs come from different clips."""
    loosened: float = 0.4
    """Share of postures with all bones turned a little."""
    free_arms: float = 0.25
    """Share of postures with arms anywhere within the limits."""
    free_legs: float = 0.08
    """Share of postures with legs anywhere within the limits."""
    tilted: float = 0.15
    """Share of bodies that lean or lie."""
    distance_m: tuple[float, float] = (1.4, 4.8)
    """Distance of the camera, m."""
    height_m: tuple[float, float] = (0.4, 2.4)
    """Height of the camera over the floor, m."""
    noise: tuple[float, float] = (0.0005, 0.004)
    """Depth noise at one metre, m; it grows with the distance squared."""
    cloth_m: float = 0.03
    """Greatest distance of clothes from the skin, m."""
    hidden: float = 0.35
    """Share of views with something before the person."""
    cropped: float = 0.2
    """Share of views in which the person leaves the image."""
    cluttered: float = 0.2
    """Share of views with points that are not the person's."""


@dataclass(frozen=True)
class TrainingViews:
    """A batch of B views with their truth."""

    views: CanonicalViews
    """What the network sees."""
    joints: torch.Tensor
    """True joints (B, J, 3): right, up, away from the image's centre, m."""
    usable: torch.Tensor
    """Whether enough of the person is seen (B,), bool."""


class DepthSampler:
    """Draws training views on one device."""

    def __init__(self, poses: np.ndarray, config: DepthConfig, device: torch.device, seed: int) -> None:
        """Hold the postures (N, 22, 4), wxyz, and the body."""
        self._config, self._device = config, device
        self._poses = torch.as_tensor(poses.astype(np.float32), device=device)
        self._random = torch.Generator(device=device).manual_seed(seed)
        whole = AnnyBody.load()
        assert whole.faces is not None
        outer = np.zeros(whole.num_vertices, dtype=bool)
        outer[whole.outer_vertices()] = True
        faces = whole.faces[outer[whole.faces].all(axis=1)]
        self._body = AnnyBody.load(device=str(device))
        vertices = whole.rest(torch.full((5,), 0.5)).vertices.numpy()
        corner = vertices[faces]
        area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
        rng = np.random.default_rng(seed)
        face = faces[rng.choice(len(faces), config.samples, p=area / area.sum())]
        share = rng.dirichlet((1.0, 1.0, 1.0), config.samples)
        self._corners = torch.as_tensor(face, device=device)
        self._shares = torch.as_tensor(share.astype(np.float32), device=device)
        self._bone = self._body.weights[self._corners[:, 0]].argmax(dim=1)
        low, high = (torch.as_tensor(x.astype(np.float32), device=device) for x in limit_boxes())
        self._low, self._high = low, high
        self._rest = torch.as_tensor(REST_POSTURE.astype(np.float32), device=device)

    def _uniform(self, *size: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return low + (high - low) * torch.rand(size, generator=self._random, device=self._device)

    def _normal(self, *size: int) -> torch.Tensor:
        return torch.randn(size, generator=self._random, device=self._device)

    def _chance(self, count: int, share: float) -> torch.Tensor:
        return self._uniform(count) < share

    def postures(self, count: int) -> torch.Tensor:
        """Return local bone rotations (B, 22, 4), wxyz, the pelvis' one heading anywhere."""
        c = self._config

        def pick() -> torch.Tensor:
            at = torch.randint(len(self._poses), (count,), generator=self._random, device=self._device)
            return self._poses[at]

        pose = pick()
        mixed = self._chance(count, c.mixed)
        for limb in _LIMBS:
            other = pick()
            taken = mixed & self._chance(count, 0.7)
            pose[:, limb] = torch.where(taken[:, None, None], other[:, limb], pose[:, limb])
        free = quat_mul(
            self._rest.expand(count, -1, -1),
            quat_from_rotvec(self._low + (self._high - self._low) * self._uniform(count, len(BONE_NAMES), 3)),
        )
        for limb, share in ((_LEFT_ARM, c.free_arms), (_RIGHT_ARM, c.free_arms), (_LEGS, c.free_legs)):
            taken = self._chance(count, share)
            pose[:, limb] = torch.where(taken[:, None, None], free[:, limb], pose[:, limb])
        size = 0.2 * self._uniform(count, 1, 1) * self._chance(count, c.loosened)[:, None, None]
        pose = quat_mul(pose, quat_from_rotvec(size * self._normal(count, len(BONE_NAMES), 3)))
        # Leaning up to lying down: about a horizontal axis, then any heading.
        tilt = self._uniform(count, low=-1.8, high=1.8) * self._chance(count, c.tilted)
        axis = self._uniform(count, high=2 * np.pi)
        lean = torch.stack([tilt * torch.cos(axis), tilt * torch.sin(axis), 0 * tilt], dim=1)
        heading = torch.zeros(count, 3, device=self._device)
        heading[:, 2] = self._uniform(count, high=2 * np.pi)
        turn = quat_mul(quat_from_rotvec(heading), quat_from_rotvec(lean))
        pose[:, 0] = quat_mul(turn, pose[:, 0])
        return pose

    @torch.no_grad()
    def draw(self, count: int) -> TrainingViews:
        """Return a batch of views."""
        c = self._config
        shape = self._uniform(count, 5, low=0.05, high=0.95)
        state = self._body.forward(self.postures(count), torch.zeros(count, 3, device=self._device), shape)
        assert state.vertices is not None
        corner = state.vertices[:, self._corners]
        points = (self._shares[..., None] * corner).sum(dim=2)
        normal = torch.linalg.cross(corner[:, :, 1] - corner[:, :, 0], corner[:, :, 2] - corner[:, :, 0])
        normal = normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        cloth = c.cloth_m * self._uniform(count, len(BONE_NAMES)) * self._uniform(count, 1) ** 2
        points = points + normal * cloth[:, self._bone][..., None]
        floor = points[..., 2].amin(dim=1)
        distance = self._uniform(count, low=c.distance_m[0], high=c.distance_m[1])
        eye = torch.stack(
            [-distance, 0 * distance, floor + self._uniform(count, low=c.height_m[0], high=c.height_m[1])], 1
        )
        ray = points - eye[:, None]
        reach = ray.norm(dim=-1)
        azimuth = torch.atan2(ray[..., 1], ray[..., 0])
        elevation = torch.atan2(ray[..., 2], ray[..., :2].norm(dim=-1))
        middle = elevation.mean(dim=1, keepdim=True)
        cell = CELL_RAD_M / distance[:, None]
        column = torch.floor(azimuth / cell).long() + GRID // 2
        row = torch.floor((elevation - middle) / cell).long() + GRID // 2
        facing = (normal * ray).sum(-1) < 0
        facing &= (column >= 0) & (column < GRID) & (row >= 0) & (row < GRID)
        place = torch.where(facing, row * GRID + column, GRID * GRID)
        nearest = torch.full((count, GRID * GRID + 1), torch.inf, device=self._device)
        nearest = nearest.scatter_reduce(1, place, reach, "amin")
        seen = facing & (reach <= nearest.gather(1, place) + 0.03)
        seen &= self._sensor_keeps(seen, azimuth / cell, (elevation - middle) / cell, points[..., 2] - floor[:, None])
        points = points + ray / reach[..., None] * self._range_noise(reach)[..., None]
        points = points + 0.004 * self._uniform(count, 1, 1) * self._normal(*points.shape)
        points, seen = self._with_clutter(points, seen)
        # Few points: every sample stays with the same chance, from a fiftieth to all.
        keep = torch.exp(self._uniform(count, 1, low=float(np.log(0.02)), high=0.0))
        thinned = seen & (self._uniform(*seen.shape) < keep)
        usable = thinned.sum(dim=1) >= MIN_POINTS
        thinned = torch.where(usable[:, None], thinned, torch.ones_like(thinned))
        views = canonical_views(points, thinned, eye)
        joints = views.from_world(state.joint_pos[:, list(JOINT_INDEX)])
        return TrainingViews(views, joints, usable)

    def _range_noise(self, reach: torch.Tensor) -> torch.Tensor:
        c = self._config
        size = self._uniform(len(reach), 1, low=c.noise[0], high=c.noise[1])
        return size * reach**2 * self._normal(*reach.shape)

    def _sensor_keeps(
        self, seen: torch.Tensor, across: torch.Tensor, up: torch.Tensor, height: torch.Tensor
    ) -> torch.Tensor:
        """Return which samples the sensor gives (B, P); places are cells of 14 mm, heights are over the floor, m."""
        c, count = self._config, len(seen)
        # What lies on the floor is not told from the floor.
        keep = height > 0.1 * self._uniform(count, 1) * self._chance(count, 0.85)[:, None]
        low = torch.where(seen, up, torch.inf).amin(dim=1, keepdim=True)
        high = torch.where(seen, up, -torch.inf).amax(dim=1, keepdim=True)
        left = torch.where(seen, across, torch.inf).amin(dim=1, keepdim=True)
        right = torch.where(seen, across, -torch.inf).amax(dim=1, keepdim=True)
        x, y = (across - left) / (right - left).clamp_min(1.0), (up - low) / (high - low).clamp_min(1.0)
        # Something before the person: a box in the image, often one that stands on the floor.
        x0, y0 = self._uniform(count, 1, low=-0.2, high=1.0), self._uniform(count, 1, low=-0.6, high=0.8)
        width, tall = self._uniform(count, 1, low=0.1, high=1.0), self._uniform(count, 1, low=0.1, high=0.9)
        hidden = self._chance(count, c.hidden)[:, None]
        keep &= ~(hidden & (x > x0) & (x < x0 + width) & (y > y0) & (y < y0 + tall))
        # The image's border on one of its four sides.
        side = torch.randint(4, (count, 1), generator=self._random, device=self._device)
        cut = 0.45 * self._uniform(count, 1)
        along = torch.where(side < 2, x, y)
        along = torch.where(side % 2 == 1, 1 - along, along)
        keep &= ~(self._chance(count, c.cropped)[:, None] & (along < cut))
        # Small holes.
        for _ in range(3):
            hx, hy = self._uniform(count, 1), self._uniform(count, 1)
            size = 0.12 * self._uniform(count, 1) * self._chance(count, 0.4)[:, None]
            keep &= (x - hx).abs().maximum((y - hy).abs()) > size
        return keep

    def _with_clutter(self, points: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put some of the unseen samples into a small box beside the person, and show them."""
        count, number = len(points), points.shape[1] // 40
        shown = self._chance(count, self._config.cluttered)
        middle = points.mean(dim=1, keepdim=True) + self._uniform(count, 1, 3, low=-0.7, high=0.7)
        size = self._uniform(count, 1, 3, low=0.02, high=0.25)
        box = middle + size * self._uniform(count, number, 3, low=-0.5, high=0.5)
        points, seen = points.clone(), seen.clone()
        points[:, :number] = torch.where(shown[:, None, None], box, points[:, :number])
        seen[:, :number] |= shown[:, None]
        return points, seen
