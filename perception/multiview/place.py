"""Placement: one, two or more cameras into one upright world and onto one clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import se3_inverse
from perception.multiview.pair import Pair, PairConfig, place_pair, reached, refined_offset, spanning_tree
from perception.multiview.refine import Link, refine_poses
from perception.multiview.sketch import Sketch, SketchConfig, sketch_view
from perception.spool import FrameSpool
from perception.views import View

LOOSE_M = 0.05
"""Uncertainty of a camera's place from which on it is told, m."""
CLOCK_TOLD_S = 0.01
"""Standard deviation of an offset up to which the fitted body tells it, s."""


@dataclass(frozen=True)
class PlaceConfig:
    """How cameras are brought into one world and onto one clock."""

    synchronise: Literal["auto", "always", "never"] = "auto"
    """Whether the clocks' offsets are looked for: auto does so where a camera has no recorded poses."""
    sketch: SketchConfig = field(default_factory=SketchConfig)
    """The coarse picture of each camera."""
    pair: PairConfig = field(default_factory=PairConfig)
    """The relation of two cameras."""


@dataclass(frozen=True)
class LooseClocks:
    """Two cameras whose views of the person's path do not tell how their clocks lie."""

    first: str
    """Name of the first camera."""
    second: str
    """Name of the second camera."""
    why: str
    """What is missing."""


@dataclass(frozen=True)
class PlacedViews:
    """Cameras in one world, Z up, and on the first one's clock."""

    views: tuple[View, ...]
    """The cameras that could be placed; their times are on the common clock."""
    clock_offset_ns: dict[str, int]
    """Recorded stamp minus common time of each camera, ns; 0 for the first."""
    warnings: tuple[str, ...]
    """What the user should know."""
    figures: dict[str, float]
    """How sure offsets and poses are: gains, margins and scores, the least of all pairs that were used."""
    loose_clocks: tuple[LooseClocks, ...] = ()
    """Cameras whose clocks the person's path leaves open; see `clock_warnings`."""
    clock_deviation_s: dict[str, float] = field(default_factory=dict)
    """Standard deviation of each clock's offset from the first one's, s, where a fitted body confirms it."""


def place_views(
    views: Sequence[View], config: PlaceConfig | None = None, *, common: Collection[str] = ()
) -> PlacedViews:
    """Bring cameras into one world and onto one clock.

    The world is that of the cameras in `common`; without any it is the first camera's. Cameras that share nothing with
    the others are left out, with a warning; the part with the most frames is kept.

    Args:
        views: The cameras, each with poses in an upright world (Z up, floor at z = 0). Frames without a pose are left
            out.
        config: Settings.
        common: Names of the cameras whose poses are in one world already, as recorded; these stay as they are.

    Raises:
        InputError: No frame of any camera has a pose, or there is no colour or no surface to build a scene from.
    """
    config = config or PlaceConfig()
    warnings: list[str] = []
    views = with_poses_only(views, warnings)
    fixed = [index for index, view in enumerate(views) if view.name in common]
    if len(views) == 1 or (len(fixed) == len(views) and config.synchronise != "always"):
        return PlacedViews(tuple(views), {view.name: 0 for view in views}, tuple(warnings), {})
    views, sketches = _sketched(views, config, warnings)
    fixed = [index for index, view in enumerate(views) if view.name in common]
    found = relate(sketches, config, fixed)
    placed, clock = [], {}
    for index in found.kept:
        view, offset_ns = views[index], round((found.offsets_s[index] - found.offsets_s[found.kept[0]]) * 1e9)
        clock[view.name] = offset_ns
        poses = found.T_world_view[index] @ view.T_world_camera
        placed.append(dataclasses.replace(view, T_world_camera=poses, times_ns=view.times_ns - offset_ns))
    return PlacedViews(tuple(placed), clock, (*warnings, *found.warnings), found.figures, found.loose_clocks)


def clock_warnings(placed: PlacedViews) -> list[str]:
    """Return what to say of the clocks that the person's path leaves open, once the body was fitted."""
    told = []
    for loose in placed.loose_clocks:
        names = f"cameras {loose.first} and {loose.second}"
        offset_ms = 1e-6 * (placed.clock_offset_ns[loose.second] - placed.clock_offset_ns[loose.first])
        first, second = (placed.clock_deviation_s.get(name, np.inf) for name in (loose.first, loose.second))
        deviation_s = float(np.hypot(first, second))
        if deviation_s <= CLOCK_TOLD_S:
            told.append(
                f"{names}: {loose.why}; the fitted body does, near the recorded stamps: the offset of their clocks is "
                f"{offset_ms:.0f} ms, with a standard deviation of {1000 * deviation_s:.1f} ms"
            )
        elif offset_ms:
            told.append(
                f"{names}: the offset of their clocks is uncertain, {loose.why}; it is set to {offset_ms:.0f} ms, "
                "which the fitted body suggests but does not confirm"
            )
        else:
            told.append(f"{names}: the offset of their clocks is unknown, {loose.why}; the recorded stamps are used")
    return told


def confirmed(placed: PlacedViews, deviation_s: np.ndarray) -> PlacedViews:
    """Return the cameras with how sure a fitted body is of each clock (C,), s, a deviation; NaN is not at all."""
    told = zip((view.name for view in placed.views), [0.0, *deviation_s[1:]], strict=True)
    return dataclasses.replace(placed, clock_deviation_s={name: float(s) for name, s in told if np.isfinite(s)})


def retimed(placed: PlacedViews, ahead_s: np.ndarray) -> PlacedViews:
    """Return the cameras with what each clock was found to be ahead by (C,), s, taken off its times.

    Nothing confirms the offsets then.
    """
    views, offsets = [], dict(placed.clock_offset_ns)
    for view, seconds in zip(placed.views, ahead_s, strict=True):
        change_ns = round(1e9 * float(seconds))
        views.append(dataclasses.replace(view, times_ns=view.times_ns - change_ns))
        offsets[view.name] += change_ns
    return dataclasses.replace(placed, views=tuple(views), clock_offset_ns=offsets, clock_deviation_s={})


@dataclass(frozen=True)
class Relation:
    """How cameras are related. V cameras."""

    kept: tuple[int, ...]
    """Cameras that could be placed, in ascending order."""
    T_world_view: tuple[np.ndarray, ...]
    """Takes each camera's own world to the common one (4, 4); without meaning for cameras that are not kept."""
    offsets_s: np.ndarray
    """Each camera's stamp minus that of the first kept one at the same moment (V,), s."""
    warnings: tuple[str, ...]
    """What the user should know."""
    figures: dict[str, float]
    """How sure offsets and poses are."""
    loose_clocks: tuple[LooseClocks, ...] = ()
    """Cameras whose clocks the person's path leaves open: their recorded stamps are used."""


def relate(sketches: Sequence[Sketch], config: PlaceConfig, fixed: Sequence[int] = ()) -> Relation:
    """Return how cameras are related, from their sketches.

    Args:
        sketches: Two sketches or more.
        config: Settings.
        fixed: Cameras whose worlds are one already.
    """
    warnings: list[str] = []
    _tell_of_persons(sketches, warnings)
    pairs: dict[tuple[int, int], Pair] = {}
    for a, b in combinations(range(len(sketches)), 2):
        same = a in fixed and b in fixed
        keep_clocks = config.synchronise == "never" or (same and config.synchronise == "auto")
        known = np.eye(4) if same else None
        pairs[a, b] = place_pair(sketches[a], sketches[b], config.pair, keep_clocks=keep_clocks, known=known)
    kept, edges = _largest_part(sketches, pairs, fixed, config, warnings)
    pairs = {edge: pair for edge, pair in pairs.items() if edge[0] in kept and edge[1] in kept}
    poses = _chained(len(sketches), kept, pairs, edges, fixed)
    offsets = _offsets(len(sketches), kept, pairs, edges)
    links = [
        Link(a, b, float(offsets[b] - offsets[a]) if pair.together else None)
        for (a, b), pair in pairs.items()
        if pair.linked(config.pair)
    ]
    still = [index for index in range(len(sketches)) if index in fixed or index not in kept]
    still = still if any(index in fixed for index in kept) else [*still, kept[0]]
    poses, loose = refine_poses(sketches, poses, links, still, config.pair.refine)
    offsets = _final_offsets(sketches, poses, offsets, pairs, edges, kept, config)
    for index in kept:
        spread = max((pairs[edge].spread_m for edge in edges if index == max(edge)), default=0.0)
        if max(loose[index], spread) > LOOSE_M:
            warnings.append(
                f"camera {sketches[index].name}: what it shares with the others leaves its place open by "
                f"{100 * max(loose[index], spread):.0f} cm; record more of the room, or a walk that all see"
            )
    figures = _figures([pairs[edge] for edge in edges], config)
    loose_clocks = tuple(_loose_clocks(sketches, pairs, edges))
    return Relation(tuple(kept), tuple(poses), offsets, tuple(warnings), figures, loose_clocks)


def _sketched(views: Sequence[View], config: PlaceConfig, warnings: list[str]) -> tuple[list[View], list[Sketch]]:
    """Return the views that a sketch can be made of, and the sketches."""
    origin = min(int(view.times_ns[0]) for view in views)
    kept, sketches, faults = [], [], []
    for view in views:
        try:
            sketches.append(sketch_view(view, config.sketch, origin))
        except InputError as error:
            faults.append(f"camera {view.name} is left out: {error}")
        else:
            kept.append(view)
    if not kept:
        raise InputError("; ".join(faults))
    warnings += faults
    return kept, sketches


def with_poses_only(views: Sequence[View], warnings: list[str]) -> list[View]:
    """Return the views without frames that have no pose, and say how many these were.

    Raises:
        InputError: No frame of any camera has a pose.
    """
    kept = []
    for view in views:
        posed = np.asarray(np.isfinite(view.T_world_camera).all(axis=(1, 2)))
        if posed.all():
            kept.append(view)
            continue
        missing, count = int((~posed).sum()), len(posed)
        if not posed.any():
            warnings.append(f"camera {view.name} has no pose in any frame; it is left out")
            continue
        warnings.append(f"camera {view.name}: {missing} of {count} frames have no pose and are left out")
        kept.append(chosen_frames(view, posed))
    if not kept:
        names = ", ".join(view.name for view in views)
        raise InputError(f"no frame of {names} has a pose; record more of the room, slower, or record poses on /tf")
    return kept


def chosen_frames(view: View, chosen: np.ndarray) -> View:
    """Return a view of some frames, by a mask (F,); spooled images are not copied."""
    return dataclasses.replace(
        view,
        times_ns=view.times_ns[chosen],
        T_world_camera=view.T_world_camera[chosen],
        depth_mm=_images(view.depth_mm, chosen),
        color=[color for color, keep in zip(view.color, chosen, strict=True) if keep],
        gray=None if view.gray is None else _images(view.gray, chosen),
    )


def _images(images: np.ndarray | FrameSpool, chosen: np.ndarray) -> np.ndarray | FrameSpool:
    return images.chosen(chosen) if isinstance(images, FrameSpool) else images[chosen]


def _largest_part(
    sketches: Sequence[Sketch],
    pairs: dict[tuple[int, int], Pair], fixed: Sequence[int], config: PlaceConfig,
    warnings: list[str],
) -> tuple[list[int], list[tuple[int, int]]]:  # fmt: skip
    """Return the cameras of the part with the most frames, and the pairs that hold it together."""
    weights = {
        edge: pair.agreement.score + pair.margin + (10.0 if edge[0] in fixed and edge[1] in fixed else 0.0)
        for edge, pair in pairs.items()
        if pair.linked(config.pair) or (edge[0] in fixed and edge[1] in fixed)
    }
    edges = spanning_tree(len(sketches), weights)
    parts: list[list[int]] = []
    for index in range(len(sketches)):
        if not any(index in part for part in parts):
            parts.append(reached([index], edges))
    parts.sort(key=lambda part: -sum(sketches[index].frame_count for index in part))
    for part in parts[1:]:
        names = ", ".join(sketches[index].name for index in sorted(part))
        main = ", ".join(sketches[index].name for index in sorted(parts[0]))
        doubts = [
            pair.agreement.score >= config.pair.min_score
            for (a, b), pair in pairs.items()
            if (a in part) != (b in part) and (a in parts[0] or b in parts[0])
        ]
        why = (
            "can be put into one world in several ways that fit equally well"
            if any(doubts)
            else "shares too little of the room and of the person's motion to be put into one world"
        )
        warnings.append(
            f"camera {names}, with {main}, {why}: it is left out; record so that both see the same part of the room, "
            "and a walk of the person"
        )
    kept = sorted(parts[0])
    return kept, [edge for edge in edges if edge[0] in kept]


def _chained(
    count: int, kept: Sequence[int], pairs: dict[tuple[int, int], Pair], edges: Sequence[tuple[int, int]],
    fixed: Sequence[int],
) -> list[np.ndarray]:  # fmt: skip
    """Return T_world_view (4, 4) of each view along the edges, from the first fixed one on."""
    poses: list[np.ndarray] = [np.eye(4) for _ in range(count)]
    root = next((index for index in kept if index in fixed), kept[0])
    done = [root]
    for node in reached([root], edges)[1:]:
        a, b = next(edge for edge in edges if node in edge and (edge[0] in done or edge[1] in done))
        T = pairs[a, b].T_a_b
        poses[node] = poses[a] @ T if node == b else poses[b] @ se3_inverse(T)
        done.append(node)
    for index in fixed:
        poses[index] = np.eye(4)
    return poses


def _offsets(
    count: int, kept: Sequence[int], pairs: dict[tuple[int, int], Pair], edges: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Return each camera's stamp minus the first's (V,), s, along the edges."""
    offsets = np.zeros(count)
    done = [kept[0]]
    for node in reached([kept[0]], edges)[1:]:
        a, b = next(edge for edge in edges if node in edge and (edge[0] in done or edge[1] in done))
        step = pairs[a, b].offset_s
        offsets[node] = offsets[a] + step if node == b else offsets[b] - step
        done.append(node)
    return offsets


def _final_offsets(
    sketches: Sequence[Sketch], poses: Sequence[np.ndarray], offsets: np.ndarray,
    pairs: dict[tuple[int, int], Pair], edges: Sequence[tuple[int, int]], kept: Sequence[int], config: PlaceConfig,
) -> np.ndarray:  # fmt: skip
    """Return the offsets (V,), s, again, with the poses known: least squares over all pairs whose motion tells."""
    rows, values = [], []
    for (a, b), pair in pairs.items():
        row = np.zeros(len(sketches))
        row[b], row[a] = 1.0, -1.0
        if pair.timed and pair.clock_gain > 0:
            step = refined_offset(
                sketches[a], sketches[b], se3_inverse(poses[a]) @ poses[b], offsets[b] - offsets[a], config.pair
            )
            rows.append(row)
            values.append(step)
        elif (a, b) in edges:
            # Nothing is known better than the stamps; a hair's weight, so that any measured way round wins.
            rows.append(1e-6 * row)
            values.append(1e-6 * (offsets[b] - offsets[a]))
    anchor = np.zeros(len(sketches))
    anchor[kept[0]] = 1.0
    solution = np.linalg.lstsq(np.stack([*rows, anchor]), np.array([*values, 0.0]), rcond=1e-12)[0]
    return solution


def _tell_of_persons(sketches: Sequence[Sketch], warnings: list[str]) -> None:
    nobody = [sketch.name for sketch in sketches if sketch.path is None]
    if len(nobody) == len(sketches):
        warnings.append("nobody moves before any camera: the cameras are placed by the scene alone")
    elif nobody:
        warnings.append(f"camera {', '.join(nobody)} sees nobody move: it is placed by the scene alone")


def _loose_clocks(
    sketches: Sequence[Sketch], pairs: dict[tuple[int, int], Pair], edges: Sequence[tuple[int, int]]
) -> list[LooseClocks]:
    """Return the pairs whose offset the person's path does not tell."""
    found = []
    for a, b in edges:
        pair = pairs[a, b]
        if not pair.timed:
            why = (
                "the person's path in each view does not tell how their clocks lie "
                f"(gain {pair.clock_gain:.1f}, margin {pair.clock_margin:.1f})"
                if sketches[a].path is not None and sketches[b].path is not None
                else "they do not both see somebody move"
            )
            found.append(LooseClocks(sketches[a].name, sketches[b].name, why))
    return found


def _figures(pairs: Sequence[Pair], config: PlaceConfig) -> dict[str, float]:
    if not pairs:
        return {}
    figures = {
        "place_score": min(pair.agreement.score for pair in pairs),
        "place_margin": min(pair.margin for pair in pairs),
        "place_conflict": max(pair.agreement.conflict for pair in pairs),
    }
    if config.synchronise != "never":
        figures["clock_gain"] = min(pair.clock_gain for pair in pairs)
        figures["clock_margin"] = min(pair.clock_margin for pair in pairs)
    return figures
