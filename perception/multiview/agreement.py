"""Agreement of two sketches under a guessed relative pose: surfaces that coincide, free space that is respected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bodydouble.frames import se3_apply
from perception.free_space import sightings
from perception.multiview.paths import at_times
from perception.multiview.sketch import Sketch

FLOOR_M = 0.12
"""Surfaces below this height agree wherever a camera is put, and are not counted, m."""
MARGIN_M = 0.08
"""Depth difference from which on a reading says that a place is free, m."""
POINTS = 4000
"""Points of each scene that are tried."""
NEAR_M = 0.3
"""Distance up to which two cameras see the same joint, m."""


ENOUGH = 0.25
"""Share of a scene that agrees above which more is no further evidence: a large wall fits to any other."""
CONFLICT_WEIGHT = 10.0
"""How much a share of contradicted points costs: walls agree by chance, free space hardly does."""


@dataclass(frozen=True)
class Agreement:
    """How well two sketches fit together."""

    agree: float
    """Share of the smaller scene's points, the floor left out, that the other camera sees as a surface too."""
    conflict: float
    """Share that the other camera sees through."""
    person: float
    """Share of the common moments in which both see the person at one place; 0 where there are none."""
    person_s: float
    """Time that both see the person, s."""

    @property
    def score(self) -> float:
        """One number: surfaces that coincide, less the share of what both see that is contradicted, and the person."""
        return self.scene + 0.5 * self.person

    @property
    def scene(self) -> float:
        """The score without the person."""
        contradicted = self.conflict / max(self.agree + self.conflict, 1e-9)
        return min(self.agree, ENOUGH) / (2 * ENOUGH) - CONFLICT_WEIGHT * contradicted

    @property
    def promise(self) -> float:
        """The same before a guess is refined: it may be off by a cell, and is contradicted the more for it."""
        return min(self.agree, ENOUGH) / (2 * ENOUGH) - 2.0 * self.conflict + 0.5 * self.person


def agreement(a: Sketch, b: Sketch, T_a_b: np.ndarray, offset_s: float, *, width_s: float = 0.08) -> Agreement:
    """Return how well b fits to a.

    Args:
        a: First sketch.
        b: Second sketch.
        T_a_b: Takes b's world to a's (4, 4).
        offset_s: b's stamp minus a's at the same moment, s.
        width_s: Width of the bell curve that smooths the person's path, s.
    """
    inverse = np.linalg.inv(T_a_b)
    ones = [_votes(a, b, inverse), _votes(b, a, T_a_b)]
    agree, conflict, total = (np.array(column, dtype=float) for column in zip(*ones, strict=True))
    share, seconds = 0.0, 0.0
    if a.path is not None and b.path is not None:
        moved = b.path.transformed(T_a_b)
        # The median joint's distance: a limb that one side cannot see does not count.
        apart = np.linalg.norm(at_times(a.path, moved.times_s - offset_s, width_s) - moved.joints, axis=-1)
        both = np.isfinite(apart).all(axis=1)
        seconds = float(both.sum() * np.median(np.diff(moved.times_s)))
        share = float((np.median(apart[both], axis=1) < NEAR_M).mean()) if both.any() else 0.0
    smaller = max(float(total.min()), 1.0)
    return Agreement(float(agree.mean()) / smaller, float(conflict.mean()) / smaller, share, seconds)


def _votes(of: Sketch, by: Sketch, T_by_of: np.ndarray) -> tuple[float, float, int]:
    """Return how many points of one scene the other camera sees as surfaces, how many it sees through, and of how many.

    The floor is left out. A surface that turns its back on the other camera is not the one that this sees: two rooms on
    both sides of one wall do not agree.
    """
    high = np.flatnonzero(of.points[:, 2] > FLOOR_M)
    step = max(1, len(high) // POINTS)
    chosen = high[::step]
    points, normals = se3_apply(T_by_of, of.points[chosen]), of.normals[chosen] @ T_by_of[:3, :3].T
    eye = np.mean([frame.T_world_camera[:3, 3] for frame in by.frames], axis=0)
    facing = ((eye - points) * normals).sum(axis=1) > 0
    free, seen = sightings(points, by.frames, MARGIN_M, 5.0, quiet=True)
    share = free / np.maximum(seen, 1)
    # A point that is seen as both lies at an edge or on what moves.
    agree, conflict = (seen > 0) & (share < 0.3) & facing, (seen > 0) & (share > 0.7)
    return float(agree.sum()) * step, float(conflict.sum()) * step, len(high)
