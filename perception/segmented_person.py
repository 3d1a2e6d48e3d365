"""A person whose depth images hold nothing else, seen by one camera that stands still -> the fitted body.

Depth cameras with a body tracker (Kinect and its kind) give each person's pixels alone: there is no scene to subtract
and no floor to see. Up is the camera's own, by its known pose or because it stands level; the floor is where the feet
are lowest over the clip.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import make_se3
from perception.clusters import largest_cluster
from perception.fit import FittedBody, fit_body
from perception.fit_config import FitConfig
from perception.joints.estimate import estimate_joints
from perception.joints.prior import JointPrior
from perception.person_tracks import spread
from perception.segment import PersonPoints
from perception.views import View, depth_margin, unproject


def level_camera(height_m: float = 0.0) -> np.ndarray:
    """Return T_world_camera (4, 4) of a camera that stands level at a height, m, and looks along world x."""
    # The camera's right is world -y, its down world -z, its forward world x.
    axes = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    return make_se3(axes, np.array([0.0, 0.0, height_m]))


@dataclass(frozen=True)
class SegmentedDepth:
    """One camera's depth images of one person and nothing else. T images of H x W pixels."""

    times_ns: np.ndarray
    """Times (T,), int64, ns, evenly spaced."""
    depth_mm: np.ndarray
    """Depth (T, H, W), uint16, mm; 0 where the person is not."""
    K: np.ndarray
    """Intrinsics (3, 3), pixels."""
    T_world_camera: np.ndarray = field(default_factory=level_camera)
    """The camera's pose (4, 4), world Z up; level where it is not known."""


@dataclass(frozen=True)
class SegmentedConfig:
    """How a segmented person is turned into points and fitted."""

    min_points: int = 150
    """Points below which an image shows nobody."""
    points_per_frame: int = 700
    """Points kept per image."""
    edge_m: float = 0.02
    """Difference to a neighbouring reading below which it is of the same surface, m; it grows with the noise."""
    neighbours: int = 4
    """Neighbours, of eight, on the same surface that a reading must have: others fly between near and far."""
    cell_m: float = 0.08
    """Cell in which points count as connected, m."""
    sole_share: float = 0.01
    """Share of an image's points that may lie below the floor: noise."""
    standing_share: float = 0.2
    """Share of the images, those with the lowest feet, that the floor is taken from: a jump does not lift it."""
    joint_pull: float = 100.0
    """Weight of the joint network's answers in the fit, 1/m^2; the points have about 400."""
    seed: int = 0
    """Seed of the choice of points."""
    fit: FitConfig = field(default_factory=lambda: FitConfig(shape=0.02))
    """The body; one camera and clothes tell little of its shape, so it stays nearer to the average."""


@dataclass(frozen=True)
class SegmentedFit:
    """The fitted person. T images."""

    person: PersonPoints
    """The points that the body was fitted to."""
    floor_z: float
    """Height of the floor, world, m."""
    body: FittedBody
    """The body at every image."""

    @property
    def shown(self) -> np.ndarray:
        """Whether each image shows the person (T,), bool."""
        return self.person.count > 0


def fit_segmented(depth: SegmentedDepth, config: SegmentedConfig | None = None) -> SegmentedFit:
    """Fit the body to a segmented depth clip.

    Args:
        depth: The clip.
        config: Settings.

    Raises:
        InputError: Shapes do not belong together, or fewer than ten images show the person.
    """
    config = config or SegmentedConfig()
    person = segmented_points(depth, config)
    if not (person.count > 0).any():
        raise InputError(f"no image has {config.min_points} points of a person; is the depth in millimetres?")
    floor_z = lowest_feet(person, config)
    count = len(depth.times_ns)
    view = View(
        name="camera",
        K=depth.K,
        times_ns=depth.times_ns,
        T_world_camera=np.broadcast_to(depth.T_world_camera, (count, 4, 4)),
        depth_mm=depth.depth_mm,
        color=[None] * count,
    )
    prior = JointPrior(estimate_joints(person, np.arange(count)), config.joint_pull)
    return SegmentedFit(person, floor_z, fit_body(person, floor_z, config.fit, views=[view], terms=[prior]))


def segmented_points(depth: SegmentedDepth, config: SegmentedConfig) -> PersonPoints:
    """Return the person's points in every image; an image with too few has none.

    Args:
        depth: The clip.
        config: Settings.

    Raises:
        InputError: Shapes do not belong together.
    """
    images = depth.depth_mm
    if images.ndim != 3 or len(images) != len(depth.times_ns) or images.dtype != np.uint16:
        raise InputError(
            f"depth images have shape {images.shape} and type {images.dtype}, expected"
            f" ({len(depth.times_ns)}, H, W) and uint16 millimetres, one for each time"
        )
    T = depth.T_world_camera
    rng = np.random.default_rng(config.seed)
    size = (len(images), config.points_per_frame, 3)
    points, count = np.zeros(size), np.zeros(len(images), dtype=np.int64)
    for index, image in enumerate(images):
        local, _ = unproject(without_flying(image / 1000.0, config.edge_m, config.neighbours), depth.K)
        found = largest_cluster(local @ T[:3, :3].T + T[:3, 3], config.cell_m)
        if len(found) < config.min_points:
            continue
        count[index] = len(found)
        points[index] = found[spread(found, config.points_per_frame, rng)]
    origin = np.broadcast_to(T[:3, 3], size).copy()
    return PersonPoints(depth.times_ns, points, origin, count, (count > 0).astype(np.int64))


def without_flying(depth_m: np.ndarray, edge_m: float, neighbours: int) -> np.ndarray:
    """Return a depth image (H, W), m, without readings that fly between a near and a far surface.

    Args:
        depth_m: Depth (H, W), m; 0 is no reading.
        edge_m: Difference below which two readings are of one surface, m, at no distance.
        neighbours: Neighbours, of eight, that must be of the reading's surface.
    """
    padded = np.pad(depth_m, 1)
    margin = depth_margin(depth_m, edge_m)
    height, width = depth_m.shape
    same = np.zeros(depth_m.shape, dtype=np.int64)
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        beside = padded[row : row + height, column : column + width]
        same += (beside > 0) & (np.abs(beside - depth_m) < margin)
    return np.where((depth_m > 0) & (same >= neighbours), depth_m, 0.0)


def lowest_feet(person: PersonPoints, config: SegmentedConfig) -> float:
    """Return the height of the floor, m: where the feet are in the images with the lowest feet."""
    feet = np.quantile(person.points[person.count > 0][..., 2], config.sole_share, axis=1)
    return float(np.quantile(feet, config.standing_share))
