"""Planes and objects of a scene: boxes and a tilted plane by hand, and the synthetic room's furniture."""

import json

import numpy as np
import pytest

from perception.scene_parts import LABELS_FILE, PARTS_FILE, SceneParts, like_somebody, scene_parts
from perception.static_scene import StaticScene
from perception.synthetic.room import Mesh, box, merge, room


def fine(mesh: Mesh, edge_m: float = 0.05) -> StaticScene:
    """The mesh with its triangles cut until no edge is longer, as a fused mesh has them."""
    corners = mesh.vertices[mesh.triangles]
    while True:
        sides = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2)
        long = sides.max(axis=1) > edge_m
        if not long.any():
            break
        first = sides[long].argmax(axis=1)[:, None, None]
        a, b, c = (np.take_along_axis(corners[long], (first + i) % 3, axis=1)[:, 0] for i in range(3))
        middle = 0.5 * (a + b)
        corners = np.concatenate([corners[~long], np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)])
    vertices, index = np.unique(np.round(corners.reshape(-1, 3), 5), axis=0, return_inverse=True)
    return StaticScene(vertices, index.reshape(-1, 3), np.full((len(vertices), 3), 0.5))


def of_kind(parts: SceneParts, kind: str):
    return [plane for plane in parts.planes if plane.kind == kind]


def sheet(corners: list[tuple[float, float, float]]) -> Mesh:
    """A rectangle that is seen from one side only, as floors and walls are."""
    triangles = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    return Mesh(np.array(corners, dtype=float), triangles, np.zeros((2, 3), np.uint8))


FLOOR = sheet([(-2, -2, 0), (2, -2, 0), (2, 2, 0), (-2, 2, 0)])


@pytest.fixture(scope="module")
def scene() -> StaticScene:
    """A floor, a wall of 4 x 2.4 m, a table of 1.2 x 0.8 m turned by 20 degrees with a box on it, a chest."""
    c, s = np.cos(0.35), np.sin(0.35)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    table = merge(
        [box((0, 0, 0.72), (1.2, 0.8, 0.04), (1, 1, 1))]
        + [box((x, y, 0.35), (0.06, 0.06, 0.7), (1, 1, 1)) for x in (-0.5, 0.5) for y in (-0.3, 0.3)]
        + [box((0.2, 0.1, 0.89), (0.3, 0.2, 0.3), (1, 1, 1))]
    )
    table = Mesh(table.vertices @ turn.T + [-0.6, 0.3, 0], table.triangles, table.colours)
    wall = sheet([(-2, 2, 0), (2, 2, 0), (2, 2, 2.4), (-2, 2, 2.4)])
    chest = box((1.2, -1.0, 0.25), (0.6, 0.4, 0.5), (1, 1, 1))
    return fine(merge([FLOOR, wall, table, chest]))


@pytest.fixture(scope="module")
def furnished(scene) -> SceneParts:
    return scene_parts(scene)


def test_floor_wall_and_tops(furnished):
    """The floor's 16 m^2 at height 0, a wall at y = 2, and a table top at 0.74 m of 1.2 x 0.8 m."""
    floor = of_kind(furnished, "floor")[0]
    assert floor.normal == pytest.approx((0, 0, 1), abs=1e-3) and floor.height_m == pytest.approx(0, abs=0.01)
    assert floor.area_m2 == pytest.approx(16, rel=0.1) and floor.extent_m == pytest.approx((4, 4), abs=0.25)
    wall = of_kind(furnished, "wall")[0]
    assert abs(wall.normal[1]) == pytest.approx(1, abs=0.01) and wall.centre[1] == pytest.approx(2.0, abs=0.06)
    assert wall.extent_m == pytest.approx((4, 2.4), abs=0.2)
    table = max(of_kind(furnished, "top"), key=lambda plane: plane.area_m2)
    assert table.height_m == pytest.approx(0.74, abs=0.03)
    assert table.extent_m == pytest.approx((1.2, 0.8), abs=0.1)
    assert table.centre[:2] == pytest.approx((-0.6, 0.3), abs=0.05)


def test_objects_have_their_boxes(furnished):
    """The table with its legs, the box on it as an object of its own, and the chest."""
    table, chest, small = furnished.objects
    assert table.half == pytest.approx((0.6, 0.4, 0.35), abs=0.06) and abs(table.yaw - 0.35) < 0.03
    assert chest.half == pytest.approx((0.3, 0.2, 0.23), abs=0.05) and chest.centre[:2] == pytest.approx(
        (1.2, -1.0), abs=0.03
    )
    assert chest.volume_m3 == pytest.approx(0.6 * 0.4 * 0.46, rel=0.15) and chest.flat_share > 0.8
    assert sorted(small.half[:2]) == pytest.approx([0.1, 0.15], abs=0.03)
    assert small.bottom_m == pytest.approx(0.77, abs=0.04)
    assert furnished.planes[small.on_plane].kind == "top" and (table.on_plane, chest.on_plane) == (-1, -1)


def test_each_vertex_knows_its_part(furnished):
    used = np.unique(furnished.vertex_part)
    assert used.min() >= -1 and used.max() == len(furnished.planes) + len(furnished.objects) - 1
    assert (furnished.vertex_part >= 0).mean() > 0.8


def test_a_tilted_plane():
    """A ramp that rises by 30 degrees: its normal is (-0.5, 0, 0.866), its middle 0.5 m high."""
    ramp = box((0, 0, 0), (2.0, 1.0, 0.02), (1, 1, 1))
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turned = ramp.vertices @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]).T + [0, 0, 0.56]
    parts = scene_parts(fine(merge([FLOOR, Mesh(turned, ramp.triangles, ramp.colours)])))
    (tilted,) = [plane for plane in of_kind(parts, "other") if plane.area_m2 > 1]
    assert np.array(tilted.normal) == pytest.approx(np.array([-0.5, 0, 0.866]), abs=0.01)
    assert tilted.extent_m == pytest.approx((2, 1), abs=0.1)
    assert tilted.height_m == pytest.approx(0.56, abs=0.03)


def test_the_same_mesh_gives_the_same_parts_and_the_files_hold_them(scene, furnished, tmp_path):
    one, two = furnished, scene_parts(scene)
    assert one.planes == two.planes and one.objects == two.objects
    np.testing.assert_array_equal(one.vertex_part, two.vertex_part)
    one.save(tmp_path)
    written = json.loads((tmp_path / PARTS_FILE).read_text())
    assert len(written["planes"]) == len(one.planes) and written["objects"][0]["half"] == list(one.objects[0].half)
    with np.load(tmp_path / LABELS_FILE, allow_pickle=False) as labels:
        np.testing.assert_array_equal(labels["vertex_part"], one.vertex_part)


def test_the_synthetic_rooms_furniture():
    """Floor and four walls; shelf, table, chair, box and step stand where they are; nobody is among them."""
    mesh = room(np.random.default_rng(0))
    middle = mesh.vertices[mesh.triangles].mean(axis=1)
    inside = (np.abs(middle) < (2.61, 2.41, 9)).all(axis=1) & (middle[:, 2] > -0.01)
    parts = scene_parts(fine(Mesh(mesh.vertices, mesh.triangles[inside], mesh.colours[inside]), 0.08))
    assert len(of_kind(parts, "floor")) == 1 and len(of_kind(parts, "wall")) == 4
    for place in ((1.75, 1.35), (-1.75, 0.9), (1.7, -1.3), (-1.6, -1.5), (0.2, 2.1)):
        off = [np.hypot(thing.centre[0] - place[0], thing.centre[1] - place[1]) for thing in parts.objects]
        assert min(off) < 0.2
    assert like_somebody(parts) == []


def test_a_round_thing_of_a_persons_size_may_be_somebody():
    """A cylinder of 30 cm and 1.7 m; lying down, or as a box, it is none."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = 0.15 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    vertices = np.concatenate([np.c_[ring, np.zeros(24)], np.c_[ring, np.full(24, 1.7)]])
    i, j = np.arange(24), (np.arange(24) + 1) % 24
    sides = np.concatenate([np.stack([i, j, i + 24], 1), np.stack([j, j + 24, i + 24], 1)])
    upright = Mesh(vertices, sides.astype(np.int32), np.zeros((len(sides), 3), np.uint8))
    (found,) = like_somebody(scene_parts(fine(merge([FLOOR, upright]))))
    assert found.centre[:2] == pytest.approx((0, 0), abs=0.03) and found.half[2] == pytest.approx(0.83, abs=0.05)
    lying = Mesh(vertices[:, [2, 1, 0]] + [0, 0, 0.15], sides.astype(np.int32), upright.colours)
    assert like_somebody(scene_parts(fine(merge([FLOOR, lying])))) == []
    assert like_somebody(scene_parts(fine(merge([FLOOR, box((0, 0, 0.85), (0.3, 0.3, 1.7), (1, 1, 1))])))) == []
