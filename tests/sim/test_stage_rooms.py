"""Rooms without a person: planes and objects of a reconstruction, movable objects, a standing reference, limits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
import trimesh

from bodydouble.errors import ContractError, InputError
from perception.scene_parts import scene_parts
from perception.static_scene import StaticScene
from sim.backend.cpu_batch import CpuBatch
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.gate.verify import VerifyConfig, verify
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.robots import robot_spec
from sim.stage import Stage, StageConfig, build_stage, limits
from sim.stage.flat import flat_stage
from sim.stage.furniture import FurnitureConfig
from sim.stage.movable import MovableConfig
from sim.stage.room_parts import load_parts
from sim.stage.scene_mesh import load_scene
from sim.stage.stage import file_hashes
from sim.stage.stand import StandConfig, free_place, standing_motion
from sim.tasks.tracking.config import TrackingConfig
from tests.policy.artifacts import policy_path, stage

__all__ = ["policy_path", "stage"]

THINGS = {
    "wall": ((0.04, 4.0, 2.0), (2.42, 0.0, 1.0)),
    "table": ((0.8, 0.8, 0.7), (1.4, -1.2, 0.35)),
    "on the table": ((0.2, 0.2, 0.2), (1.4, -1.2, 0.8)),
    "on the floor": ((0.24, 0.24, 0.3), (-1.2, 1.2, 0.15)),
}
"""Edges and middle of each thing."""
PUSHED = StageConfig(
    motion="stand",
    stand=StandConfig(seconds=1.0),
    furniture=FurnitureConfig(radius_m=5.0),
    movable=MovableConfig(objects=("small",)),
)


def room(noise: float = 0.002) -> trimesh.Trimesh:
    parts = [trimesh.creation.box((5.0, 4.0, 0.02)).subdivide_to_size(0.06)]
    parts[0].apply_translation((0.0, 0.0, -0.01))
    for size, centre in THINGS.values():
        part = trimesh.creation.box(size).subdivide_to_size(0.04)
        part.apply_translation(centre)
        parts.append(part)
    mesh = trimesh.util.concatenate(parts)
    # Undersides, and what they hide, are never seen.
    ahead = mesh.triangles_center + 1e-3 * mesh.face_normals
    hidden = (ahead[:, 2] < -1e-4) | (mesh.face_normals[:, 2] < -0.9)
    for size, centre in THINGS.values():
        hidden |= (np.abs(ahead - centre) < 0.5 * np.array(size)).all(axis=1)
    # The wall is seen from inside only.
    hidden |= (ahead[:, 0] > 2.39) & (ahead[:, 2] > 2e-3) & (mesh.face_normals[:, 0] > -0.9)
    mesh.update_faces(~hidden)
    mesh.remove_unreferenced_vertices()
    mesh.vertices = mesh.vertices + np.random.default_rng(0).normal(0.0, noise, mesh.vertices.shape)
    return mesh


@pytest.fixture(scope="module")
def reconstruction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `bodydouble reconstruct` leaves it where nobody moves."""
    folder = tmp_path_factory.mktemp("room")
    mesh = room()
    mesh.export(folder / "scene.ply")
    stored = load_scene(folder / "scene.ply")
    scene_parts(StaticScene(stored.vertices, stored.faces, stored.colors)).save(folder)
    return folder


@pytest.fixture(scope="module")
def pushed(reconstruction: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build_stage(reconstruction, tmp_path_factory.mktemp("pushed") / "stage", PUSHED)


def test_parts_come_into_the_frame_of_the_stage(reconstruction: Path, tmp_path: Path) -> None:
    mesh = load_scene(reconstruction / "scene.ply")
    shift = np.eye(4)
    shift[:3, 3] = [0.0, 0.0, 0.5]
    parts = load_parts(reconstruction, mesh, shift)
    assert parts is not None and "floor" in parts.kinds and "wall" in parts.kinds
    floor, wall = parts.of_kind("floor")[0], parts.of_kind("wall")[0]
    assert parts.offsets[floor] == pytest.approx(0.5, abs=0.005) and parts.normals[floor][2] > 0.999
    assert abs(parts.offsets[wall]) == pytest.approx(2.40, abs=0.02)
    assert parts.face_part.shape == (len(mesh.faces),) and (parts.face_part == floor).mean() > 0.2
    assert load_parts(tmp_path, mesh, np.eye(4)) is None
    for name in ("scene_parts.json", "scene_parts.npz"):
        shutil.copy(reconstruction / name, tmp_path / name)
    fewer = type(mesh)(mesh.vertices[:-1], mesh.faces[:10], mesh.colors[:-1])
    with pytest.raises(InputError, match="is of another scene than the one beside it"):
        load_parts(tmp_path, fewer, np.eye(4))
    for text in ("[]", '{"planes": [{"kind": "wall"}], "objects": []}', '{"planes": [], "objects": [{"on_plane": 3}]}'):
        (tmp_path / "scene_parts.json").write_text(text)
        with pytest.raises(InputError, match="is no list of planes and objects"):
            load_parts(tmp_path, mesh, np.eye(4))
    shutil.copy(reconstruction / "scene_parts.json", tmp_path / "scene_parts.json")
    (tmp_path / "scene_parts.npz").write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match="cannot be read as the scene's parts"):
        load_parts(tmp_path, mesh, np.eye(4))


def test_a_room_without_a_person_gets_a_standing_reference(pushed: Stage) -> None:
    figures, place = pushed.figures, pushed.manifest["stand"]
    assert pushed.manifest["motion"] == "stand" and "the robot stands" in str(pushed)
    assert place["clearance_m"] > 1.0 and figures["initial_penetration_mm"] < 5.0
    for name, (size, centre) in THINGS.items():
        away = np.abs(np.array([place["x"], place["y"]]) - centre[:2]) - 0.5 * np.array(size[:2])
        assert away.max() > 0.9, name
    assert pushed.reference.num_frames == 51 and np.ptp(pushed.reference.root_pos, axis=0).max() == 0
    # The wall is one box along itself.
    assert figures["wall_boxes"] == 1 and figures["step_error_mm"] < 15.0
    assert figures["steps_per_s"] > 100 and figures["collision_geoms"] >= 5


def test_movable_objects_rest_weigh_and_can_be_pushed(pushed: Stage) -> None:
    objects = {number["number"]: number for number in pushed.manifest["objects"]}
    moving = {number: entry for number, entry in objects.items() if entry["state"] == "movable"}
    assert len(moving) == pushed.figures["movable_objects"] == 2 and len(objects) > 2
    model = pushed.compile()
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    joints = len(pushed.robot.joint_names)
    data.qpos[: 7 + joints] = [
        *pushed.reference.root_pos[0], *pushed.reference.root_quat[0], *pushed.reference.joint_pos[0]
    ]  # fmt: skip
    mujoco.mj_forward(model, data)
    assert data.contact.dist.min() > -0.005
    bodies = {number: model.body(f"object_{number:02d}").id for number in moving}
    before = {number: data.xpos[body].copy() for number, body in bodies.items()}
    mujoco.mj_step(model, data, 200)
    for number, body in bodies.items():
        assert np.linalg.norm(data.xpos[body] - before[number]) < 0.005, "it rests"
        wanted = next(s for s, c in THINGS.values() if np.linalg.norm(np.array(c) - objects[number]["centre"]) < 0.1)
        assert model.body_mass[body] == pytest.approx(250.0 * np.prod(wanted), rel=0.3)
        assert model.body_mass[body] == pytest.approx(objects[number]["mass_kg"], rel=1e-4)
        largest = model.body_inertia[body].max()
        assert largest == pytest.approx(model.body_mass[body] * (wanted[1] ** 2 + wanted[2] ** 2) / 12, rel=0.4)
    on_table = max(bodies.values(), key=lambda body: data.xpos[body][2])
    assert data.xpos[on_table][2] == pytest.approx(0.7, abs=0.015)
    data.qvel[model.body_dofadr[on_table]] = -4.0
    mujoco.mj_step(model, data, 300)
    assert data.xpos[on_table][2] < 0.4, "pushed from the table"


def test_plain_mujoco_opens_it_from_another_folder(pushed: Stage, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "stage"
    shutil.copytree(pushed.path, moved)
    code = (
        "import sys, mujoco\n"
        f"m = mujoco.MjModel.from_xml_path({str(moved / 'stage.xml')!r})\n"
        "d = mujoco.MjData(m); mujoco.mj_step(m, d, 10)\n"
        "ours = {'bodydouble', 'sim', 'perception', 'policy', 'robot', 'worldmodel'} & set(sys.modules)\n"
        "print(m.nu, m.njnt, m.nmesh > 20, sorted(ours))"
    )
    found = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["29", "32", "True", "[]"]


def test_objects_are_asked_for_by_number(reconstruction: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"movable object 99: the scene has objects 0 to \d"):
        build_stage(reconstruction, tmp_path / "a", StageConfig(motion="stand", movable=MovableConfig(("99",))))
    with pytest.raises(InputError, match="expected a number of an object, or `small`"):
        MovableConfig(("chair",))
    with pytest.raises(InputError, match="density is 0"):
        MovableConfig(density=0.0)
    shutil.copy(reconstruction / "scene.ply", tmp_path / "scene.ply")
    with pytest.raises(InputError, match="its objects are not known"):
        build_stage(tmp_path, tmp_path / "b", PUSHED)


def test_what_cannot_stand_is_said(reconstruction: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"human\.npz: no such file.*--config\.motion stand"):
        build_stage(reconstruction, tmp_path / "a")
    mesh = load_scene(reconstruction / "scene.ply")
    with pytest.raises(InputError, match=r"has [\d.]+ m to the nearest thing, expected 3\.0 m"):
        free_place(mesh, StandConfig(min_clearance_m=3.0), 0.06, 1.9)
    with pytest.raises(InputError, match=r"place \(1\.4, -1\.2\) has 0\.00 m"):
        free_place(mesh, StandConfig(place=(1.4, -1.2)), 0.06, 1.9)
    found = free_place(mesh, StandConfig(place=(0.0, 0.0)), 0.06, 1.9)
    assert (found.x, found.y) == (0.0, 0.0)
    with pytest.raises(InputError, match="has no feet to stand on"):
        standing_motion(robot_spec("ur5e_2f85"), found, 1.0)
    with pytest.raises(InputError, match="seconds 0"):
        StandConfig(seconds=0.0)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_GEOMS", 10, r"\d+ geoms, the limit is 10"),
        ("MAX_TRIANGLES", 100, r"\d+ mesh triangles, the limit is 100"),
        ("MAX_MODEL_BYTES", 100, r"stage\.xml: \d+ bytes, the limit is 100"),
        ("MAX_STAGE_BYTES", 1000, r"\d+ bytes, the limit is 1000"),
        ("MAX_STAGE_FILES", 3, r"more than 3 files"),
    ],
)
def test_a_stage_above_a_limit_is_refused(
    pushed: Stage, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str
) -> None:
    monkeypatch.setattr(limits, limit, value)
    with pytest.raises(InputError, match=message):
        Stage.load(pushed.path).compile()


def test_links_in_a_stage_are_refused(pushed: Stage, tmp_path: Path) -> None:
    shutil.copytree(pushed.path, tmp_path / "stage")
    (tmp_path / "stage" / "assets" / "link.stl").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="is no plain file"):
        Stage.load(tmp_path / "stage")


def test_the_gate_refuses_stages_that_do_not_fit(policy_path: Path, stage: Stage, standing, tmp_path: Path) -> None:
    few = VerifyConfig(episodes=1, threads=1)
    bare = tmp_path / "bare"
    shutil.copytree(stage.path, bare)
    text = (bare / "stage.xml").read_text()
    start, end = text.index("<actuator>"), text.index("</actuator>") + len("</actuator>")
    keys = text.index("<keyframe>"), text.index("</keyframe>") + len("</keyframe>")
    assert end < keys[0] or keys[1] < start
    for a, b in sorted(((start, end), keys), reverse=True):
        text = text[:a] + text[b:]
    (bare / "stage.xml").write_text(text)
    with pytest.raises(InputError, match=r"stage\.xml: is not as `bodydouble stage` wrote it"):
        verify(policy_path, bare, few)
    manifest = json.loads((bare / "stage.json").read_text())
    manifest["files"] = file_hashes(bare, list(manifest["files"]))
    (bare / "stage.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"has 0 actuators, expected one per joint of unitree_g1"):
        Stage.load(bare).compile(visuals=False)
    with pytest.raises(ContractError, match="was exported for another stage"):
        verify(policy_path, bare, few)
    go1 = robot_spec("unitree_go1")
    root = np.tile([0.0, 0.0, kinematics(go1).standing_height()], (4, 1))
    joints = np.tile(go1.default_joint_pos, (4, 1))
    dog = flat_stage(go1, make_robot_motion(go1, 50.0, root, np.tile([1.0, 0, 0, 0], (4, 1)), joints), tmp_path / "dog")
    with pytest.raises(ContractError, match="is a policy for robot unitree_g1, this robot is unitree_go1"):
        verify(policy_path, dog.path, few)
    changed = tmp_path / "changed"
    shutil.copytree(stage.path, changed)
    standing.save(changed / "reference.npz")
    with pytest.raises(InputError, match=r"reference\.npz: is not as"):
        verify(policy_path, changed, few)
    with pytest.raises(InputError, match=r"stage\.xml: is a file, expected a stage's folder"):
        verify(policy_path, stage.model_path, few)


def test_objects_go_back_where_an_episode_begins(pushed: Stage) -> None:
    backend = CpuBatch(pushed.compile(visuals=False), 2, 0, 1)
    env = TrackingEnv(backend, TrackedRobot.from_spec(pushed.robot), pushed.motions, TrackingConfig(episode_s=0.04))
    env.reset()
    rest = backend.model.qpos0[36:].astype(np.float32)
    qpos, qvel = backend.get_state()
    qpos[:, 36:39] += 0.3
    backend.set_state(qpos, qvel)
    action = np.zeros((2, 29), dtype=np.float32)
    env.step(action)
    assert np.abs(backend.get_state()[0][:, 36:39] - rest[:3]).max() > 0.2
    assert env.step(action).truncated.all()
    np.testing.assert_array_equal(backend.get_state()[0][:, 36:], np.tile(rest, (2, 1)))
