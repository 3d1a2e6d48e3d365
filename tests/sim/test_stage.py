"""The Stage artifact: written by bodydouble, opened by plain MuJoCo, refused when it is another's or changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from sim.retarget.kinematics import make_robot_motion
from sim.robots import RobotSpec, robot_spec
from sim.stage import Stage, flat_stage
from sim.stage.write import add_floor


@pytest.fixture(scope="module")
def flat(g1: RobotSpec, standing: RobotMotion, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return flat_stage(g1, [standing, standing], tmp_path_factory.mktemp("stage") / "flat")


def test_written_model_equals_the_robot_exactly(flat: Stage, g1: RobotSpec):
    written = flat.compile(visuals=False)
    spec = g1.mjspec(visuals=False)
    add_floor(spec)
    built = spec.compile()
    for field in ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange", "jnt_range", "dof_armature"):
        np.testing.assert_array_equal(getattr(written, field), getattr(built, field))
    for field in ("body_mass", "body_inertia", "body_ipos", "body_iquat", "geom_friction", "geom_condim", "key_qpos"):
        np.testing.assert_array_equal(getattr(written, field), getattr(built, field))
    assert written.opt.timestep == 0.005 and written.opt.solver == built.opt.solver
    np.testing.assert_array_equal(written.actuator_gainprm[:29, 0], g1.kp)


def test_opens_in_plain_mujoco_without_bodydouble(flat: Stage, tmp_path: Path):
    code = f"import mujoco; m = mujoco.MjModel.from_xml_path({str(flat.model_path)!r}); print(m.nu, m.nmesh > 20)"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["29", "True"]


def test_load_gives_back_what_was_written(flat: Stage, standing: RobotMotion):
    stage = Stage.load(flat.path, "unitree_g1")
    assert len(stage.motions) == 2 and stage.robot.name == "unitree_g1"
    np.testing.assert_array_equal(stage.reference.body_pos, standing.body_pos)
    assert (stage.control_hz, stage.physics_dt) == (50.0, 0.005)
    assert stage.sha256 == flat.sha256
    assert stage.manifest["provenance"]["inputs_hash"]


def test_stage_for_another_robot_is_refused(flat: Stage, standing: RobotMotion, tmp_path: Path):
    with pytest.raises(InputError, match="is a stage for robot unitree_g1, expected unitree_go1"):
        Stage.load(flat.path, "unitree_go1")
    with pytest.raises(InputError, match="motion of other joints than robot unitree_go1"):
        flat_stage(robot_spec("unitree_go1"), standing, tmp_path / "go1")
    assert not (tmp_path / "go1").exists()


def test_damaged_stages_are_refused(flat: Stage, g1: RobotSpec, standing: RobotMotion, tmp_path: Path):
    with pytest.raises(InputError, match="no such stage folder"):
        Stage.load(tmp_path / "none")
    stage = flat_stage(g1, standing, tmp_path / "s")
    text = stage.model_path.read_text()
    stage.model_path.write_text(text.replace('timestep="0.005"', 'timestep="0.004"'))
    with pytest.raises(InputError, match=r"stage\.xml: is not as"):
        Stage.load(stage.path)
    stage.model_path.write_text(text)
    manifest = json.loads((stage.path / "stage.json").read_text())
    manifest["motions"] = ["../other.npz"]
    (stage.path / "stage.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="is damaged"):
        Stage.load(stage.path)
    (stage.path / "stage.json").write_text("{}")
    with pytest.raises(InputError, match="lacks 'robot'"):
        Stage.load(stage.path)


@pytest.mark.parametrize("name", ["ur5e_2f85", "i2rt_yam", "unitree_go1"])
def test_every_robot_can_be_staged(name: str, tmp_path: Path):
    robot = robot_spec(name)
    root, quat = np.tile(robot.default_root_pos, (4, 1)), np.tile([1.0, 0, 0, 0], (4, 1))
    motion = make_robot_motion(robot, 50.0, root, quat, np.tile(robot.default_joint_pos, (4, 1)))
    stage = flat_stage(robot, motion, tmp_path / name)
    model = stage.compile()
    np.testing.assert_array_equal(model.actuator_gainprm[: robot.num_joints, 0], robot.kp)
