"""The static scene: votes by hand, and the synthetic room rebuilt without what moved through it."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

import dataclasses

import numpy as np
import open3d as o3d
import pytest

from bodydouble.errors import InputError
from perception.static_scene import (
    SceneConfig,
    StaticScene,
    reconstruct_scene,
    seen_free,
    without_remains,
)
from perception.synthetic.room import box, merge, room
from perception.views import View
from sim.stage.scene_mesh import load_scene
from tests.perception.small_scenes import MOVER, distance, poses, true_scene, view

CONFIG = SceneConfig(voxel_m=0.03)
ROOM = room(np.random.default_rng(0))
EYES = ((1.7, -1.2, 1.6), (-1.0, 1.6, 1.6))
"""Two places to stand, opposite each other; from both the middle of the room is in view."""


def around(eye: tuple[float, float, float], frames: int) -> np.ndarray:
    """A camera that sways a little while it looks at the middle of the room."""
    sway = 0.25 * np.sin(np.arange(frames))
    return poses(eye, [(float(s), float(-s), 0.5) for s in sway])


@pytest.fixture(scope="module")
def passing() -> list[View]:
    """Two cameras, 16 frames each, while something of a person's size crosses the room."""
    places = [(x, 0.1) for x in np.linspace(-0.8, 0.8, 16)]
    return [view(ROOM, around(eye, 16), places, name=f"cam{i}", seed=i) for i, eye in enumerate(EYES)]


@pytest.fixture(scope="module")
def rebuilt(passing) -> StaticScene:
    return reconstruct_scene(passing, CONFIG)


def test_the_surface_is_the_rooms(rebuilt):
    """Half of the vertices lie within 5 mm of a true surface and nine of ten within 2 cm, the depth being noisy."""
    error = distance(rebuilt.vertices, ROOM)
    assert np.median(error) < 0.005
    assert np.quantile(error, 0.9) < 0.02
    assert len(rebuilt.vertices) > 5000
    assert np.isfinite(rebuilt.vertices).all() and np.isfinite(rebuilt.colors).all()


def test_the_same_views_give_the_same_mesh_bit_for_bit(passing, rebuilt):
    again = reconstruct_scene(passing, CONFIG)
    for one, other in ((again.vertices, rebuilt.vertices), (again.triangles, rebuilt.triangles)):
        np.testing.assert_array_equal(one, other)


def test_the_floor_is_at_zero():
    """Exact depth gives the floor to a millimetre, though the cameras see it aslant."""
    views = [view(ROOM, around(eye, 8), name=f"cam{i}") for i, eye in enumerate(EYES)]
    vertices = reconstruct_scene(views, CONFIG).vertices
    floor = vertices[(np.abs(vertices) < (0.7, 0.7, 0.05)).all(axis=1)]
    assert len(floor) > 500
    assert np.abs(floor[:, 2]).mean() < 0.001


def test_the_floor_is_complete_where_both_cameras_look(rebuilt):
    grid = np.stack(np.meshgrid(np.arange(-0.6, 0.61, 0.1), np.arange(-0.4, 0.41, 0.1), [0.0]), axis=-1).reshape(-1, 3)
    gap = rebuilt.raycaster().compute_distance(o3d.core.Tensor(grid.astype(np.float32))).numpy()
    assert np.quantile(gap, 0.95) < 0.03


def test_what_moved_is_not_in_the_scene(passing, rebuilt):
    """Where the mover's trunk passed there is nothing; without the votes there would be."""
    low, high = (-0.9, -0.1, 0.2), (0.9, 0.3, 1.5)

    def between(scene: StaticScene) -> int:
        return int(((scene.vertices > low) & (scene.vertices < high)).all(axis=1).sum())

    assert between(rebuilt) == 0
    blind = dataclasses.replace(CONFIG, moving_share=2.0)
    assert between(reconstruct_scene(passing, blind)) > 100


def test_what_stands_still_stays():
    """The same box that never moves is furniture."""
    still = [view(ROOM, around(eye, 8), [(0.2, 0.1)] * 8, name=f"cam{i}") for i, eye in enumerate(EYES)]
    scene = reconstruct_scene(still, CONFIG)
    furnished = merge([ROOM, dataclasses.replace(MOVER, vertices=MOVER.vertices + np.array([0.2, 0.1, 0.0]))])
    inside = (np.abs(scene.vertices - (0.2, 0.1, 0.8)) < (0.25, 0.2, 0.7)).all(axis=1)
    assert inside.sum() > 300
    assert np.quantile(distance(scene.vertices[inside], furnished), 0.9) < 0.035  # its edges are seen by few pixels


def test_colours_are_those_of_the_surfaces(rebuilt):
    """The floor is brown: red over green over blue, in the proportions of its paint."""
    floor = (np.abs(rebuilt.vertices) < (0.6, 0.5, 0.02)).all(axis=1)
    color = rebuilt.colors[floor].mean(axis=0)
    np.testing.assert_allclose(color / color.sum(), np.array([150, 120, 90]) / 360, atol=0.02)
    assert 0.3 < color.max() <= 1.0


def test_the_file_holds_the_mesh_and_its_colours(rebuilt, tmp_path):
    rebuilt.save(str(tmp_path / "scene.ply"))
    mesh = load_scene(tmp_path / "scene.ply")
    np.testing.assert_allclose(mesh.vertices, rebuilt.vertices, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, rebuilt.triangles)
    np.testing.assert_allclose(mesh.colors, rebuilt.colors, atol=0.5 / 255 + 1e-6)


def test_a_file_that_cannot_be_written_is_named(rebuilt, tmp_path):
    with pytest.raises(InputError, match=r"scene\.ply"):
        rebuilt.save(str(tmp_path / "none" / "scene.ply"))


def test_small_loose_pieces_are_dropped():
    """A tile of 10 cm that floats before a wall, and one of 30 cm: 0.01 and 0.09 m^2."""
    wall = box((0, 2.0, 1.0), (3, 0.1, 3), (200, 200, 200))
    small, large = (box((x, 1.5, 1.0), (size, 0.02, size), (90, 90, 90)) for x, size in ((-0.4, 0.1), (0.4, 0.3)))
    front = view(merge([wall, small, large]), poses((0, 0, 1), [(0, 1, 1)] * 6))
    scene = reconstruct_scene([front], dataclasses.replace(CONFIG, voxel_m=0.02, min_component_m2=0.05))
    forward = scene.vertices[scene.vertices[:, 1] < 1.8]
    assert len(forward) and (forward[:, 0] > 0.2).all()
    every = reconstruct_scene([front], dataclasses.replace(CONFIG, voxel_m=0.02, min_component_m2=0.001))
    assert (every.vertices[every.vertices[:, 1] < 1.8][:, 0] < -0.3).any()


def test_far_depth_is_not_used():
    """A wall at 2 m and one at 4 m beside it: with depth up to 3 m the scene is the near one alone."""
    walls = [box((-1.0, 2.0, 1.0), (2, 0.1, 4), (200, 200, 200)), box((2.0, 4.0, 1.0), (4, 0.1, 6), (200, 200, 200))]
    front = view(merge(walls), poses((0, 0, 1), [(0, 1, 1)] * 6))
    assert reconstruct_scene([front], CONFIG).vertices[:, 1].max() > 3.5
    assert reconstruct_scene([front], dataclasses.replace(CONFIG, max_depth_m=3.0)).vertices[:, 1].max() < 2.5


def test_nothing_within_reach_is_said():
    front = view(box((0, 3.0, 1.0), (6, 0.1, 4), (200, 200, 200)), poses((0, 0, 1), [(0, 1, 1)] * 6))
    with pytest.raises(InputError, match=r"seen 3 times within 2\.5 m"):
        reconstruct_scene([front], dataclasses.replace(CONFIG, max_depth_m=2.5))


def test_a_frame_without_any_depth_does_no_harm():
    front = view(ROOM, around(EYES[0], 6))
    gap = dataclasses.replace(front, depth_mm=np.concatenate([front.depth_mm[:-1], 0 * front.depth_mm[-1:]]))
    assert len(reconstruct_scene([gap], CONFIG).triangles) > 1000


def test_a_surface_needs_more_sightings_than_the_least_weight():
    front = view(ROOM, around(EYES[0], 3))
    with pytest.raises(InputError, match=r"no surface was seen .*3 times"):
        reconstruct_scene([front], CONFIG)
    assert len(reconstruct_scene([front], dataclasses.replace(CONFIG, min_weight=2.0)).triangles)


def test_views_without_colour_are_refused():
    front = view(ROOM, around(EYES[0], 3))
    with pytest.raises(InputError, match="no colour images"):
        reconstruct_scene([dataclasses.replace(front, color=[None] * 3)], CONFIG)


def test_colour_of_another_size_is_refused():
    front = view(ROOM, around(EYES[0], 3))
    halved = [color[::2, ::2] for color in front.color if color is not None]
    with pytest.raises(InputError, match="camera: colour is 80x60, depth 160x120"):
        reconstruct_scene([dataclasses.replace(front, color=halved)], CONFIG)


def test_a_place_was_free_if_something_left_it(passing):
    """The mover's places were free at other times, the room's furniture never."""
    config = SceneConfig()
    mover = np.array([0.0, 0.1, 0.8]) + 0.9 * (np.random.default_rng(0).random((200, 3)) - 0.5) * (0.4, 0.3, 1.5)
    assert seen_free(mover, passing, config).mean() > 0.9
    furniture = ROOM.vertices[ROOM.triangles[12:]].mean(axis=1)
    assert seen_free(furniture, passing, config).mean() < 0.02


def test_remains_on_the_floor_go_and_only_where_the_body_came():
    """Two boards of 5 cm in a mesh of the room, on a floor that every frame shows bare: left of a body, far from it."""
    boards = [box((x, 0.0, 0.025), (0.3, 0.3, 0.05), (10, 10, 10)) for x in (-0.4, 0.4)]
    views = [view(ROOM, around(eye, 8), name=f"cam{i}") for i, eye in enumerate(EYES)]
    mesh = merge([ROOM, *boards])
    body = np.random.default_rng(0).uniform((-0.6, -0.2, 0.0), (-0.2, 0.2, 0.1), (2000, 3))
    scene = without_remains(true_scene(mesh), views, np.zeros(1, np.int64), body[None], 0.0, SceneConfig())
    top = (np.abs(scene.vertices[:, 2] - 0.05) < 1e-6) & (np.abs(scene.vertices[:, 1]) < 0.2)
    left = top & (np.abs(scene.vertices[:, 0] + 0.4) < 0.2)
    right = top & (np.abs(scene.vertices[:, 0] - 0.4) < 0.2)
    assert left.sum() == 0 and right.sum() == 4


@pytest.mark.parametrize(("stays", "kept"), [(True, False), (False, True)])
def test_what_is_seen_only_with_the_body_there_is_the_body(stays: bool, kept: bool):
    """Somebody like a box of 0.4 x 0.4 x 1.2 m, there all the time; or such a box where somebody was for a while."""
    solid = box((0.0, 0.0, 0.6), (0.4, 0.4, 1.2), (10, 10, 10))
    room = merge([ROOM, solid])
    views = [view(room, around(eye, 8), name=f"cam{i}") for i, eye in enumerate(EYES)]
    surface = np.random.default_rng(0).uniform((-0.22, -0.22, 0.0), (0.22, 0.22, 1.22), (4000, 3))
    times = views[0].times_ns[[0, -1]]
    body = np.stack([surface, surface if stays else surface + np.array([3.0, 0.0, 0.0])])
    fine = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(solid.vertices), o3d.utility.Vector3iVector(solid.triangles)
    ).subdivide_midpoint(4)
    whole = true_scene(ROOM)
    both = StaticScene(
        np.concatenate([whole.vertices, np.asarray(fine.vertices)]),
        np.concatenate([whole.triangles, np.asarray(fine.triangles) + len(whole.vertices)]),
        np.zeros((len(whole.vertices) + len(fine.vertices), 3)),
    )
    scene = without_remains(both, views, times, body, 0.0, SceneConfig())
    inside = (np.abs(scene.vertices[:, :2]) < 0.21).all(axis=1) & (scene.vertices[:, 2] > 0.1)
    assert inside.any() == kept
