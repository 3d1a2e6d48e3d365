"""Furniture as convex pieces (CoACD) where the robot comes near, with less detail the farther it stands."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import coacd
import numpy as np
from scipy.spatial import ConvexHull, cKDTree

from bodydouble.errors import InputError
from sim.stage.cells import cell_surface, connected
from sim.stage.furniture import Box, Furniture, FurnitureConfig, boxes_of
from sim.stage.treads import level_area, step_error, step_samples

STEP_ERROR_M = 0.015
"""Height error of steps beyond which a thing becomes boxes instead of convex pieces, m."""
_STEP_SHARE = 0.1
_STEP_M2 = 0.05
_BOX_FIT = 0.5
_LARGE_M = 1.5
_RESOLUTION = 1000
_ITERATIONS = 50


@dataclass(frozen=True)
class ConvexConfig:
    """How occupied cells become convex pieces."""

    near_m: float = 0.5
    """Up to this distance from the robot's path the detail is full, m."""
    concavity_near: float = 0.06
    """Concavity that a near piece may keep, as CoACD counts it."""
    concavity_far: float = 0.3
    """Concavity that a piece twice as far as `near_m` or farther may keep."""
    max_pieces: int = 24
    """Largest number of convex pieces of one connected thing."""
    max_vertices: int = 32
    """Largest number of vertices of a piece."""
    seed: int = 0
    """Seed of the decomposition."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.concavity_near <= self.concavity_far <= 1.0:
            raise InputError(
                f"convex pieces: concavity_near {self.concavity_near}, concavity_far {self.concavity_far}; "
                "expected 0.01 <= near <= far <= 1"
            )
        if not self.near_m > 0 or self.max_pieces < 1 or self.max_vertices < 8:
            raise InputError("convex pieces: near_m must be positive, max_pieces at least 1, max_vertices at least 8")


def convex_pieces(
    furniture: Furniture, path: np.ndarray, config: ConvexConfig, shape: FurnitureConfig
) -> tuple[list[np.ndarray], list[Box], dict[str, float]]:
    """Return convex pieces that cover furniture, and boxes for what pieces would not keep.

    Connected cells (26 neighbours) are one thing; its closed surface of cell faces is decomposed by CoACD (Wei et al.
    2022) with a concavity that grows with its distance from the path. Some things become boxes, whose flat faces
    stand where they were seen: steps and large things that few boxes fit, and things whose steps the pieces miss by
    more than 1.5 cm.

    Args:
        furniture: What stands on the floor.
        path: Places of the robot (P, 2) in the stage, m.
        config: Settings of the pieces.
        shape: Settings of the cells and boxes.

    Returns:
        Hull vertices (V, 3) of each piece in the stage, m; the boxes; and figures: convex_pieces, furniture_boxes.
    """
    pieces: list[np.ndarray] = []
    boxes: list[Box] = []
    label = connected(furniture.cells) if len(furniture.cells) else np.zeros(0, np.int32)
    place = path @ furniture.to_axes[:2, :2].T
    for thing in range(1, int(label.max(initial=0)) + 1):
        own = _only(furniture, furniture.cells[label == thing])
        large = float(np.ptp(own.cells, axis=0).max() + 1) * shape.cell_m > _LARGE_M
        fitted = boxes_of(own, shape, shape.wall_gain_m3 if large else None)[0]
        if _stays_boxes(own, fitted, large, shape.cell_m, config):
            boxes += fitted
            continue
        hulls = hulls_of(own.cells, shape.cell_m, _concavity(own, shape.cell_m, place, config), config)
        steps = step_samples(own.surface)
        level = step_error(steps, [], hulls)
        if level[0] > STEP_ERROR_M or level[1] > _STEP_SHARE:
            boxes += fitted
        else:
            pieces += [hull @ furniture.to_axes for hull in hulls]
    return pieces, boxes, {"convex_pieces": float(len(pieces)), "furniture_boxes": float(len(boxes))}


def _stays_boxes(thing: Furniture, boxes: list[Box], large: bool, cell_m: float, config: ConvexConfig) -> bool:
    """Return whether few boxes without much empty space fit a thing that is large, or level enough to step on."""
    full = sum(box.volume for box in boxes) < (1.0 + _BOX_FIT) * len(thing.cells) * cell_m**3
    if not full or len(boxes) > config.max_pieces:
        return False
    if large:
        return True
    steps = thing.surface.turned(thing.to_axes.T)
    return level_area(steps) >= _STEP_M2 and step_error(step_samples(steps), boxes, [])[0] <= STEP_ERROR_M


def hulls_of(cells: np.ndarray, cell_m: float, concavity: float, config: ConvexConfig) -> list[np.ndarray]:
    """Return the hull vertices (V, 3) of the convex pieces of one thing's cells (C, 3), along their axes, m."""
    vertices, faces = cell_surface(cells)
    coacd.set_log_level("error")
    found = coacd.run_coacd(
        coacd.Mesh(vertices * cell_m, faces),
        threshold=concavity,
        max_convex_hull=config.max_pieces,
        preprocess_resolution=40,
        resolution=_RESOLUTION,
        mcts_iterations=_ITERATIONS,
        max_ch_vertex=config.max_vertices,
        decimate=True,
        seed=config.seed,
    )
    return [points[ConvexHull(points).vertices] for points, _ in found]


def hull_volume(hull: np.ndarray) -> float:
    """Return the volume of a convex hull of vertices (V, 3), m^3."""
    return float(ConvexHull(hull).volume)


def _only(furniture: Furniture, cells: np.ndarray) -> Furniture:
    """Return the furniture with some of its cells (C, 3) and the samples in them."""
    every = np.concatenate([cells, furniture.sample_cell])
    low = every.min(axis=0)
    size = every.max(axis=0) - low + 1
    numbers = np.ravel_multi_index(tuple((furniture.sample_cell - low).T), tuple(size))
    inside = np.isin(numbers, np.ravel_multi_index(tuple((cells - low).T), tuple(size)))
    return dataclasses.replace(
        furniture,
        cells=cells,
        surface=furniture.surface.where(inside),
        sample_cell=furniture.sample_cell[inside],
    )


def _concavity(furniture: Furniture, cell_m: float, path: np.ndarray, config: ConvexConfig) -> float:
    distance = float(cKDTree(path).query((furniture.cells[:, :2] + 0.5) * cell_m)[0].min())
    share = float(np.clip(distance / config.near_m - 1.0, 0.0, 1.0))
    return config.concavity_near + share * (config.concavity_far - config.concavity_near)
