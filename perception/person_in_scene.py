"""Somebody who never leaves one spot: the part of them that does not move is in the static scene, and is found there.

What moves is then only a part of a body: arms, a trunk that leans. Objects of the scene that touch it nearly all the
time, and that could be a part of somebody, are taken out on trial; the person is looked for again and a body is fitted.
An object stays out if the body explains it: its surface lies on the body's skin for long, and faces the same way.
A seat under a body faces the other way, and a coat stand beside it lies elsewhere: furniture stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from bodydouble.errors import InputError
from perception.body.body_model import BodyModel
from perception.fit import FitConfig, FittedBody, fit_body
from perception.scene_parts import PartsConfig, SceneParts, scene_parts
from perception.segment import KnownBody, PersonPoints, PersonSearch, SegmentConfig, find_person
from perception.skin import Skin, vertex_normals
from perception.static_scene import SceneConfig, StaticScene, without_vertices
from perception.views import View

FRAMES = 40
"""Frames of a clip that are looked at, evenly over time."""
POINTS = 120
"""Points of the person that are looked at in a frame, and of an object."""


@dataclass(frozen=True)
class StillConfig:
    """When an object of the scene is a part of the person."""

    touch_m: float = 0.10
    """Distance to what moves within which an object touches it, m."""
    touch_share: float = 0.8
    """Share of the time in which it must."""
    floor_m: float = 0.10
    """Height over the floor below which mesh may be the floor's, m."""
    max_height_m: float = 2.2
    """Height over the floor that nobody reaches, m."""
    max_half_m: float = 0.6
    """Half width that nobody has, m."""
    max_flat_share: float = 0.5
    """Share of an object's area in planes that nobody has."""
    skin_m: float = 0.07
    """Distance to the body's skin within which a surface is the skin, m."""
    facing: float = 0.4
    """Cosine between the normals of both from which on they face the same way."""
    skin_time: float = 0.3
    """Share of the time in which a surface must be skin: who bends down leaves the place of the chest for a while."""
    skin_share: float = 0.7
    """Share of an object's surface that must be skin."""
    told_m2: float = 0.04
    """Surface of the person's skin that is left in the scene from which on it is told, m^2."""


@dataclass(frozen=True)
class SkinOverTime:
    """Samples of a fitted body's skin. T times, N samples."""

    points: np.ndarray
    """Places (T, N, 3), world, m."""
    normals: np.ndarray
    """Outer normals (T, N, 3)."""


@torch.no_grad()
def skin_over_time(body: FittedBody, seen: np.ndarray, model: BodyModel | None = None) -> SkinOverTime:
    """Return a fitted body's skin at about FRAMES of the frames in which it was seen.

    Args:
        body: The body.
        seen: Frames in which the person was seen (T,), bool.
        model: The fitted body, with all its vertices; None: the Anny body.
    """
    skin = Skin(1500, model)
    some = _some(np.flatnonzero(seen), FRAMES)
    pose, root, shape = (
        torch.as_tensor(x, dtype=skin.body.dtype) for x in (body.pose[some], body.root_pos[some], body.shape)
    )
    state, normals = skin.pose(pose, root, shape)
    assert state.vertices is not None
    return SkinOverTime(state.vertices.double().numpy(), normals.double().numpy())


def is_skin(scene: StaticScene, chosen: np.ndarray, skin: SkinOverTime, config: StillConfig) -> np.ndarray:
    """Return which vertices (C,) of a scene lie on the skin for long and face the same way (C,), bool."""
    points = scene.vertices[chosen]
    normals = vertex_normals(scene.vertices, scene.triangles)[chosen]
    count = np.zeros(len(chosen), dtype=np.int64)
    for places, outer in zip(skin.points, skin.normals, strict=True):
        distance, nearest = cKDTree(places).query(points, distance_upper_bound=config.skin_m)
        near = np.flatnonzero(np.isfinite(distance))
        count[near] += (normals[near] * outer[nearest[near]]).sum(axis=1) > config.facing
    return count >= config.skin_time * len(skin.points)


def told_of(left_m2: float, config: StillConfig) -> list[str]:
    """Return the warning about so much of the person's skin in the scene, m^2, where it is too much."""
    if left_m2 <= config.told_m2:
        return []
    return [
        f"{left_m2:.2f} m^2 of the static scene lie on the person's skin for long: a part of the person is taken for "
        "furniture, and the body may be wrong there; let them walk away once"
    ]


def skin_in_scene_m2(scene: StaticScene, skin: SkinOverTime, floor_z: float, config: StillConfig) -> float:
    """Return how much of a scene's surface is the person's skin, m^2: what was not taken out.

    Args:
        scene: The scene.
        skin: The fitted body's skin.
        floor_z: Height of the floor, world, m.
        config: Settings.
    """
    low, high = skin.points.min(axis=(0, 1)) - config.skin_m, skin.points.max(axis=(0, 1)) + config.skin_m
    low[2] = floor_z + config.floor_m
    chosen = np.flatnonzero(((scene.vertices > low) & (scene.vertices < high)).all(axis=1))
    if not len(chosen):
        return 0.0
    marked = np.zeros(len(scene.vertices), dtype=bool)
    marked[chosen[is_skin(scene, chosen, skin, config)]] = True
    corner = scene.vertices[scene.triangles[marked[scene.triangles].all(axis=1)]]
    return float(0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1).sum())


def without_still_person(
    scene: StaticScene,
    search: PersonSearch,
    views: Sequence[View],
    floor_z: float,
    config: StillConfig,
    parts_config: PartsConfig,
    segment: SegmentConfig,
    scene_config: SceneConfig,
    fit: FitConfig,
) -> tuple[StaticScene, PersonSearch]:
    """Return the scene without the parts of the person that never moved, and the person with them.

    Both are returned as they are where no object of the scene is explained as a part of the person.

    Args:
        scene: The scene.
        search: What was found before it.
        views: The views, with poses in one world and times on one clock.
        floor_z: Height of the floor, world, m.
        config: When an object is a part of the person.
        parts_config: How the scene is taken apart.
        segment: How the person is found.
        scene_config: How the scene was rebuilt.
        fit: How a coarse body is fitted.
    """
    moving = search.person or search.moving
    if moving is None or not _touches(scene, moving, floor_z, config):
        return scene, search
    parts = scene_parts(scene, parts_config)
    trial = _touching_objects(scene, parts, moving, config)
    for _ in range(2):  # once more without what turned out to be furniture
        if not trial:
            break
        opened = without_vertices(scene, np.concatenate(trial), scene_config)
        known = KnownBody(moving.times_ns, _places(moving, scene.vertices[np.concatenate(trial)]))
        found = find_person(views, opened, segment, scene_config, known)
        if found.person is None or (found.person.count > 0).sum() < 10:
            break
        try:
            body = fit_body(found.person, floor_z, fit)
        except InputError:  # what was taken out is no body
            break
        skin = skin_over_time(body, found.person.count > 0)
        kept = [thing for thing in trial if is_skin(scene, thing, skin, config).mean() >= config.skin_share]
        if len(kept) == len(trial):
            return opened, PersonSearch(found.person, found.warnings)
        trial = kept
    return scene, search


def _some(index: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` entries of an index, evenly over it."""
    return index[np.unique(np.linspace(0, len(index) - 1, min(count, len(index))).astype(np.int64))]


def _moved(moving: PersonPoints) -> np.ndarray:
    """Return some points (F, POINTS, 3), world, m, at some times at which they were seen."""
    seen = _some(np.flatnonzero(moving.count > 0), FRAMES)
    return moving.points[seen][:, _some(np.arange(moving.points.shape[1]), POINTS)]


def _touches(scene: StaticScene, moving: PersonPoints, floor_z: float, config: StillConfig) -> bool:
    """Return whether some mesh that is no floor is beside what moves nearly all the time."""
    above = scene.vertices[scene.vertices[:, 2] > floor_z + config.floor_m]
    if not len(above):
        return False
    points = _moved(moving)
    distance = cKDTree(above).query(points.reshape(-1, 3), distance_upper_bound=config.touch_m)[0]
    return bool(np.isfinite(distance).reshape(len(points), -1).any(axis=1).mean() >= config.touch_share)


def _touching_objects(
    scene: StaticScene, parts: SceneParts, moving: PersonPoints, config: StillConfig
) -> list[np.ndarray]:
    """Return the vertices (C,) of each object that may be a part of somebody and touches what moves, or another one."""
    things = []
    for number, thing in enumerate(parts.objects, start=len(parts.planes)):
        top = thing.bottom_m + 2 * thing.half[2]
        slim = max(thing.half[:2]) < config.max_half_m and top < config.max_height_m
        if slim and thing.flat_share < config.max_flat_share:
            things.append(np.flatnonzero(parts.vertex_part == number))
    trees = [cKDTree(scene.vertices[thing]) for thing in things]
    points = _moved(moving)
    touching = []
    for tree in trees:
        distance = tree.query(points.reshape(-1, 3), distance_upper_bound=config.touch_m)[0]
        touched = np.isfinite(distance).reshape(len(points), -1).any(axis=1)
        touching.append(bool(touched.mean() >= config.touch_share))
    grown = True
    while grown:
        grown = False
        for number, tree in enumerate(trees):
            near = (trees[n].count_neighbors(tree, config.touch_m) for n, so in enumerate(touching) if so)
            if not touching[number] and any(near):
                touching[number] = grown = True
    return [thing for thing, so in zip(things, touching, strict=True) if so]


def _places(moving: PersonPoints, vertices: np.ndarray) -> np.ndarray:
    """Return places on the person at each time (T, 2 POINTS, 3), world, m: what never moved, and what did then."""
    still = vertices[_some(np.random.default_rng(0).permutation(len(vertices)), POINTS)]
    still = still[np.arange(POINTS) % len(still)]
    moved = moving.points[:, _some(np.arange(moving.points.shape[1]), POINTS)]
    moved = moved[:, np.arange(POINTS) % moved.shape[1]]
    seen = (moving.count > 0)[:, None, None]
    return np.concatenate([np.broadcast_to(still, moved.shape), np.where(seen, moved, still)], axis=1)
