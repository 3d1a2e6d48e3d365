"""Clusters of foreground points, followed from time to time in the world: one track for each thing that is not scene.

A cell of space belongs to the track whose cells, moved on as the track moves, were nearest a moment ago. So two people
who touch, or a person and the chair that is pushed, stay two tracks although their points are one cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from perception.clusters import Cells, connected_cells, standing_together

HELD_S = 0.5
"""How long a track that is not seen is still followed, s."""
SPEED_M_S = 3.0
"""Largest speed of a person, m/s."""
SLACK_M = 0.2
"""Distance from a track's cells within which a cell may be the track's, beside the speed, m."""
BESIDE_M = 0.6
"""Distance on the floor within which a new cluster is taken for a part of a track, m."""
MINOR_SHARE = 0.1
"""Share of a cluster below which a track's claim to its cells is taken for blur at the border."""


@dataclass(frozen=True)
class Sighting:
    """A track at one time. N points."""

    points: np.ndarray
    """Points (N, 3), world, m, thinned out."""
    camera: np.ndarray
    """Camera that saw each point (N,)."""
    count: int
    """Points before thinning."""
    views: int
    """Cameras that saw it."""
    middle: np.ndarray
    """Mean of the points (3,), m."""
    length_m: float
    """Extent along its longest axis, m."""
    thickness_m: float
    """Root mean square distance from the best plane, m."""


@dataclass
class Track:
    """One thing that is not scene, over time."""

    sightings: dict[int, Sighting] = field(default_factory=dict)
    """What was seen, by number of the time step."""
    cells: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    """Middles of its cells when last seen (C, 3), m."""

    @property
    def total(self) -> int:
        """Points at all times together."""
        return sum(sighting.count for sighting in self.sightings.values())

    @property
    def steps(self) -> np.ndarray:
        """Numbers of the time steps in which it was seen, ascending."""
        return np.fromiter(self.sightings, dtype=np.int64)

    def typical(self, name: str, share: float = 0.5) -> float:
        """Return a quantile over time of a number of the sightings."""
        return float(np.quantile([getattr(sighting, name) for sighting in self.sightings.values()], share))

    def velocity(self, fps: float) -> np.ndarray:
        """Return the velocity (3,) over the last fifth of a second, m/s."""
        last = list(self.sightings.items())[-max(2, round(0.2 * fps)) :]
        if len(last) < 2:
            return np.zeros(3)
        (start, first), (end, second) = last[0], last[-1]
        velocity = (second.middle - first.middle) * fps / (end - start)
        return velocity * min(1.0, SPEED_M_S / max(float(np.linalg.norm(velocity)), 1e-9))


class Tracker:
    """Follows clusters; `add` is called once for each time step, in order.

    Args:
        fps: Time steps per second.
        cell_m: Cell in which points count as connected, m.
        min_points: Points below which there is nothing, all cameras together; one camera needs half of it.
        kept_points: Points that are kept of a track at one time.
        seed: Seed of the choice of these.
    """

    def __init__(self, fps: float, cell_m: float, min_points: int, kept_points: int, seed: int):
        self.tracks: list[Track] = []
        self._fps, self._cell, self._least, self._kept, self._seed = fps, cell_m, min_points, kept_points, seed

    def add(self, step: int, points: Sequence[np.ndarray], cameras: Sequence[int]) -> None:
        """Add what the cameras saw at a time step.

        Args:
            step: Number of the time step.
            points: Points before the scene, for each camera that has a frame (N, 3), world, m.
            cameras: Numbers of these cameras.
        """
        if not points:
            return
        everything = np.concatenate(points).astype(np.float64)
        camera = np.repeat(np.array(cameras), [len(p) for p in points])
        cells = connected_cells(everything, self._cell)
        if not len(cells.centres):
            return
        clustered = cells.owner >= 0
        everything, camera, cell = everything[clustered], camera[clustered], cells.owner[clustered]
        owners = self._owners(cells, step)
        owner = owners[cell]
        for track in np.unique(owners[owners >= 0]):
            mine = np.flatnonzero(owner == track)
            mine = mine[standing_together(everything[mine], cells.cluster[cell[mine]])]
            own = np.bincount(cell[mine], minlength=len(cells.centres)) > 0
            self._see(self.tracks[track], step, everything[mine], camera[mine], cells.centres[own])

    def _owners(self, cells: Cells, step: int) -> np.ndarray:
        """Return the track of each cell (C,), -1 for specks; clusters that no track explains start one."""
        clusters = int(cells.cluster.max()) + 1
        owners = np.full(len(cells.centres), -1)
        alive = [
            (number, track)
            for number, track in enumerate(self.tracks)
            if track.sightings and (step - next(reversed(track.sightings))) <= max(1, HELD_S * self._fps)
        ]
        if alive:
            gap = np.array([(step - next(reversed(track.sightings))) / self._fps for _, track in alive])
            moved = [track.cells + track.velocity(self._fps) * s for (_, track), s in zip(alive, gap, strict=True)]
            source = np.repeat(np.arange(len(alive)), [len(places) for places in moved])
            distance, nearest = cKDTree(np.concatenate(moved)).query(cells.centres)
            claim = source[nearest]
            close = distance <= SLACK_M + SPEED_M_S * gap[claim]
            votes = np.zeros((clusters, len(alive)))
            np.add.at(votes, (cells.cluster[close], claim[close]), cells.counts[close])
            _drop_minor_claims(votes)
            numbers = np.array([number for number, _ in alive])
            for cluster in np.flatnonzero(votes.any(axis=1)):
                inside, claimants = cells.cluster == cluster, np.flatnonzero(votes[cluster])
                if len(claimants) > 1:
                    places = np.concatenate([moved[i] for i in claimants])
                    among = np.repeat(claimants, [len(moved[i]) for i in claimants])
                    owners[inside] = numbers[among[cKDTree(places).query(cells.centres[inside])[1]]]
                else:
                    owners[inside] = numbers[claimants[0]]
        self._start_tracks(cells, owners)
        return owners

    def _start_tracks(self, cells: Cells, owners: np.ndarray) -> None:
        """Give clusters without a track, the largest first, to a track that stands there, or to a new one."""
        weights = np.bincount(cells.cluster, cells.counts)
        middles = np.stack([np.bincount(cells.cluster, cells.counts * axis) for axis in cells.centres.T], axis=1)
        middles /= weights[:, None]
        standing = {
            int(track): np.average(cells.centres[owners == track], axis=0, weights=cells.counts[owners == track])
            for track in np.unique(owners[owners >= 0])
        }
        owned = np.zeros(len(weights), dtype=bool)
        owned[cells.cluster[owners >= 0]] = True
        for cluster in np.argsort(-weights, kind="stable"):
            if owned[cluster]:
                continue
            away = {track: np.linalg.norm((place - middles[cluster])[:2]) for track, place in standing.items()}
            nearest = min(away, key=away.__getitem__, default=-1)
            if nearest < 0 or away[nearest] >= BESIDE_M:
                if weights[cluster] < self._least:
                    continue  # a speck
                nearest = len(self.tracks)
                self.tracks.append(Track())
                standing[nearest] = middles[cluster]
            owners[cells.cluster == cluster] = nearest

    def _see(self, track: Track, step: int, points: np.ndarray, camera: np.ndarray, cells: np.ndarray) -> None:
        """Add a sighting to a track where enough of it is seen, and thin its points out."""
        sizes = np.bincount(camera)
        enough = np.flatnonzero(sizes >= self._least // 2)
        kept = np.isin(camera, enough)
        if kept.sum() < self._least:
            return
        points, camera = points[kept], camera[kept]
        middle = points.mean(axis=0)
        variance, axes = np.linalg.eigh(np.cov((points - middle).T))
        low, high = np.quantile((points - middle) @ axes[:, 2], (0.02, 0.98))
        pick = spread(points, self._kept, np.random.default_rng([self._seed, step]))
        track.cells = cells
        track.sightings[step] = Sighting(
            points[pick].astype(np.float32),
            camera[pick],
            len(points),
            len(enough),
            middle,
            float(high - low),
            float(np.sqrt(max(variance[0], 0.0))),
        )


def spread(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return indices of points, evenly over space: one per 3 cm cell, then a second one of each, and so on."""
    cells = np.floor(points / 0.03).astype(np.int64)
    cells -= cells.min(axis=0)
    order = rng.permutation(len(points))
    cell = np.asarray(np.ravel_multi_index(tuple(cells[order].T), tuple(cells.max(axis=0) + 1)))
    by_cell = np.argsort(cell, kind="stable")
    begins = np.flatnonzero(np.diff(cell[by_cell], prepend=-1))
    rank = np.empty(len(points), dtype=np.int64)
    rank[by_cell] = np.arange(len(points)) - np.repeat(begins, np.diff(begins, append=len(points)))
    return np.resize(order[np.argsort(rank, kind="stable")], count)


def _drop_minor_claims(votes: np.ndarray) -> None:
    """Set votes (K, A) of tracks to 0 that get little of a cluster and more of another."""
    share = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-9)
    votes[(share < MINOR_SHARE) & (votes < votes.max(axis=0))] = 0
