"""Objects that can be pushed: bodies with a free joint, a mass from volume and density, that rest where they stood."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial import ConvexHull

from bodydouble.errors import InputError
from sim.stage.cells import cells_of, filled, without_specks
from sim.stage.convex import ConvexConfig, hull_volume, hulls_of
from sim.stage.furniture import Box
from sim.stage.geoms import add_static
from sim.stage.room_parts import RoomParts
from sim.stage.scene_mesh import SceneMesh
from sim.stage.surface import Surface, sample_surface
from sim.stage.treads import top_heights
from sim.stage.write import add_floor

SMALL = "small"
"""Asks for every object that is small enough."""
_SETTLE_S = 2.0
_GAP_M = 0.1
_BESIDE_M = 0.02
_ABOVE_M = 0.008
_CONVEX = 1.25
_CORNERS = np.argwhere(np.ones((2, 2, 2), dtype=bool))


@dataclass(frozen=True)
class MovableConfig:
    """Which objects can be pushed, and how heavy they are."""

    objects: tuple[str, ...] = ()
    """Numbers of objects, as stage.json lists them, or `small` for all that are small enough; none by default."""
    max_size_m: float = 0.4
    """Largest edge of the upright box around a small object, m."""
    density: float = 250.0
    """Mass over volume, kg/m^3: household things are hollow."""
    max_move_m: float = 0.03
    """An object that comes to rest farther away than this stays fixed, m."""
    max_tilt_deg: float = 10.0
    """An object that comes to rest tilted by more than this stays fixed, degrees."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.objects if name != SMALL and not name.isdigit()]
        if wrong:
            raise InputError(f"movable object {wrong[0]!r}: expected a number of an object, or `{SMALL}`")
        for name in ("max_size_m", "density", "max_move_m", "max_tilt_deg"):
            if not 0.0 < getattr(self, name) < 1e5:
                raise InputError(f"movable objects: {name} is {getattr(self, name)}, expected more than 0")


@dataclass(frozen=True, eq=False)
class Movable:
    """An object as a body of its own."""

    number: int
    """Number of the object in the reconstruction."""
    pos: np.ndarray
    """Where its frame rests (3,), stage, m."""
    quat: np.ndarray
    """How it rests (4,), wxyz."""
    hulls: tuple[np.ndarray, ...]
    """Vertices (V, 3) of its convex pieces in its frame, m."""
    faces: np.ndarray
    """Its triangles in the scene, as a mask (F,)."""
    origin: np.ndarray
    """Where its frame was before it settled (3,), stage, m: what its triangles are relative to."""

    @property
    def name(self) -> str:
        """Name of its body."""
        return f"object_{self.number:02d}"


@dataclass(frozen=True)
class ObjectReport:
    """What became of an object of the reconstruction."""

    number: int
    """Its number."""
    centre: tuple[float, float, float]
    """Middle of the upright box around it, stage, m."""
    size: tuple[float, float, float]
    """Edges of this box along the stage's axes, m."""
    state: str
    """fixed or movable; with the reason where it was asked to be movable and is fixed."""
    mass_kg: float
    """Its mass where it is movable; 0 otherwise."""


def wanted_objects(mesh: SceneMesh, parts: RoomParts | None, config: MovableConfig) -> list[int]:
    """Return the numbers of the objects that are asked for.

    Raises:
        InputError: The scene's objects are not known, or there is no such object.
    """
    if not config.objects:
        return []
    if parts is None:
        raise InputError("scene: its objects are not known (no scene_parts.json); reconstruct the recording again")
    chosen = {int(name) for name in config.objects if name != SMALL}
    unknown = sorted(number for number in chosen if number >= parts.num_objects)
    if unknown:
        raise InputError(f"movable object {unknown[0]}: the scene has objects 0 to {parts.num_objects - 1}")
    if SMALL in config.objects:
        for number in range(parts.num_objects):
            corners = mesh.vertices[mesh.faces[parts.object_faces(number)].ravel()]
            if len(corners) and np.ptp(corners, axis=0).max() <= config.max_size_m:
                chosen.add(number)
    return sorted(chosen)


def object_faces(mesh: SceneMesh, parts: RoomParts, number: int) -> np.ndarray:
    """Return the triangles of an object as a mask (F,), its lowest ones included.

    What is close to the plane that a thing stands on counts for the plane when a scene is taken apart.
    """
    own = parts.object_faces(number)
    if not own.any():
        return own
    corners = mesh.vertices[mesh.faces[own].ravel()]
    low, high = corners.min(axis=0) - _BESIDE_M, corners.max(axis=0) + _BESIDE_M
    centres = mesh.centres()
    plane = parts.on_plane[number]
    bottom = np.zeros(len(centres))
    if plane >= 0:
        normal = parts.normals[plane]
        bottom = (parts.offsets[plane] - centres[:, :2] @ normal[:2]) / normal[2]
    within = ((centres[:, :2] > low[:2]) & (centres[:, :2] < high[:2])).all(axis=1)
    highest = mesh.vertices[mesh.faces, 2].max(axis=1)
    return own | (within & (highest > bottom + _ABOVE_M) & (centres[:, 2] < low[2] + 2 * _BESIDE_M))


def support_below(mesh: SceneMesh, parts: RoomParts, numbers: Sequence[int], spacing: float) -> Surface:
    """Return samples of the table tops that objects hide, under each object's outline.

    Args:
        mesh: The scene in the stage's frame.
        parts: Its planes and objects.
        numbers: The objects.
        spacing: Distance between neighbours, m.
    """
    points, normals = [np.zeros((0, 3))], [np.zeros((0, 3))]
    for number in numbers:
        plane = parts.on_plane[number]
        corners = mesh.vertices[np.unique(mesh.faces[parts.object_faces(number)])]
        if plane < 0 or len(corners) == 0:
            continue
        low, high = corners[:, :2].min(axis=0) - _BESIDE_M, corners[:, :2].max(axis=0) + _BESIDE_M
        steps = [np.arange(a, b + spacing, spacing) for a, b in zip(low, high, strict=True)]
        xy = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 2)
        normal = parts.normals[plane]
        z = (parts.offsets[plane] - xy @ normal[:2]) / normal[2]
        points.append(np.column_stack([xy, z]))
        normals.append(np.tile(normal, (len(xy), 1)))
    every = np.concatenate(points)
    return Surface(every, np.concatenate(normals), np.full(len(every), spacing**2))


def make_movable(
    number: int, mesh: SceneMesh, parts: RoomParts, boxes: Sequence[Box], hulls: Sequence[np.ndarray],
    convex: ConvexConfig,
) -> Movable | None:  # fmt: skip
    """Return an object as a body that stands on the geometry below it; None where too little of it was seen.

    Its cells are filled where they lie between others along two of three axes, and continued down to what it stands on:
    the inside and the underside of a thing are never seen.

    Args:
        number: The object.
        mesh: The scene in the stage's frame.
        parts: Its planes and objects.
        boxes: Boxes of the collision geometry.
        hulls: Convex pieces of the collision geometry.
        convex: Settings of the pieces.
    """
    faces = object_faces(mesh, parts, number)
    own = dataclasses.replace(mesh, faces=mesh.faces[faces])
    if len(own.faces) == 0:
        return None
    corners = own.vertices[own.faces.ravel()]
    low, high = corners.min(axis=0), corners.max(axis=0)
    cell_m = float(np.clip((high - low).max() / 16, 0.01, 0.03))
    surface = sample_surface(own, 0.5 * cell_m)
    ground = _ground(surface, low[2], boxes, hulls)
    origin = np.array([*(0.5 * (low + high))[:2], ground])
    local = Surface(surface.points - origin, surface.normals, surface.area)
    cells = without_specks(np.unique(cells_of(local, cell_m, 0.5), axis=0), 4)
    cells = cells[cells[:, 2] >= 0]
    if len(cells) == 0:
        return None
    lowest = int(cells[:, 2].min())
    solid = filled(np.concatenate([cells, *(_at(cells[cells[:, 2] <= lowest + 1], k) for k in range(lowest + 1))]))
    corners = np.unique((solid[:, None] + _CORNERS).reshape(-1, 3), axis=0) * cell_m
    whole = corners[ConvexHull(corners).vertices]
    # Most small things are nearly convex; CoACD is for those that are not.
    if hull_volume(whole) <= _CONVEX * len(solid) * cell_m**3:
        pieces = [whole]
    else:
        pieces = hulls_of(solid, cell_m, convex.concavity_near, convex)
    return Movable(number, origin, np.array([1.0, 0.0, 0.0, 0.0]), tuple(pieces), faces, origin)


def add_movable(spec: mujoco.MjSpec, thing: Movable, density: float, group: int = 3) -> mujoco.MjsBody:
    """Add an object's body, free joint and convex pieces to a model, and return the body."""
    body = spec.worldbody.add_body(name=thing.name, pos=thing.pos, quat=thing.quat)
    body.add_freejoint(name=thing.name)
    for i, vertices in enumerate(thing.hulls):
        name = f"{thing.name}_{i:02d}"
        spec.add_mesh(name=name, uservert=vertices.ravel(), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
        body.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, density=density, condim=3, group=group,
            rgba=[0.8, 0.55, 0.35, 0.5],
        )  # fmt: skip
    return body


def extend_keys(spec: mujoco.MjSpec, things: Sequence[Movable]) -> None:
    """Add where objects rest to a model's keyframes, once their bodies are added."""
    rest = [value for thing in things for value in (*thing.pos, *thing.quat)]
    for key in spec.keys:
        key.qpos = np.concatenate([key.qpos, rest])


def settle(
    things: Sequence[Movable], boxes: Sequence[Box], hulls: Sequence[np.ndarray], config: MovableConfig,
    physics_dt: float,
) -> tuple[list[Movable], dict[int, str], dict[int, float]]:  # fmt: skip
    """Let objects come to rest on the scene, without a robot.

    Returns:
        The objects that rest near where they stood, as they rest; why each of the others does not; and the masses by
        number, kg.
    """
    left, refused, masses = list(things), {}, {}
    while left:
        spec = mujoco.MjSpec()
        spec.option.timestep = physics_dt
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        add_floor(spec)
        add_static(spec, boxes, hulls)
        for thing in left:
            add_movable(spec, thing, config.density)
        model = spec.compile()
        data = mujoco.MjData(model)
        mujoco.mj_step(model, data, round(_SETTLE_S / physics_dt))
        rest = []
        for thing in left:
            body = model.body(thing.name).id
            masses[thing.number] = float(model.body_mass[body])
            moved = float(np.linalg.norm(data.body(body).xpos - thing.pos))
            tilt = float(np.degrees(np.arccos(np.clip(data.body(body).xmat[8], -1.0, 1.0))))
            if not np.isfinite(moved) or moved > config.max_move_m or tilt > config.max_tilt_deg:
                refused[thing.number] = f"does not rest: moved {100 * moved:.0f} cm, tilted {tilt:.0f} degrees"
            else:
                rest.append(
                    dataclasses.replace(thing, pos=data.body(body).xpos.copy(), quat=data.body(body).xquat.copy())
                )
        if len(rest) == len(left):
            return rest, refused, masses
        # What fell may have pushed others: those that rest are tried again without it.
        left = [thing for thing in left if thing.number not in refused]
    return [], refused, masses


def object_reports(
    mesh: SceneMesh, parts: RoomParts | None, movable: Sequence[Movable], refused: dict[int, str],
    masses: dict[int, float],
) -> list[ObjectReport]:  # fmt: skip
    """Return what became of each object of the reconstruction, for stage.json."""
    if parts is None:
        return []
    moves = {thing.number for thing in movable}
    reports = []
    for number in range(parts.num_objects):
        corners = mesh.vertices[mesh.faces[parts.object_faces(number)].ravel()]
        if len(corners) == 0:
            continue
        low, high = corners.min(axis=0), corners.max(axis=0)
        state = "movable" if number in moves else f"fixed: {refused[number]}" if number in refused else "fixed"
        centre, size = 0.5 * (low + high), high - low
        reports.append(
            ObjectReport(
                number,
                (float(centre[0]), float(centre[1]), float(centre[2])),
                (float(size[0]), float(size[1]), float(size[2])),
                state,
                masses.get(number, 0.0) if number in moves else 0.0,
            )
        )
    return reports


def _ground(surface: Surface, lowest: float, boxes: Sequence[Box], hulls: Sequence[np.ndarray]) -> float:
    """Return the height of the geometry that something with its lowest point at `lowest` stands on, or 0."""
    below = surface.points.copy()
    below[:, 2] = lowest
    tops = top_heights(below, boxes, hulls, reach_m=_GAP_M)
    return float(np.nanmax(tops)) if np.isfinite(tops).any() else 0.0


def _at(cells: np.ndarray, layer: int) -> np.ndarray:
    return np.column_stack([cells[:, :2], np.full(len(cells), layer)])
