"""A furnished room as one coloured triangle mesh: floor, walls, table, chair, box, step, shelf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROOM_HALF = (2.6, 2.4)
"""Half extents of the floor, m."""
WALL_HEIGHT = 2.5
"""Height of the walls, m."""


SEAT_HEIGHT = 0.45
"""Height of the chair's seat, m."""
STEP_HEIGHT = 0.2
"""Height of the step, m."""


@dataclass(frozen=True)
class RoomConfig:
    """Where the furniture that people use stands; the rest is along the walls."""

    chair_xy: tuple[float, float] = (-1.75, 0.9)
    """Middle of the chair's seat, about, m; the chair faces +x."""
    step_xy: tuple[float, float] = (-1.6, -1.5)
    """Middle of the step of 0.8 by 0.6 m, about, m."""


@dataclass(frozen=True)
class Mesh:
    """Triangles with one colour each. V vertices, F triangles."""

    vertices: np.ndarray
    """Positions (V, 3), m."""
    triangles: np.ndarray
    """Vertex indices (F, 3), int32."""
    colours: np.ndarray
    """Colours of the triangles (F, 3), uint8."""


def box(centre: tuple[float, float, float], size: tuple[float, float, float], colour: tuple[int, int, int]) -> Mesh:
    """Return an axis-aligned box.

    Args:
        centre: Its middle, m.
        size: Its extents, m.
        colour: RGB.
    """
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = np.array([t for a, b, c, d in faces for t in ((a, b, c), (a, c, d))], dtype=np.int32)
    return Mesh(corners * size + centre, triangles, np.tile(np.array(colour, np.uint8), (len(triangles), 1)))


def merge(meshes: list[Mesh]) -> Mesh:
    """Return one mesh of several."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]).astype(np.int32),
        np.concatenate([mesh.colours for mesh in meshes]),
    )


def layout(rng: np.random.Generator, config: RoomConfig | None = None) -> dict[str, tuple[float, float]]:
    """Return where table, chair, box, step and shelf stand (x, y), m; each is up to 8 cm off its usual place."""
    config = config or RoomConfig()
    usual = {
        "table": (1.75, 1.35),
        "chair": config.chair_xy,
        "box": (1.7, -1.3),
        "step": config.step_xy,
        "shelf": (0.2, 2.15),
    }
    places = {}
    for name, (x, y) in usual.items():
        dx, dy = rng.uniform(-0.08, 0.08, size=2)
        places[name] = (x + float(dx), y + float(dy))
    return places


def room(rng: np.random.Generator, config: RoomConfig | None = None) -> Mesh:
    """Return the room. By default the furniture stands around a clear middle of about 2.4 m by 1.6 m."""
    places = layout(rng, config)
    half_x, half_y = ROOM_HALF
    parts = [
        box((0, 0, -0.05), (2 * half_x, 2 * half_y, 0.1), (150, 120, 90)),
        box((half_x + 0.05, 0, WALL_HEIGHT / 2), (0.1, 2 * half_y, WALL_HEIGHT), (205, 205, 195)),
        box((-half_x - 0.05, 0, WALL_HEIGHT / 2), (0.1, 2 * half_y, WALL_HEIGHT), (200, 205, 205)),
        box((0, half_y + 0.05, WALL_HEIGHT / 2), (2 * half_x, 0.1, WALL_HEIGHT), (195, 200, 210)),
        box((0, -half_y - 0.05, WALL_HEIGHT / 2), (2 * half_x, 0.1, WALL_HEIGHT), (210, 200, 195)),
    ]
    x, y = places["table"]
    parts += [box((x, y, 0.72), (1.2, 0.7, 0.04), (120, 75, 45))]
    parts += [
        box((x + sx * 0.55, y + sy * 0.3, 0.35), (0.05, 0.05, 0.70), (90, 55, 35)) for sx in (-1, 1) for sy in (-1, 1)
    ]
    parts += [
        box((x - 0.3, y, 0.84), (0.20, 0.20, 0.20), (200, 60, 50)),
        box((x + 0.3, y, 0.79), (0.3, 0.2, 0.1), (60, 90, 170)),
    ]
    x, y = places["chair"]
    parts += [
        box((x, y, SEAT_HEIGHT - 0.02), (0.45, 0.45, 0.04), (60, 110, 80)),
        box((x - 0.21, y, 0.68), (0.04, 0.45, 0.46), (60, 110, 80)),
    ]
    parts += [
        box((x + sx * 0.2, y + sy * 0.2, 0.205), (0.04, 0.04, 0.41), (50, 80, 60)) for sx in (-1, 1) for sy in (-1, 1)
    ]
    x, y = places["box"]
    parts += [box((x, y, 0.2), (0.5, 0.4, 0.4), (170, 140, 60))]
    x, y = places["step"]
    parts += [box((x, y, STEP_HEIGHT / 2), (0.8, 0.6, STEP_HEIGHT), (130, 130, 140))]
    x, y = places["shelf"]
    parts += [box((x, y, 0.9), (0.9, 0.3, 1.8), (150, 110, 130))]
    return merge(parts)
