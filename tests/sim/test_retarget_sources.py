"""Motion files of every kind become a robot's motion with its limits kept; scenes scale with the person."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from bodydouble.cli import main
from bodydouble.errors import InputError
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.retarget.metrics import motion_metrics
from sim.retarget.own_motion import refine
from sim.retarget.pipeline import PipelineConfig, retarget_file
from sim.retarget.retarget import retarget_clip
from sim.retarget.scene import Scene, as_box
from sim.retarget.sources import SourceConfig, load_source
from sim.robots import RobotSpec
from sim.stage.stage import Stage
from tests.sim.stick_person import ANKLE_HEIGHT, HIP_WIDTH, ease, person


def box(centre: tuple[float, float], size: tuple[float, float, float], yaw: float = 0.0) -> np.ndarray:
    corners = (np.indices((2, 2, 2)).reshape(3, 8).T - [0.5, 0.5, 0.0]) * size
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])
    return corners @ turn.T + [*centre, 0.0]


def test_scene_heights_distances_and_boxes():
    scene = Scene((box((0.0, 0.0), (1.0, 2.0, 0.5)), box((3.0, 0.0), (1.0, 1.0, 0.2), 0.6)))
    np.testing.assert_allclose(scene.height(np.array([[0.4, 0.9], [0.6, 0.0], [3.0, 0.0]])), [0.5, 0.0, 0.2], atol=1e-9)
    points = np.array([[0.0, 0.0, 0.8], [0.7, 0.0, 0.1]])
    np.testing.assert_allclose(scene.distance(points), [0.3, 0.2], atol=1e-9)
    inside = np.array([[0.0, 0.0, 0.45]])
    np.testing.assert_allclose(scene.outside(inside, 0.1), [[0.0, 0.0, 0.6]], atol=1e-9)
    np.testing.assert_allclose(scene.scaled(np.array([1.0, 0.0]), 0.5, 0.8).height(np.array([[0.5, 0.0]])), [0.4])
    found = as_box(scene.solids[1])
    assert found is not None
    np.testing.assert_allclose(np.sort(found[1]), [0.1, 0.5, 0.5], atol=1e-9)
    wedge = scene.solids[0].copy()
    wedge[0, 2] = 0.3
    assert as_box(wedge) is None
    with pytest.raises(InputError, match="a solid is flat"):
        Scene((np.zeros((8, 3)),))


def step_up(height: float):
    """A person who steps onto a box, left foot first."""
    times = np.arange(180) / 30.0
    feet = np.zeros((180, 2, 3))
    contact = np.ones((180, 2))
    for i, (sign, start) in enumerate(((1.0, 1.5), (-1.0, 3.0))):
        share = ease(times, start, start + 0.8)
        feet[:, i, 0], feet[:, i, 1] = 0.45 * share, sign * 0.5 * HIP_WIDTH
        rise = ease(times, start, start + 0.5)
        feet[:, i, 2] = ANKLE_HEIGHT + height * rise + 0.1 * np.sin(np.pi * share) ** 2
        contact[(times > start) & (times < start + 0.8), i] = 0.0
    walk = np.stack([0.45 * ease(times, 1.4, 4.0), 0 * times, height * ease(times, 2.3, 3.6)], -1)
    walk[:, 1] = -0.05 * (ease(times, 1.0, 1.5) - ease(times, 2.2, 2.8)) + 0.05 * (
        ease(times, 2.4, 3.0) - ease(times, 3.8, 4.4)
    )
    return person(times, drop=0.05, walk=walk, feet=feet, contact=contact)


def test_a_step_onto_a_box_stands_on_the_scaled_box(g1: RobotSpec):
    scene = Scene((box((0.5, 0.0), (0.6, 1.0, 0.2)),))
    result = retarget_clip(step_up(0.2), g1, None, scene)
    figures = result.metrics
    assert figures["limit_violations"] == 0 and figures["foot_skate_cm_s"] < 0.2
    assert figures["penetration_mm"] < 5.0 and figures["foot_float_mm"] < 2.0
    rise = result.motion.root_pos[-1, 2] - result.motion.root_pos[0, 2]
    assert rise == pytest.approx(0.2 * result.leg_ratio, abs=0.01)
    assert result.scene is not None
    assert result.scene.solids[0][:, 2].max() == pytest.approx(0.2 * result.leg_ratio)


def test_lafan1_is_refined(g1: RobotSpec, data_dir: Path):
    path = data_dir / "motion_lafan1_g1" / "walk1_subject1.csv"
    own = load_source(path, g1, SourceConfig(start_s=10.0, end_s=15.0)).robot
    assert own is not None
    before = motion_metrics(own, g1)
    motion, figures = refine(own, g1)
    assert before["foot_skate_cm_s"] > 1.0 and before["self_contact_mm"] > 10.0
    assert figures["foot_skate_cm_s"] < 1.0 and figures["penetration_mm"] < 5.0
    assert figures["self_contact_mm"] < 1.0 and figures["limit_violations"] == 0 and figures["speed_violations"] == 0
    assert figures["joint_change_mean_rad"] < 0.05 and figures["base_change_mean_mm"] < 60.0
    assert motion.num_frames == own.num_frames


@pytest.mark.parametrize("hz", [1.5, 2.5])
def test_hands_that_clap_through_each_other_are_kept_apart(g1: RobotSpec, hz: float):
    """They meet by several centimetres within one step; the rows of the step before cannot have known of it."""
    swing = np.sin(2 * np.pi * hz * np.arange(100) / 50.0)
    joints = np.tile(g1.default_joint_pos, (100, 1))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        course = {
            "shoulder_pitch": -0.5,
            "shoulder_roll": 0.15 * sign,
            "shoulder_yaw": -0.8 * sign * swing,
            "elbow": 0.6,
        }
        for name, value in course.items():
            joints[:, g1.joint_names.index(f"{side}_{name}_joint")] = value
    root = np.tile([0.0, 0.0, kinematics(g1).standing_height()], (100, 1))
    own = make_robot_motion(g1, 50.0, root, np.tile([1.0, 0.0, 0.0, 0.0], (100, 1)), joints)
    assert motion_metrics(own, g1)["self_contact_mm"] > 50.0
    _, figures = refine(own, g1)
    assert figures["self_contact_mm"] < 1.0
    assert figures["limit_violations"] == 0 and figures["speed_violations"] == 0
    assert figures["joint_change_mean_rad"] < 0.02


@pytest.mark.parametrize(
    ("file", "solids"),
    [
        ("motion_cmu_bvh/bvh_data/cmu_12_01_walk.bvh", 0),
        ("motion_holosoma/climb/mocap_climb_seq_0/mocap_climb_seq_0_joint_positions_f900-3700.npy", 3),
        ("motion_holosoma/g1_29dof/sub3_largebox_003_mj.npz", 0),
        ("person_depth_utd_mhad/Skeleton/a27_s3_t1_skeleton.mat", 0),
        ("ros2_skeleton_bags/rosbags/gravacao_esqueletos", 0),
    ],
)
def test_files_of_every_kind_are_read(g1: RobotSpec, data_dir: Path, file: str, solids: int):
    source = load_source(data_dir / file, g1)
    assert len(source.solids) == solids
    if source.human is None:
        assert source.robot is not None and source.robot.duration_s > 5.0
        return
    names = source.human.joint_names
    joints = {name: source.human.joint_pos[:, i] for i, name in enumerate(names)}
    hips = next(((a, b) for a, b in (("left_hip", "right_hip"), ("LeftUpLeg", "RightUpLeg")) if a in joints))
    # A person, in metres, upright.
    height = np.median(0.5 * (joints[hips[0]] + joints[hips[1]])[:, 2])
    assert 0.6 < height < 1.6


def test_the_command_writes_a_stage_with_verdicts(tmp_path: Path, data_dir: Path):
    walk = data_dir / "motion_cmu_bvh" / "bvh_data" / "cmu_12_01_walk.bvh"
    assert main(["retarget", str(walk), "--out", str(tmp_path / "walk")]) == 0
    stage = Stage.load(tmp_path / "walk", robot="unitree_g1")
    written = json.loads((tmp_path / "walk" / "metrics.json").read_text())
    assert written["figures"]["limit_violations"] == 0 and written["figures"]["foot_skate_cm_s"] < 1.0
    assert len(written["feasibility"]) == len(stage.manifest["feasibility"]) >= int(stage.reference.duration_s)
    assert (tmp_path / "walk" / "feasibility.png").read_bytes().startswith(b"\x89PNG")


def test_bad_motion_files_are_refused_in_one_line(tmp_path: Path, g1: RobotSpec):
    def refused(name: str, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            load_source(tmp_path / name, g1)
        assert "\n" not in str(caught.value) and name in str(caught.value)

    refused("none.bvh", "no such motion file")
    (tmp_path / "a.fbx").write_bytes(b"x")
    refused("a.fbx", "of no known kind")
    (tmp_path / "bad.bvh").write_text("HIERARCHY nonsense")
    refused("bad.bvh", "is no BVH file")
    (tmp_path / "bad.npz").write_bytes(b"PK no")
    refused("bad.npz", "is no npz file")
    np.savez(tmp_path / "other.npz", fps=[50], joint_pos=np.zeros((9, 8)), joint_names=np.array(["hinge"]))
    refused("other.npz", "is of another robot than unitree_g1")
    np.save(tmp_path / "flat.npy", np.zeros((10, 3)))
    refused("flat.npy", r"expected joint positions \(T, 53, 3\)")
    np.save(tmp_path / "nan.npy", np.full((10, 53, 3), np.nan))
    refused("nan.npy", "NaN or infinity")
    scipy.io.savemat(tmp_path / "other.mat", {"x": np.zeros(3)})
    refused("other.mat", "holds no skeleton d_skel")
    (tmp_path / "bad.mat").write_bytes(b"no mat")
    refused("bad.mat", "cannot be read as mat")
    (tmp_path / "short.csv").write_text("1,2,3\n1,2,3\n")
    refused("short.csv", "rows of 36")


def test_a_scene_is_written_into_the_stage(tmp_path: Path, data_dir: Path):
    folder = data_dir / "motion_holosoma" / "climb" / "mocap_climb_seq_2"
    config = PipelineConfig(source=SourceConfig(end_s=3.0))
    result = retarget_file(next(folder.glob("*.npy")), "unitree_g1", tmp_path / "climb", config)
    assert result.figures["limit_violations"] == 0 and result.figures["foot_skate_cm_s"] < 1.0
    model = Stage.load(tmp_path / "climb").compile(visuals=False)
    assert sum(model.geom(i).name.startswith("furniture") for i in range(model.ngeom)) == 2
