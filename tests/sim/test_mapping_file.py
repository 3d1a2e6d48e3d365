"""Any MJCF as a robot that follows a person, by a short mapping file; the example of docs/retargeting.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from bodydouble.cli import main
from bodydouble.errors import InputError
from sim.retarget.hand import retarget_hand
from sim.retarget.retarget import retarget_clip
from sim.robots import RobotSpec, robot_spec
from sim.stage.stage import Stage
from tests.sim.stick_person import squat_and_reach, step_forward

HUMANOID = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "humanoid.xml"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "retargeting.md"


def example() -> str:
    """The mapping file that the documentation shows."""
    return re.findall(r"```toml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[0]


def write(folder: Path, text: str) -> Path:
    (folder / "humanoid.xml").write_text(HUMANOID.read_text())
    path = folder / "humanoid.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def humanoid(tmp_path_factory: pytest.TempPathFactory) -> RobotSpec:
    return robot_spec(str(write(tmp_path_factory.mktemp("humanoid"), example())))


def test_the_documented_mapping_is_a_robot(humanoid: RobotSpec):
    assert humanoid.name == "gymnasium_humanoid" and humanoid.num_joints == 17
    assert humanoid.follow is not None and humanoid.follow.describe() == "whole body"
    knee = humanoid.joint_names.index("left_knee")
    # gear 200, control up to 0.4
    assert humanoid.effort_limit[knee] == pytest.approx(80.0)
    assert humanoid.joint_lower[knee] < humanoid.default_joint_pos[knee] < humanoid.joint_upper[knee]
    model = humanoid.mjspec(visuals=False).compile()
    assert model.nu == 17 and [model.geom(i).name for i in range(model.ngeom)].count("floor") == 0


@pytest.mark.parametrize("clip", [squat_and_reach, step_forward])
def test_a_mapped_humanoid_follows_a_person(clip, humanoid: RobotSpec):
    figures = retarget_clip(clip(), humanoid).metrics
    assert figures["limit_violations"] == 0 and figures["speed_violations"] == 0
    assert figures["foot_skate_cm_s"] < 1.0 and figures["penetration_mm"] < 5.0
    assert figures["self_contact_mm"] < 5.0 and figures["contact_agreement"] > 0.9


def test_a_stage_of_a_mapped_robot_loads_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    mapping = write(tmp_path, example())
    squat_and_reach(2.0).save(tmp_path / "person.npz")
    argv = ["retarget", str(tmp_path / "person.npz"), "--robot", str(mapping), "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    stage = Stage.load(tmp_path / "out")
    assert stage.robot.name == "gymnasium_humanoid" and stage.robot.follow is not None
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["figures"]
    assert figures["limit_violations"] == 0
    assert "0 limit violations" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ur5e_2f85", "i2rt_yam"])
def test_an_arm_follows_a_hand(name: str):
    robot = robot_spec(name)
    motion, figures = retarget_hand(squat_and_reach(), robot)
    assert figures["limit_violations"] == 0 and figures["speed_violations"] == 0
    assert figures["tool_error_mean_mm"] < 5.0 and figures["penetration_mm"] == 0.0
    assert figures["self_contact_mm"] < 1.0 and 0.3 < figures["hand_scale"] <= 1.0
    np.testing.assert_allclose(motion.joint_pos[[0, -1]], np.tile(robot.default_joint_pos, (2, 1)), atol=0.02)


BAD = [
    ('torso = "torso"', 'torso = "chest"', "torso follows 'chest', but humanoid.xml has no body, site or geom"),
    ("torso =", "belly =", "'belly' is no part of a person"),
    ('left_knee = "left_shin"\n', "", "nothing follows 'left_knee'"),
    ('["left_foot"]', '["left_sole"]', "left_foot stands on geom 'left_sole'"),
    ('["left_foot"]', '["right_foot"]', "not on body 'left_foot'"),
    ("left_knee = -0.4", "left_nee = -0.4", "pose names joint 'left_nee'"),
    ("left_knee = -0.4", "left_knee = 0.4", "pose of left_knee is 0.4, expected"),
    ('".*" =', '"leg.*" =', "no joint of humanoid.xml is called so"),
    ("kp = 300.0", "kpp = 300.0", "expected keys kp, kd, effort, speed"),
    ('mjcf = "humanoid.xml"', "", "lacks 'mjcf'"),
    ("[pose]", "[poses]", "key 'poses' is unknown"),
    ("[pose]", "[pose", "is no TOML"),
    ('mjcf = "humanoid.xml"', 'mjcf = "none.xml"', "no such model file"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD)
def test_a_wrong_mapping_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str):
    text = example()
    assert old in text
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        robot_spec(str(write(tmp_path, text.replace(old, new, 1))))
    assert "\n" not in str(caught.value)


def test_an_mjcf_without_actuators_is_refused(tmp_path: Path):
    mapping = write(tmp_path, example())
    mjcf = tmp_path / "humanoid.xml"
    mjcf.write_text(re.sub(r"<actuator>.*</actuator>", "", mjcf.read_text(), flags=re.DOTALL))
    with pytest.raises(InputError, match="has no actuators"):
        robot_spec(str(mapping))


def test_robots_that_cannot_follow_say_so():
    with pytest.raises(InputError, match="unitree_go1: is no biped or arm that follows a person; give a mapping file"):
        retarget_clip(squat_and_reach(2.0), robot_spec("unitree_go1"))
