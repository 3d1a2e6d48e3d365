"""Two cameras: their clocks' offset and their relative pose, from the person's motion and from the static scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bodydouble.frames import make_se3, se3_apply, se3_inverse
from perception.multiview.agreement import Agreement, agreement
from perception.multiview.clock import ClockConfig, clock_candidates, determined, refine_clock
from perception.multiview.paths import JointPath, at_times
from perception.multiview.refine import Link, RefineConfig, refine_poses
from perception.multiview.scene_search import scene_candidates
from perception.multiview.sketch import Sketch
from perception.multiview.yaw import yaw_alignment, yaw_matrix


@dataclass(frozen=True)
class PairConfig:
    """How two cameras are brought together."""

    clock: ClockConfig = field(default_factory=ClockConfig)
    """The time offset."""
    refine: RefineConfig = field(default_factory=RefineConfig)
    """The last refinement."""
    coarse: RefineConfig = field(default_factory=lambda: RefineConfig(points=1500, reach_m=(0.5, 0.3, 0.2, 0.15)))
    """The refinement of each guess before it is judged."""
    scene_guesses: int = 16
    """Guesses of the relative pose from the static scenes."""
    refined_guesses: int = 6
    """Guesses, the most promising ones, that are refined."""
    min_score: float = 0.15
    """Score below which two cameras share nothing."""
    min_margin: float = 0.1
    """Score by which the best pose must beat any other."""


@dataclass(frozen=True)
class Pair:
    """What is known of two cameras."""

    T_a_b: np.ndarray
    """Takes the second camera's world to the first's (4, 4)."""
    offset_s: float
    """Second camera's stamp minus the first's at the same moment, s; 0 where the motion does not tell."""
    timed: bool
    """Whether the motion tells the offset."""
    agreement: Agreement
    """How well the two fit together."""
    margin: float
    """Score over the next best pose that is another one."""
    clock_gain: float
    """Log likelihood of the offset over no relation; 0 where no common motion was seen."""
    clock_margin: float
    """Log likelihood of the offset over the next best one."""
    spread_m: float
    """Distance to other poses nearby that fit as well, m."""

    @property
    def together(self) -> bool:
        """Whether both cameras see the person at one place at the same moment, as far as the clocks are known."""
        return self.agreement.person > 0.5

    def linked(self, config: PairConfig) -> bool:
        """Return whether the two cameras share enough, and no other pose fits as well, to be put into one world."""
        return self.agreement.score >= config.min_score and self.margin >= config.min_margin


def place_pair(
    a: Sketch, b: Sketch, config: PairConfig, *, keep_clocks: bool = False, known: np.ndarray | None = None
) -> Pair:
    """Return the relation of two cameras.

    Guesses of the relative pose come from the person's path, for each possible offset of the clocks, and from the
    scenes. Each is refined a little and judged by surfaces that coincide, free space and the person's place.

    Args:
        a: First sketch.
        b: Second sketch.
        config: Settings.
        keep_clocks: Whether the recorded stamps are right.
        known: T_a_b (4, 4) where it is known already.
    """
    timing = _Timing(0.0, keep_clocks, 0.0, 0.0)
    if known is not None:
        timing = timing if keep_clocks else _timing(a.path, b.path, config.clock, known)
        return _pair(a, b, known, timing, 1.0, 0.0)
    guesses = scene_candidates(a, b, config.scene_guesses)
    if not keep_clocks:
        choice = _choose(a, b, guesses, timing, config, by_scene=True)
        if choice.score >= config.min_score and choice.margin >= config.min_margin:
            # The scenes alone tell where the cameras are. Then the place of a path tells the time too: somebody who
            # turns on the spot is the same at any time, up to a yaw that is known now.
            timing = _timing(a.path, b.path, config.clock, choice.T_a_b)
            T = _refined(a, b, choice.T_a_b, timing, config.refine)
            return _pair(a, b, T, timing, choice.margin, choice.spread_m)
        timing = _timing(a.path, b.path, config.clock, None)
    guess = person_guess(a.path, b.path, timing.offset_s, config.clock.width_s)
    guesses = guesses if guess is None else [guess, *guesses]
    choice = _choose(a, b, guesses, timing, config, by_scene=False)
    T = _refined(a, b, choice.T_a_b, timing, config.refine)
    return _pair(a, b, T, timing, choice.margin, choice.spread_m)


@dataclass(frozen=True)
class _Choice:
    """The best of several guesses."""

    T_a_b: np.ndarray
    score: float
    margin: float
    spread_m: float


def _choose(
    a: Sketch, b: Sketch, guesses: Sequence[np.ndarray], timing: _Timing, config: PairConfig, *, by_scene: bool
) -> _Choice:
    """Return the best guess, refined a little, judged by the scenes alone or by the person too."""
    promise = [agreement(a, b, T, timing.offset_s).promise for T in guesses]
    judged: list[tuple[float, float, np.ndarray]] = []
    for place in np.argsort(promise)[::-1][: config.refined_guesses]:
        T = _refined(a, b, guesses[place], timing, config.coarse)
        fit = agreement(a, b, T, timing.offset_s)
        judged.append((fit.scene if by_scene else fit.score, fit.agree, T))
    # Of poses that are contradicted equally little, the one with more surfaces that coincide.
    judged.sort(key=lambda one: (-round(one[0], 2), -one[1]))
    best, _, T_best = judged[0]
    margin = best - max((score for score, _, T in judged[1:] if _apart(T, T_best, b)), default=0.0)
    near = [T for score, _, T in judged[1:] if score > best - config.min_margin and not _apart(T, T_best, b)]
    return _Choice(T_best, best, margin, max((_shift(T, T_best, b) for T in near), default=0.0))


@dataclass(frozen=True)
class _Timing:
    """What is known of two clocks."""

    offset_s: float
    known: bool
    gain: float
    margin: float


def _timing(a: JointPath | None, b: JointPath | None, config: ClockConfig, T_a_b: np.ndarray | None) -> _Timing:
    """Return the offset where the motion tells it, else the recorded stamps'."""
    if a is None or b is None:
        return _Timing(0.0, False, 0.0, 0.0)
    placed = T_a_b is not None
    b = b.transformed(T_a_b) if T_a_b is not None else b
    found = clock_candidates(a, b, config, placed=placed)
    if not found:
        return _Timing(0.0, False, 0.0, 0.0)
    margin = found[0].gain - (found[1].gain if len(found) > 1 else 0.0)
    if not determined(found, config):
        return _Timing(0.0, False, found[0].gain, margin)
    offset, _ = refine_clock(a, b, found[0].offset_s, found[0].yaw, config, fix_yaw=placed)
    return _Timing(offset, True, found[0].gain, margin)


def _refined(a: Sketch, b: Sketch, T_a_b: np.ndarray, timing: _Timing, config: RefineConfig) -> np.ndarray:
    # A person whom the two do not see at one place would pull the cameras apart.
    together = timing.known or agreement(a, b, T_a_b, timing.offset_s).person > 0.5
    link = Link(0, 1, timing.offset_s if together else None)
    return refine_poses([a, b], [np.eye(4), T_a_b], [link], [0], config)[0][1]


def _pair(a: Sketch, b: Sketch, T_a_b: np.ndarray, timing: _Timing, margin: float, spread_m: float) -> Pair:
    fit = agreement(a, b, T_a_b, timing.offset_s)
    return Pair(T_a_b, timing.offset_s, timing.known, fit, margin, timing.gain, timing.margin, spread_m)


def person_guess(a: JointPath | None, b: JointPath | None, offset_s: float, width_s: float) -> np.ndarray | None:
    """Return T_a_b (4, 4), upright, that brings the joints of both together; None where they were not seen together."""
    if a is None or b is None:
        return None
    seen = at_times(a, b.times_s - offset_s, width_s)
    both = np.isfinite(seen).all(axis=-1)
    if np.asarray(both.any(axis=-1)).sum() < 5:
        return None
    weight = np.ones(int(both.sum()))
    source, target = b.joints[both], seen[both]
    for _ in range(6):
        _, yaw, shift = yaw_alignment(source, target, weight)
        apart = np.linalg.norm(source @ yaw_matrix(yaw).T + shift - target, axis=1)
        weight = 1.0 / (1.0 + (apart / 0.1) ** 2)
    return make_se3(yaw_matrix(yaw), shift)


def refined_offset(a: Sketch, b: Sketch, T_a_b: np.ndarray, offset_s: float, config: PairConfig) -> float:
    """Return the clocks' offset in s again, now that the relative pose is known."""
    if a.path is None or b.path is None:
        return offset_s
    return refine_clock(a.path, b.path.transformed(T_a_b), offset_s, 0.0, config.clock, fix_yaw=True)[0]


def _apart(T: np.ndarray, other: np.ndarray, b: Sketch) -> bool:
    """Return whether two poses put the scene b at different places."""
    moved = (T @ se3_inverse(other))[:3, :3]
    turn = np.arccos(np.clip((np.trace(moved) - 1) / 2, -1, 1))
    return bool(turn > np.deg2rad(10) or _shift(T, other, b) > 0.3)


def _shift(T: np.ndarray, other: np.ndarray, b: Sketch) -> float:
    """Return how far apart two poses put the middle of scene b, m."""
    middle = b.points.mean(axis=0)[None]
    return float(np.linalg.norm(se3_apply(T, middle) - se3_apply(other, middle)))


def spanning_tree(count: int, weights: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Return the edges of a forest that has the greatest weight (Kruskal 1956)."""
    part = list(range(count))
    edges = []
    for (a, b), _ in sorted(weights.items(), key=lambda item: -item[1]):
        if part[a] != part[b]:
            old, new = part[b], part[a]
            part = [new if one == old else one for one in part]
            edges.append((a, b))
    return edges


def reached(start: Sequence[int], edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the nodes that edges connect with the start, the start first."""
    found = list(start)
    for node in found:
        for a, b in edges:
            other = b if a == node else a if b == node else None
            if other is not None and other not in found:
                found.append(other)
    return found
