"""What robots can touch in a scene: boxes and convex pieces, and how well they keep what was seen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from sim.stage.cells import connected, filled
from sim.stage.convex import ConvexConfig, convex_pieces, hull_volume
from sim.stage.furniture import Box, FurnitureConfig, boxes_of, find_furniture, wall_boxes
from sim.stage.room_parts import RoomParts
from sim.stage.scene_mesh import SceneMesh
from sim.stage.surface import Surface
from sim.stage.treads import step_error, step_samples


@dataclass(frozen=True, eq=False)
class Collision:
    """Collision geometry of a scene, the floor apart."""

    boxes: tuple[Box, ...]
    """Upright boxes, those of the walls last."""
    hulls: tuple[np.ndarray, ...]
    """Vertices (V, 3) of convex pieces, m."""
    figures: dict[str, float]
    """How many there are, and what they keep; see `build_collision`."""


def build_collision(
    mesh: SceneMesh,
    parts: RoomParts | None,
    path: np.ndarray,
    shape: FurnitureConfig,
    convex: ConvexConfig | None = None,
    *,
    loose: np.ndarray | None = None,
    support: Surface | None = None,
) -> Collision:
    """Return the collision geometry of what stands near a path.

    Walls that the reconstruction found become boxes along their own direction. What it knows as floor or ceiling is
    left to the floor's plane. Everything else becomes boxes, or convex pieces and boxes.

    Args:
        mesh: The scene in the stage's frame, floor at height zero, its triangles facing outwards.
        parts: Its planes and objects; None where they are not known.
        path: Places of the robot (P, 2), m.
        shape: Settings of the cells and boxes.
        convex: Settings of convex pieces; None makes boxes of everything.
        loose: Triangles (F,), bool, of objects that move and are left out.
        support: Samples of a surface that is hidden below such objects.

    Returns:
        The geometry, and figures: furniture_boxes, wall_boxes and convex_pieces; furniture_fill, the occupied share
        of the boxes; collision_volume_error, volume of the furniture's geometry over that of what was seen, minus one
        (closed shells are full, what overlaps counts twice); step_error_mm, the height error that 95 % of the level
        surface up to 0.6 m keeps; step_missed_share, the share of it without geometry within 15 cm.
    """
    keep = np.ones(len(mesh.faces), dtype=bool) if loose is None else ~loose
    walls = []
    if parts is not None:
        keep &= ~np.isin(parts.face_part, parts.of_kind("floor", "ceiling", "wall"))
        walls = [(parts.normals[wall], _some(mesh, parts.face_part == wall)) for wall in parts.of_kind("wall")]
    furniture = find_furniture(_some(mesh, keep), path, shape, behind=convex is None)
    if support is not None and len(support.points):
        furniture = furniture.with_surface(support, shape.cell_m)
    hulls: list[np.ndarray] = []
    if convex is not None:
        hulls, boxes, figures = convex_pieces(furniture, path, convex, shape)
    else:
        boxes, figures = boxes_of(furniture, shape)
    label = connected(furniture.cells) if len(furniture.cells) else np.zeros(0, np.int32)
    things = [furniture.cells[label == thing] for thing in range(1, int(label.max(initial=0)) + 1)]
    seen_m3 = sum(len(filled(thing)) for thing in things) * shape.cell_m**3
    volume = sum(box.volume for box in boxes) + sum(hull_volume(hull) for hull in hulls)
    on_walls = wall_boxes(walls, path, shape)
    every = [*boxes, *on_walls]
    steps = step_samples(furniture.surface.turned(furniture.to_axes.T))
    error, missed = step_error(steps, every, hulls)
    figures |= {
        "wall_boxes": float(len(on_walls)),
        "collision_volume_error": volume / seen_m3 - 1.0 if seen_m3 else 0.0,
        "step_error_mm": 1000.0 * error,
        "step_missed_share": missed,
    }
    return Collision(tuple(every), tuple(hulls), figures)


def _some(mesh: SceneMesh, faces: np.ndarray) -> SceneMesh:
    """Return the mesh with some of its triangles, by a mask (F,)."""
    return dataclasses.replace(mesh, faces=mesh.faces[faces])
