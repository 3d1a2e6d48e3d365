"""From a reconstruction to a stage: floor, furniture, transform, refusal of bad input."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
import trimesh

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_from_axis_angle, quat_to_matrix
from sim.robots import RobotSpec
from sim.stage import Stage, StageConfig, build_stage
from sim.stage.builder import scene_penetration, transform_human
from sim.stage.floor import find_floor
from sim.stage.furniture import Box, FurnitureConfig, furniture_boxes
from sim.stage.scene_mesh import SceneMesh, load_scene, split_by_color, thin_out
from tests.sim.stick_person import squat_and_reach

TILT = make_se3(
    quat_to_matrix(quat_from_axis_angle(np.array([0.8, 0.6, 0.0]), np.array(0.05))), np.array([0.1, 0.2, -0.3])
)
BOXES = {"cube": ((0.4, 0.4, 0.4), (-0.9, 0.9, 0.2)), "table": ((0.8, 0.6, 0.04), (1.2, -1.0, 0.72))}
COLORS = {"cube": (40, 60, 200), "table": (150, 90, 40)}


def room(noise: float = 0.0) -> trimesh.Trimesh:
    """A floor of 5 x 4 m, a cube, a table top, a wall; turned by 0.4 rad about the vertical."""
    parts = []
    xy = np.stack(np.meshgrid(np.linspace(-2.5, 2.5, 51), np.linspace(-2, 2, 41), indexing="ij"), -1).reshape(-1, 2)
    index = np.arange(51 * 41).reshape(51, 41)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    floor = trimesh.Trimesh(np.column_stack([xy, np.zeros(len(xy))]), np.concatenate([np.c_[a, b, c], np.c_[a, c, d]]))
    floor.visual.vertex_colors = np.array([120, 110, 100, 255], np.uint8)
    parts.append(floor)
    for name, (size, centre) in {**BOXES, "wall": ((0.05, 4.0, 2.0), (2.0, 0.0, 1.0))}.items():
        part = trimesh.creation.box(size).subdivide_to_size(0.08)
        part.apply_translation(centre)
        part.visual.vertex_colors = np.array([*COLORS.get(name, (210, 210, 200)), 255], np.uint8)
        parts.append(part)
    mesh = trimesh.util.concatenate(parts)
    mesh.vertices = mesh.vertices + np.random.default_rng(0).normal(0.0, noise, mesh.vertices.shape)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(0.4, [0, 0, 1]))
    return mesh


def as_scene(mesh: trimesh.Trimesh) -> SceneMesh:
    colors = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255.0
    return SceneMesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), colors)


@pytest.fixture(scope="module")
def reconstruction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reconstruction")
    mesh = room(noise=0.003)
    mesh.apply_transform(TILT)
    mesh.export(folder / "scene.ply")
    transform_human(squat_and_reach(6.0), TILT).save(folder / "human.npz")
    return folder


@pytest.fixture(scope="module")
def stage(reconstruction: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build_stage(reconstruction, tmp_path_factory.mktemp("stages") / "stage")


def test_floor_is_levelled_and_put_at_zero():
    scene = as_scene(room(noise=0.003)).transformed(TILT)
    floor = find_floor(scene)
    assert floor.tilt_deg == pytest.approx(np.degrees(0.05), abs=0.1)
    assert floor.residual_mm < 6.0 and floor.area_m2 == pytest.approx(20.0, rel=0.1)
    level = scene.transformed(floor.T_stage_world)
    assert np.median(level.vertices[:2091, 2]) == pytest.approx(0.0, abs=1e-3)
    np.testing.assert_allclose(floor.T_stage_world[:3, :3] @ floor.T_stage_world[:3, :3].T, np.eye(3), atol=1e-12)


def test_scene_without_floor_is_refused():
    wall = trimesh.creation.box((0.01, 2, 2))
    with pytest.raises(InputError, match="no level surface"):
        find_floor(SceneMesh(np.asarray(wall.vertices), np.asarray(wall.faces), np.ones((8, 3))))


def test_boxes_cover_what_was_seen_and_leave_the_rest_free():
    scene = as_scene(room())
    boxes, figures = furniture_boxes(scene, np.zeros((1, 2)), FurnitureConfig())
    assert 3 <= len(boxes) <= 80 and figures["furniture_boxes"] == len(boxes)
    assert all(box.yaw == pytest.approx(0.4, abs=0.01) for box in boxes)
    turn = np.array([[np.cos(0.4), -np.sin(0.4), 0], [np.sin(0.4), np.cos(0.4), 0], [0, 0, 1]])

    def inside(point: np.ndarray) -> bool:
        local = [turn.T @ (turn @ point - box.centre) for box in boxes]
        return any(np.all(np.abs(p) <= box.half + 1e-9) for p, box in zip(local, boxes, strict=True))

    assert (
        inside(np.array([-0.9, 0.9, 0.39]))
        and inside(np.array([1.2, -1.0, 0.73]))
        and inside(np.array([-0.71, 0.9, 0.2]))
    )
    # Under the table, over the cube and in the middle of the room there is nothing.
    assert (
        not inside(np.array([1.2, -1.0, 0.4]))
        and not inside(np.array([-0.9, 0.9, 0.6]))
        and not inside(np.zeros(3) + 0.3)
    )


def test_box_count_is_limited_and_far_things_are_left_out():
    scene = as_scene(room())
    few, _ = furniture_boxes(scene, np.zeros((1, 2)), FurnitureConfig(max_boxes=2))
    assert len(few) == 2
    near, _ = furniture_boxes(scene, np.array([[-5.0, -5.0]]), FurnitureConfig(radius_m=0.5))
    assert near == []


def test_stage_opens_in_plain_mujoco_with_visuals_apart(stage: Stage):
    model = mujoco.MjModel.from_xml_path(str(stage.model_path))
    names = [model.geom(i).name for i in range(model.ngeom)]
    boxes = [i for i, name in enumerate(names) if name.startswith("furniture")]
    shown = [i for i, name in enumerate(names) if name.startswith("scene_")]
    assert len(boxes) == stage.figures["furniture_boxes"] > 2
    assert len(shown) >= 3 and np.all(model.geom_group[shown] == 2)
    assert not model.geom_contype[shown].any() and not model.geom_conaffinity[shown].any()
    assert np.all(model.geom_contype[boxes] == 1)
    lean = stage.compile(visuals=False)
    assert lean.nmesh == 0 and lean.body_mass.sum() == pytest.approx(model.body_mass.sum())


def test_stage_figures_and_placement(stage: Stage):
    figures = stage.figures
    assert figures["floor_tilt_deg"] == pytest.approx(np.degrees(0.05), abs=0.1)
    assert figures["scene_penetration_start_mm"] == 0.0
    assert figures["foot_skate_cm_s"] < 0.1 and figures["limit_violations"] == 0
    # The stick person's ankles are 90 mm above the floor.
    assert figures["feet_over_floor_mm"] == pytest.approx(90.0, abs=3.0)
    assert np.array(stage.manifest["T_stage_world"]).shape == (4, 4)
    assert stage.manifest["clip_end"] - stage.manifest["clip_start"] == pytest.approx(6.0 * 50, abs=3)
    assert "unitree_g1" in str(stage)


def test_second_build_leaves_the_stage_alone(stage: Stage, reconstruction: Path):
    before = (stage.path / "stage.json").stat().st_mtime_ns
    again = build_stage(reconstruction, stage.path)
    assert (stage.path / "stage.json").stat().st_mtime_ns == before and again.sha256 == stage.sha256
    build_stage(reconstruction, stage.path, StageConfig(visual_colors=3))
    assert (stage.path / "stage.json").stat().st_mtime_ns != before


def test_penetration_of_a_box_is_measured(g1: RobotSpec, standing):
    # A box whose face is 20 mm inside of the torso's capsule of radius 90 mm, whose axis is 10 mm ahead.
    torso = standing.body_pos[0, standing.body_names.index("torso_link")]
    box = Box(torso + np.array([0.58, 0.0, 0.14]), np.array([0.5, 0.05, 0.05]), 0.0)
    figures = scene_penetration(g1, [box], standing)
    assert figures["scene_penetration_start_mm"] == pytest.approx(20.0, abs=3.0)
    assert figures["scene_contact_share"] == 1.0


def test_thinning_and_colours():
    scene = as_scene(room())
    thin = thin_out(scene, 0.1)
    assert len(thin.faces) < len(scene.faces)
    assert np.abs(thin.vertices.max(axis=0) - scene.vertices.max(axis=0)).max() < 0.1
    pieces = split_by_color(scene, 8)
    assert sum(len(piece.faces) for _, piece in pieces) == len(scene.faces)
    blue = [color for color, _ in pieces if color[2] > color[0] + 0.3]
    assert len(blue) == 1


def test_missing_and_damaged_files_are_named(tmp_path: Path, reconstruction: Path):
    with pytest.raises(InputError, match=r"scene\.ply: no such file; make it with `bodydouble reconstruct`"):
        build_stage(tmp_path, tmp_path / "out")
    (tmp_path / "scene.ply").write_bytes((reconstruction / "scene.ply").read_bytes()[:500])
    with pytest.raises(InputError, match=r"human\.npz: no such file"):
        build_stage(tmp_path, tmp_path / "out")
    (tmp_path / "human.npz").write_bytes((reconstruction / "human.npz").read_bytes())
    with pytest.raises(InputError, match=r"scene\.ply"):
        build_stage(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="holds no triangles"):
        (tmp_path / "points.ply").write_text(POINTS)
        load_scene(tmp_path / "points.ply")


POINTS = """ply
format ascii 1.0
element vertex 1
property float x
property float y
property float z
end_header
0 0 0
"""


def test_convex_furniture_follows_the_shape_and_stands_in_the_model(reconstruction: Path, tmp_path: Path) -> None:
    """Plain MuJoCo opens the model; a ray under the table passes, one onto its top is stopped there."""
    stage = build_stage(reconstruction, tmp_path / "stage", StageConfig(collision="convex"))
    assert stage.figures["convex_pieces"] >= 1 and stage.figures["furniture_boxes"] >= 2, (
        "the cube is a step, the wall large"
    )
    assert stage.figures["collision_volume_error"] < 1.0 and stage.figures["step_error_mm"] < 15.0
    model = mujoco.MjModel.from_xml_path(str(stage.model_path))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    c, s = np.cos(0.4), np.sin(0.4)
    top = np.array([c * 1.2 + s * 1.0, s * 1.2 - c * 1.0, 1.5, 1.0])
    start = np.array(stage.manifest["T_stage_world"]) @ TILT @ top
    groups = np.array([0, 0, 0, 1, 0, 0], np.uint8)
    hit = np.zeros(1, np.int32)
    down = np.array([0.0, 0.0, -1.0])
    distance = mujoco.mj_ray(model, data, start[:3], down, groups, 1, -1, hit)
    assert distance == pytest.approx(1.5 - 0.74, abs=0.05)
    below = start[:3] - [0.0, 0.0, 1.1]
    assert mujoco.mj_ray(model, data, below, down, groups, 1, -1, hit) == -1
