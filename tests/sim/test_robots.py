"""The robot registry: models, gains, actuators and the physics that they give."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from bodydouble.errors import InputError
from sim.robots import HOME_KEY, IMU_GYRO, IMU_QUAT, robot_names, robot_spec
from sim.robots.motors import position_gains, reflected_inertia

JOINTS = {"unitree_g1": 29, "unitree_go1": 12, "i2rt_yam": 7, "ur5e_2f85": 6}
MASS_KG = {"unitree_g1": (32.0, 36.0), "unitree_go1": (11.5, 13.5), "i2rt_yam": (3.5, 4.5), "ur5e_2f85": (20.0, 24.0)}


def on_floor(spec: mujoco.MjSpec) -> mujoco.MjModel:
    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05])
    return spec.compile()


def test_reflected_inertia_of_two_stages_by_hand():
    # rotor 2 through 3 x 4, carrier 5 through 4, output 7: 2*144 + 5*16 + 7
    assert reflected_inertia((2.0, 5.0, 7.0), (3.0, 4.0, 1.0)) == pytest.approx(375.0)


def test_position_gains_give_the_frequency_and_damping():
    kp, kd = position_gains(np.array([0.01]), frequency_hz=10.0, damping_ratio=2.0)
    assert np.sqrt(kp / 0.01) == pytest.approx(2 * np.pi * 10.0)
    assert kd / (2 * np.sqrt(kp * 0.01)) == pytest.approx(2.0)


@pytest.mark.parametrize("name", list(JOINTS))
def test_model_agrees_with_spec(name: str):
    robot = robot_spec(name)
    assert name in robot_names()
    model = robot.mjspec(visuals=False).compile()
    count = JOINTS[name]
    assert robot.num_joints == count
    assert tuple(model.actuator(i).name for i in range(count)) == robot.joint_names
    ids = [model.joint(joint).id for joint in robot.joint_names]
    assert ids == sorted(ids)
    assert [int(model.actuator_trnid[i, 0]) for i in range(count)] == ids
    np.testing.assert_array_equal(model.actuator_gainprm[:count, 0], robot.kp)
    np.testing.assert_array_equal(model.actuator_biasprm[:count, 1], -robot.kp)
    np.testing.assert_array_equal(model.actuator_biasprm[:count, 2], -robot.kd)
    np.testing.assert_array_equal(model.actuator_forcerange[:count, 1], robot.effort_limit)
    np.testing.assert_array_equal(model.dof_armature[model.jnt_dofadr[ids]], robot.armature)
    assert not model.dof_damping[model.jnt_dofadr[ids]].any()
    assert np.all(robot.joint_lower <= robot.default_joint_pos) and np.all(robot.default_joint_pos <= robot.joint_upper)
    assert MASS_KG[name][0] < model.body_subtreemass[0] < MASS_KG[name][1]
    home = model.key(HOME_KEY)
    np.testing.assert_array_equal(home.qpos[model.jnt_qposadr[ids]], robot.default_joint_pos)
    np.testing.assert_array_equal(home.ctrl[:count], robot.default_joint_pos)
    assert "Licen" in robot.licence or "Redistribution" in robot.licence


@pytest.mark.parametrize("name", list(JOINTS))
def test_dropping_visuals_keeps_the_dynamics(name: str):
    full, lean = robot_spec(name).mjspec().compile(), robot_spec(name).mjspec(visuals=False).compile()
    assert lean.nmesh < full.nmesh
    np.testing.assert_allclose(lean.body_mass, full.body_mass, rtol=1e-12)
    np.testing.assert_allclose(lean.body_inertia, full.body_inertia, rtol=1e-12)


def test_g1_gains_are_the_published_ones():
    robot = robot_spec("unitree_g1")
    value = {name: (robot.armature[i], robot.effort_limit[i]) for i, name in enumerate(robot.joint_names)}
    assert value["left_elbow_joint"] == pytest.approx((0.00361, 25.0), rel=1e-3)
    assert value["left_hip_pitch_joint"] == pytest.approx((0.01018, 88.0), rel=1e-3)
    assert value["right_knee_joint"] == pytest.approx((0.02510, 139.0), rel=1e-3)
    assert value["right_wrist_yaw_joint"] == pytest.approx((0.00425, 5.0), rel=1e-3)
    assert value["waist_roll_joint"] == pytest.approx((0.00722, 50.0), rel=1e-3)
    np.testing.assert_allclose(robot.kp, robot.armature * (20 * np.pi) ** 2, rtol=1e-5)
    np.testing.assert_allclose(robot.kd, 4 * robot.armature * 20 * np.pi, rtol=1e-5)


def test_g1_stands_on_its_soles_and_falls_without_balance():
    robot = robot_spec("unitree_g1")
    model = on_floor(robot.mjspec(visuals=False))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key(HOME_KEY).id)
    mujoco.mj_forward(model, data)
    feet = [model.geom(name).id for name in robot.foot_geoms]
    soles = data.geom_xpos[feet, 2] - model.geom_size[feet, 0]
    assert np.all(soles > 0) and np.all(soles < 0.006)
    assert np.all(model.geom_condim[feet] == 3) and np.all(model.geom_friction[feet, 0] == 0.6)
    assert model.geom("torso_collision").condim == 1
    assert data.sensor(IMU_QUAT).data == pytest.approx([1, 0, 0, 0], abs=1e-6)
    while data.qpos[2] > 0.4 and data.time < 5.0:
        mujoco.mj_step(model, data)
    # Position control alone holds the pose but does not balance.
    assert 1.2 < data.time < 2.0
    assert np.isfinite(data.sensor(IMU_GYRO).data).all()


def test_fixed_arms_hold_their_home_pose():
    for name in ("i2rt_yam", "ur5e_2f85"):
        robot = robot_spec(name)
        model = robot.mjspec(visuals=False).compile()
        data = mujoco.MjData(model)
        mujoco.mj_resetDataKeyframe(model, data, model.key(HOME_KEY).id)
        while data.time < 1.0:
            mujoco.mj_step(model, data)
        addresses = [model.jnt_qposadr[model.joint(joint).id] for joint in robot.joint_names]
        assert np.abs(data.qpos[addresses] - robot.default_joint_pos).max() < 0.25


MJCF = """<mujoco model="pendulum"><worldbody><body name="base"><geom size=".1"/><body name="arm" pos="0 0 1">
<joint name="hinge" axis="0 1 0" range="-90 90"/><geom size=".1" pos=".3 0 0"/></body></body></worldbody>{actuator}
</mujoco>"""
POSITION = '<actuator><position joint="hinge" kp="30" kv="2" forcerange="-9 9"/></actuator>'


def write_mjcf(folder: Path, actuator: str) -> str:
    path = folder / "robot.xml"
    path.write_text(MJCF.format(actuator=actuator))
    return str(path)


def test_any_mjcf_with_position_actuators_is_a_robot(tmp_path: Path):
    robot = robot_spec(write_mjcf(tmp_path, POSITION))
    assert robot.name == "pendulum" and robot.joint_names == ("hinge",)
    assert (robot.kp[0], robot.kd[0], robot.effort_limit[0]) == (30.0, 2.0, 9.0)
    assert robot.joint_upper[0] == pytest.approx(np.pi / 2, rel=1e-5)
    model = robot.mjspec().compile()
    assert model.nu == 1 and model.sensor(IMU_QUAT).dim == 4


@pytest.mark.parametrize(
    ("actuator", "message"),
    [
        ("", "has no actuators; add one <position"),
        ('<actuator><motor joint="hinge"/></actuator>', "is no position actuator"),
        ('<actuator><position joint="hinge" kp="3"/></actuator>', "has no forcerange"),
    ],
)
def test_mjcf_that_is_no_robot_is_refused(tmp_path: Path, actuator: str, message: str):
    with pytest.raises(InputError, match=message):
        robot_spec(write_mjcf(tmp_path, actuator))


def test_unknown_robot_and_broken_file(tmp_path: Path):
    with pytest.raises(InputError, match="unitree_g1"):
        robot_spec("unitree_h2")
    with pytest.raises(InputError, match="no such model file"):
        robot_spec(str(tmp_path / "none.xml"))
    (tmp_path / "bad.xml").write_text("<mujoco><worldbody>")
    with pytest.raises(InputError, match="cannot be read as MJCF"):
        robot_spec(str(tmp_path / "bad.xml"))
