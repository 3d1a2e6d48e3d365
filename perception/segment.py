"""The person: depth that the static scene does not explain, as points in the world on one time base for all cameras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track as progress

from perception.foreground import Foreground
from perception.person_tracks import Sighting, Track, Tracker
from perception.static_scene import SceneConfig, StaticScene, seen_free
from perception.views import View

RETURN_SPEED_M_S = 4.0
"""Speed above which somebody who is seen again elsewhere is another person, m/s."""


@dataclass(frozen=True)
class SegmentConfig:
    """How the person is told from the scene."""

    fps: float = 30.0
    """Rate of the common time base, Hz."""
    stride: int = 2
    """Every stride-th row and column of the depth images is looked at."""
    margin_m: float = 0.04
    """Distance in front of the scene that counts, m; it grows with the depth's noise."""
    cell_m: float = 0.08
    """Cell in which points count as connected, m."""
    min_points: int = 150
    """Points below which a frame shows nobody."""
    points_per_frame: int = 700
    """Points kept per frame and camera."""
    max_depth_m: float = 5.0
    """Farthest depth that is used, m."""
    min_moved: float = 0.5
    """Share of the points whose place must have been free at other times, in the median frame; a frame needs half."""
    min_length_m: float = 1.0
    """Extent along the longest axis that a person reaches at some time, m."""
    min_thickness_m: float = 0.03
    """Root mean square distance from the best plane that a person has, m; a door is flatter."""
    min_seen_s: float = 0.5
    """Time below which what is seen is nobody, s."""
    second_share: float = 0.2
    """Share of the person's points from which on somebody else is told of."""
    known_reach_m: float = 0.35
    """Distance to a joint within which points are a known person's, m."""
    seed: int = 0
    """Seed of the choice of points."""


@dataclass(frozen=True)
class PersonPoints:
    """Points on the person. T frames, P points each."""

    times_ns: np.ndarray
    """Times (T,), int64, ns."""
    points: np.ndarray
    """Points (T, P, 3), world, m; where a frame has fewer, some are there twice."""
    origin: np.ndarray
    """Position of the camera that saw each point (T, P, 3), world, m."""
    count: np.ndarray
    """Points found before thinning (T,); 0 where nobody was seen."""
    views: np.ndarray
    """Number of cameras that saw the person (T,)."""


@dataclass(frozen=True)
class PersonSearch:
    """Who was looked for, and what the user should know."""

    person: PersonPoints | None
    """The person's points; None where there is nobody."""
    warnings: tuple[str, ...]
    """Why there is nobody, when nobody was seen, who else is there, which frames were left out."""
    moving: PersonPoints | None = None
    """Where there is nobody: what is seen most of all that moves, though it is no person by itself."""


@dataclass(frozen=True)
class KnownBody:
    """Where a first, coarse fit has the person. T frames."""

    times_ns: np.ndarray
    """Times (T,), int64, ns."""
    joint_pos: np.ndarray
    """Joints, or other places on the body, (T, J, 3), world, m."""

    def at(self, time_ns: int) -> np.ndarray:
        """Return the joints (J, 3), world, m, at the nearest time."""
        return self.joint_pos[np.abs(self.times_ns - time_ns).argmin()]


def _near(points: np.ndarray, joints: np.ndarray, reach_m: float) -> np.ndarray:
    """Return which points (N, 3) are within reach of one of the joints (J, 3) (N,), bool; world, m."""
    axes = np.ascontiguousarray(points.T, dtype=np.float32)
    near = np.zeros(len(points), dtype=bool)
    for joint in joints.astype(np.float32):
        apart = axes - joint[:, None]
        apart *= apart
        near |= apart[0] + apart[1] + apart[2] < reach_m**2
    return near


def find_person(
    views: Sequence[View],
    scene: StaticScene,
    config: SegmentConfig,
    scene_config: SceneConfig,
    known: KnownBody | None = None,
    nobody: Callable[[PersonPoints], str | None] | None = None,
) -> PersonSearch:
    """Return the person's points at each time of the common base, from the first to the last frame with anybody.

    What stands before the scene is followed from time to time. A person is a track that is long enough, not flat, and
    whose place was free at other times: furniture, doors and chairs that were moved are not. Of several people the one
    with the most points over time is kept. Somebody who left and came back is one person, and has no points between.

    Args:
        views: The views, with poses in one world and times on one clock.
        scene: The static scene.
        config: Settings.
        scene_config: Settings of the scene, for the votes on what moves.
        known: Where the person is, roughly. Only what is near counts then, and it need not have been free at other
            times: the lap of somebody who sits hides the seat for good.
        nobody: Says why points that have a person's size and move are nobody's, or None; None asks no further.
    """
    start = min(int(view.times_ns[0]) for view in views)
    end = max(int(view.times_ns[-1]) for view in views)
    times = start + np.round(np.arange(round((end - start) * 1e-9 * config.fps) + 1) * 1e9 / config.fps).astype(
        np.int64
    )
    tracker = Tracker(config.fps, config.cell_m, config.min_points, config.points_per_frame * len(views), config.seed)
    warnings = _follow(tracker, views, scene, times, config, known)
    tracks = sorted((track for track in tracker.tracks if track.sightings), key=lambda track: -track.total)
    people, refused = [], []
    for track in tracks:
        fault = _no_person(track, config)
        if fault is None and known is None:
            track = _without_furniture(track, views, config, scene_config)
            fault = None if track.sightings else "it stands where it is all the time"
            if fault is None and nobody is not None:
                fault = nobody(_points(track, times, views, config))
        if fault is None:
            people.append(track)
        else:
            refused.append(fault)
    if not people:
        moved = (_without_furniture(track, views, config, scene_config) for track in tracks)
        long = (track for track in moved if len(track.sightings) >= config.min_seen_s * config.fps)
        moving = None if known is not None else next(long, None)
        points = None if moving is None else _points(moving, times, views, config)
        return PersonSearch(None, (*warnings, _nobody(refused)), points)
    people.sort(key=lambda track: -track.total)
    chain = _chain(people, config.fps)
    if len(chain.sightings) < config.min_seen_s * config.fps:
        seconds = len(chain.sightings) / config.fps
        return PersonSearch(
            None, (*warnings, f"somebody was seen for {seconds:.1f} s only; only the scene was rebuilt")
        )
    warnings += _others(people, chain, config)
    person = _points(chain, times, views, config)
    return PersonSearch(person, (*warnings, *_gaps(person, start)))


def person_points(
    views: Sequence[View], scene: StaticScene, config: SegmentConfig, scene_config: SceneConfig
) -> PersonPoints | None:
    """Return the person's points, or None where there is nobody; see `find_person`."""
    return find_person(views, scene, config, scene_config).person


def _follow(
    tracker: Tracker,
    views: Sequence[View],
    scene: StaticScene,
    times: np.ndarray,
    config: SegmentConfig,
    known: KnownBody | None,
) -> list[str]:
    """Give the tracker what stands before the scene at each time; return warnings of frames that were left out."""
    finders = [Foreground(view, scene, config.stride, config.margin_m, config.max_depth_m) for view in views]
    frames = [_frame_of_each_time(view, times, config.fps) for view in views]
    wrong: dict[str, list[int]] = {}
    for step in progress(range(len(times)), "person", console=Console(stderr=True)):
        points, cameras = [], []
        for number, (view, finder, frame) in enumerate(zip(views, finders, frames, strict=True)):
            if frame[step] < 0:
                continue
            around = None if known is None else (known.at(int(times[step])), config.known_reach_m)
            found = finder.points(int(frame[step]), around)
            if found is None:
                wrong.setdefault(view.name, []).append(step)
            else:
                if around is not None:
                    found = found[_near(found, *around)]
                points.append(found)
                cameras.append(number)
        tracker.add(step, points, cameras)
    return [
        f"camera {name}: {len(steps)} frames do not fit the scene (first at {steps[0] / config.fps:.1f} s): their "
        "poses are wrong, or something covers the view; they were left out"
        for name, steps in wrong.items()
    ]


def _frame_of_each_time(view: View, times: np.ndarray, fps: float) -> np.ndarray:
    """Return the frame of a view that belongs to each time (T,), -1 where none does: the nearest, and only once."""
    nearest = np.abs(view.times_ns[:, None] - times).argmin(axis=0)
    slots = np.round((view.times_ns[nearest] - times[0]) * fps / 1e9).astype(np.int64)
    return np.where(slots == np.arange(len(times)), nearest, -1)


def _no_person(track: Track, config: SegmentConfig) -> str | None:
    """Return why the shape of a track is no person's, or None where it is one."""
    if len(track.sightings) < min(0.2, config.min_seen_s) * config.fps:
        return f"seen for {len(track.sightings) / config.fps:.1f} s"
    length = track.typical("length_m", 0.9)
    if length < config.min_length_m:
        return f"{length:.1f} m long at most, a person shows {config.min_length_m:g} m"
    if track.typical("thickness_m") < config.min_thickness_m:
        return f"flat, as a door is ({length:.1f} m long)"
    return None


def _free_share(track: Track, views: Sequence[View], config: SceneConfig) -> np.ndarray:
    """Return the share of the points, at each time the track is seen (T,), whose place was free at other times.

    Furniture that the mesh lacks stands in front of it as a person does, but stays where it is.
    """
    points = np.stack([sighting.points for sighting in track.sightings.values()])
    return seen_free(points.reshape(-1, 3), views, config).reshape(len(points), -1).mean(axis=1)


def _without_furniture(track: Track, views: Sequence[View], config: SegmentConfig, scene_config: SceneConfig) -> Track:
    """Return a track without the times at which it was never away; empty where too little is left.

    Where somebody leaves or comes, furniture that the mesh lacks and that stands there may be in the same track.
    """
    free = _free_share(track, views, scene_config)
    kept = free >= 0.5 * config.min_moved
    if kept.sum() < min(0.2, config.min_seen_s) * config.fps or np.median(free[kept]) < config.min_moved:
        return Track()
    sightings = zip(track.sightings.items(), kept, strict=True)
    return Track({step: sighting for (step, sighting), keep in sightings if keep})


def _nobody(refused: list[str]) -> str:
    """Return what is said where there is no person."""
    told = "nobody moves in the recording; only the scene was rebuilt"
    if refused:
        told += f". What stands before it is no person: {refused[0]}"
    return told + ". Somebody who stands still the whole time is taken for a part of the room: let them walk away once"


def _chain(people: list[Track], fps: float) -> Track:
    """Return the largest track joined with those of other times: the same person, lost or gone between.

    Args:
        people: Tracks, the largest first.
        fps: Time steps per second.
    """
    chain = dict(people[0].sightings)
    for track in people[1:]:
        steps = np.array(sorted(chain))
        if np.isin(track.steps, steps).any() or not _reachable(chain, steps, track, fps):
            continue
        chain |= track.sightings
    return Track(dict(sorted(chain.items())))


def _reachable(chain: dict[int, Sighting], steps: np.ndarray, track: Track, fps: float) -> bool:
    """Return whether one person can be at both, given the time between."""
    own = track.steps
    for mine, other in ((own[0], steps[steps < own[0]][-1:]), (own[-1], steps[steps > own[-1]][:1])):
        for step in other:
            way = float(np.linalg.norm(track.sightings[int(mine)].middle - chain[int(step)].middle))
            if way > 0.5 + RETURN_SPEED_M_S * abs(int(mine) - int(step)) / fps:
                return False
    return True


def _others(people: list[Track], chain: Track, config: SegmentConfig) -> list[str]:
    """Return the warning that there is more than one person."""
    others = [
        track
        for track in people
        if not np.isin(track.steps, chain.steps).all()
        or chain.sightings[int(track.steps[0])] is not track.sightings[int(track.steps[0])]
    ]
    others = [
        track
        for track in others
        if track.total >= config.second_share * chain.total and len(track.sightings) >= config.min_seen_s * config.fps
    ]
    if not others:
        return []
    when = ", ".join(f"{t.steps[0] / config.fps:.1f} to {t.steps[-1] / config.fps:.1f} s" for t in others)
    return [
        f"{1 + len(others)} people are in the recording (another one from {when}); the one who is seen most is rebuilt"
    ]


def _gaps(person: PersonPoints, start_ns: int) -> list[str]:
    """Return the warning about the times in which the person is not seen."""
    unseen = np.flatnonzero(person.count == 0)
    if not len(unseen):
        return []
    runs = np.split(unseen, np.flatnonzero(np.diff(unseen) > 1) + 1)
    seconds = (person.times_ns - start_ns) * 1e-9
    longest = sorted(sorted(runs, key=len, reverse=True)[:3], key=lambda run: run[0])
    when = ", ".join(
        f"{seconds[run[0]]:.1f} to {seconds[run[-1]]:.1f} s" if len(run) > 1 else f"at {seconds[run[0]]:.1f} s"
        for run in longest
    )
    more = f" and {len(runs) - 3} shorter times" if len(runs) > 3 else ""
    return [f"the person is not seen in {len(unseen)} of {len(seconds)} frames, {when}{more}; the body is held there"]


def _points(chain: Track, times: np.ndarray, views: Sequence[View], config: SegmentConfig) -> PersonPoints:
    first, last = int(chain.steps[0]), int(chain.steps[-1]) + 1
    size = (last - first, config.points_per_frame * len(views), 3)
    points, origin = np.zeros(size), np.zeros(size)
    count, seen_by = np.zeros(last - first, dtype=np.int64), np.zeros(last - first, dtype=np.int64)
    frames = [_frame_of_each_time(view, times, config.fps) for view in views]
    for step, sighting in chain.sightings.items():
        eyes = np.array([view.T_world_camera[frame[step], :3, 3] for view, frame in zip(views, frames, strict=True)])
        points[step - first], origin[step - first] = sighting.points, eyes[sighting.camera]
        count[step - first], seen_by[step - first] = sighting.count, sighting.views
    return PersonPoints(times[first:last], points, origin, count, seen_by)
