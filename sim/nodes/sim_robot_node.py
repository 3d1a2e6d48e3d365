"""The simulated robot's node: MuJoCo in the robot's place, in real time.

    python -m sim.nodes.sim_robot_node --stage runs/stage [--truth truth.npz] [--ros-args ...]

With `--robot NAME` it stands on a flat floor, and the stage of it is written to `--stage`.
It hangs at the reference's first frame until the first command arrives, as a robot on a hoist, and is then let go.
Commands come from either of ros2_control's two standard controllers' topics; the last one holds until the next.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, String, UInt8MultiArray
from trajectory_msgs.msg import JointTrajectory

from bodydouble.artifacts import atomic_file
from bodydouble.errors import BodydoubleError, InputError, PhysicsError
from bodydouble.frames import quat_rotate_inv, xyzw_from_wxyz
from robot.nodes.process import (
    CLOCK,
    COMMANDS,
    FEET,
    GAINS,
    IMU,
    JOINT_STATES,
    ODOM,
    TRAJECTORY,
    latched,
    latest,
    parameter,
    reliable,
    running_node,
)
from sim.closed_loop import RobotModel, place
from sim.divergence import diverged
from sim.robots import RobotSpec, robot_spec
from sim.stage.flat import flat_stage
from sim.stage.stage import Stage
from sim.stage.stand import Place, standing_motion

OPTIONS: tuple[tuple[str, Any, str], ...] = (
    ("stage", "", "folder of the stage"),
    ("motion", 0, "which of the stage's motions it begins on"),
    ("robot", "", "robot to put on a flat floor; its stage is written"),
    ("truth", "", "npz to write the true states to"),
    ("subscribers", 0, "subscribers of the joint states to wait for"),
    ("delay_steps", 0, "delay of a command, physics steps"),
    ("joint_noise", 0.0, "encoder noise, rad"),
    ("gyro_noise", 0.0, "gyro noise, rad/s"),
    ("speed_noise", 0.0, "noise of the joint speeds, rad/s"),
    ("loss", 0.0, "share of the sensor messages, and of the commands, that are lost"),
    ("seed", 0, "seed of noise and loss"),
)
"""Options and ROS parameters: name, default and description."""
MAX_DELAY_STEPS = 1000
"""Longest delay of a command, physics steps."""
HISTORY = 1000
"""Messages of each topic that are kept to be sent again to a recorder on another host that missed some."""
MAX_CATCH_UP_S = 0.1
"""Lag behind real time that is made up for, s; beyond it simulated time slips, and the lag is counted."""


@dataclass(frozen=True)
class Faults:
    """What is worse on a real robot than in a simulation."""

    delay_steps: int = 0
    """Delay of a command, physics steps."""
    joint_noise: float = 0.0
    """Standard deviation of the encoders' noise, rad."""
    gyro_noise: float = 0.0
    """Standard deviation of the gyro's noise, rad/s."""
    speed_noise: float = 0.0
    """Standard deviation of the joint speeds' noise, rad/s."""
    loss: float = 0.0
    """Share of the sensor messages, and of the commands, that are lost."""
    seed: int = 0
    """Seed of noise and loss."""

    def __post_init__(self) -> None:
        """Refuse what no robot has."""
        if not 0 <= self.delay_steps <= MAX_DELAY_STEPS:
            raise InputError(f"delay_steps is {self.delay_steps}, expected 0 to {MAX_DELAY_STEPS}")
        for name in ("joint_noise", "gyro_noise", "speed_noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}, expected a finite number, at least 0")
        if not 0 <= self.loss <= 1:
            raise InputError(f"loss is {self.loss}, expected a share from 0 to 1")


def refuse_gains(robot: RobotSpec, announced: str) -> str:
    """Return why commands meant for other gains are not obeyed; empty where the gains are the robot's own.

    Args:
        robot: The robot.
        announced: JSON with joint_names, kp and kd, as the policy's node announces it.
    """
    try:
        gains = json.loads(announced)
        names = gains["joint_names"]
        for kind, own in (("kp", robot.kp), ("kd", robot.kd)):
            told = dict(zip(names, gains[kind], strict=True))
            for joint, value in zip(robot.joint_names, own, strict=True):
                if not math.isclose(told[joint], value, rel_tol=1e-4):
                    return (
                        f"the policy was trained with {kind} {told[joint]:g} at joint {joint}, this robot has {value:g}"
                    )
    except (ValueError, KeyError, TypeError) as error:
        return f"the announced gains cannot be read ({type(error).__name__}: {error})"
    return ""


class SimRobot:
    """The physics and its topics."""

    def __init__(self, node: Node, stage: Stage, faults: Faults, subscribers: int, keep_truth: bool = True) -> None:
        """Put the robot on the reference's first frame.

        Args:
            node: The node.
            stage: The stage.
            faults: Delay, noise and loss.
            subscribers: Subscribers of the joint states to wait for before time begins.
            keep_truth: Whether to keep the true states for `save_truth`.
        """
        self._node, self._keep_truth = node, keep_truth
        self._stage, self._faults, self._wait_for = stage, faults, subscribers
        self._robot = RobotModel.of(stage)
        self._data = mujoco.MjData(self._robot.model)
        place(self._robot, self._data, stage.reference)
        self._joints = len(self._robot.joint_names)
        # One generator per thread: commands arrive on the executor's.
        self._rng, self._command_rng = np.random.default_rng(faults.seed), np.random.default_rng([faults.seed, 1])
        self._command: np.ndarray | None = None
        self._refusal = ""
        self._queue: deque[np.ndarray] = deque()
        feet = [self._robot.model.geom(name).id for name in stage.robot.foot_geoms]
        foot_bodies = [self._robot.model.body(name).id for name in stage.robot.foot_bodies]
        self._foot_of_geom = {geom: foot_bodies.index(int(self._robot.model.geom_bodyid[geom])) for geom in feet}
        self._truth: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.released_ns = 0
        self.slipped_s = 0.0
        self._joint_pub = node.create_publisher(JointState, JOINT_STATES, reliable(HISTORY))
        self._imu_pub = node.create_publisher(Imu, IMU, reliable(HISTORY))
        self._odom_pub = node.create_publisher(Odometry, ODOM, reliable(HISTORY))
        self._feet_pub = node.create_publisher(UInt8MultiArray, FEET, reliable(HISTORY)) if foot_bodies else None
        self._clock_pub = node.create_publisher(Clock, CLOCK, reliable(1))
        self._tf: Any = _transform_publisher(node)
        node.create_subscription(Float64MultiArray, COMMANDS, self._on_command, latest(1))
        node.create_subscription(JointTrajectory, TRAJECTORY, self._on_trajectory, latest(1))
        node.create_subscription(String, GAINS, self._on_gains, latched())

    def _on_command(self, message: Float64MultiArray) -> None:
        self._take(np.array(message.data))

    def _on_trajectory(self, message: JointTrajectory) -> None:
        """Take the last point's positions, by name."""
        points = list(message.points)
        positions = dict(zip(message.joint_names, points[-1].positions if points else (), strict=False))
        self._take(np.array([positions.get(name, np.nan) for name in self._robot.joint_names]))

    def _take(self, values: np.ndarray) -> None:
        if self._command_rng.random() < self._faults.loss:
            return
        why = self._refusal
        if values.shape != (self._joints,) or not np.isfinite(values).all():
            why = f"it has not one finite number for each of {self._joints} joints"
        if why:
            self._node.get_logger().error(f"command refused: {why}", throttle_duration_sec=1.0)
        else:
            self._command = values

    def _on_gains(self, message: String) -> None:
        self._refusal = refuse_gains(self._stage.robot, message.data)

    def loop(self, stop: threading.Event) -> None:
        """Step in real time until told to stop.

        Raises:
            PhysicsError: The physics diverged.
        """
        dt = self._robot.model.opt.timestep
        period_ns = round(dt * 1e9)
        while self._joint_pub.get_subscription_count() < self._wait_for and not stop.wait(0.01):
            pass
        deadline = time.monotonic_ns() + period_ns
        step = 0
        while not stop.is_set():
            time.sleep(max(0, deadline - time.monotonic_ns()) / 1e9)
            self._publish(step)
            self._advance()
            step += 1
            deadline += period_ns
            lag_s = (time.monotonic_ns() - deadline) / 1e9
            if lag_s > MAX_CATCH_UP_S:
                self.slipped_s += lag_s
                deadline += round(lag_s * 1e9)

    def _advance(self) -> None:
        command = self._command
        if command is None:
            return
        if not self.released_ns:
            self.released_ns = time.time_ns()
        self._queue.append(command)
        if len(self._queue) > self._faults.delay_steps:
            self._data.ctrl[: self._joints] = self._queue.popleft()
        mujoco.mj_step(self._robot.model, self._data)
        if diverged(self._data):
            raise PhysicsError(f"physics diverged at {self._data.time:.3f} s; check the commands and the stage")

    def _publish(self, step: int) -> None:
        data, faults, n = self._data, self._faults, self._joints
        now = time.time_ns()
        stamp = Time(sec=now // 1_000_000_000, nanosec=now % 1_000_000_000)
        if step % self._robot.substeps == 0:
            if self._keep_truth:
                self._truth.append((now, data.qpos.copy(), data.xpos[self._robot.tracked].copy()))
            clock_ns = round(data.time * 1e9)
            self._clock_pub.publish(Clock(clock=Time(sec=clock_ns // 10**9, nanosec=clock_ns % 10**9)))
        position = data.qpos[7 : 7 + n] + faults.joint_noise * self._rng.standard_normal(n)
        gyro = data.qvel[3:6] + faults.gyro_noise * self._rng.standard_normal(3)
        speed = data.qvel[6 : 6 + n] + faults.speed_noise * self._rng.standard_normal(n)
        lost = self._rng.random(4) < faults.loss
        if not lost[0]:
            joints = JointState(name=list(self._robot.joint_names))
            joints.header.stamp = stamp
            joints.position, joints.velocity = position.tolist(), speed.tolist()
            joints.effort = data.actuator_force[:n].tolist()
            self._joint_pub.publish(joints)
        x, y, z, w = map(float, xyzw_from_wxyz(data.qpos[3:7]))
        if not lost[1]:
            imu = Imu()
            imu.header.stamp, imu.header.frame_id = stamp, self._stage.robot.base_body
            imu.orientation.x, imu.orientation.y, imu.orientation.z, imu.orientation.w = x, y, z, w
            imu.angular_velocity.x, imu.angular_velocity.y, imu.angular_velocity.z = map(float, gyro)
            force = imu.linear_acceleration
            force.x, force.y, force.z = map(float, self._accelerometer())
            self._imu_pub.publish(imu)
        if not lost[2]:
            odom = Odometry(child_frame_id=self._stage.robot.base_body)
            odom.header.stamp, odom.header.frame_id = stamp, "world"
            pose = odom.pose.pose
            pose.position.x, pose.position.y, pose.position.z = map(float, data.qpos[:3])
            pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = x, y, z, w
            self._odom_pub.publish(odom)
            if self._tf is not None:
                self._tf(odom)

        if self._feet_pub is not None and not lost[3]:
            self._feet_pub.publish(UInt8MultiArray(data=self._feet_in_contact()))

    def _accelerometer(self) -> np.ndarray:
        """Return what an accelerometer at the base reads (3,), base frame, m/s^2: gravity upwards at rest."""
        if not self.released_ns:
            # On the hoist the base rests, though the physics has not begun to run.
            return quat_rotate_inv(self._data.qpos[3:7], -self._robot.model.opt.gravity)
        reading = np.zeros(6)
        mujoco.mj_rnePostConstraint(self._robot.model, self._data)
        base, body = self._robot.model.body(self._stage.robot.base_body).id, mujoco.mjtObj.mjOBJ_BODY
        mujoco.mj_objectAcceleration(self._robot.model, self._data, body, base, reading, 1)
        return reading[3:]

    def _feet_in_contact(self) -> list[int]:
        """Return 1 for each foot that touches something, else 0."""
        feet = [0] * len(self._stage.robot.foot_bodies)
        for geom in self._data.contact.geom.ravel():
            if int(geom) in self._foot_of_geom:
                feet[self._foot_of_geom[int(geom)]] = 1
        return feet

    def save_truth(self, path: Path) -> None:
        """Write the true states at the control rate: t_ns (T,), qpos (T, nq), body_pos (T, K, 3), and what was lost."""
        times, qpos, bodies = zip(*self._truth, strict=True) if self._truth else ((), (), ())
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                t_ns=np.array(times, dtype=np.int64),
                qpos=np.array(qpos),
                body_pos=np.array(bodies),
                body_names=np.array(self._stage.reference.body_names),
                released_ns=np.int64(self.released_ns),
                slipped_s=np.float64(self.slipped_s),
            )


def _transform_publisher(node: Node) -> Any:
    """Return a function that publishes a pose on /tf, or None where ROS has no tf2_msgs."""
    try:
        from geometry_msgs.msg import TransformStamped
        from tf2_msgs.msg import TFMessage  # type: ignore[import-not-found]
    except ImportError:
        return None
    publisher = node.create_publisher(TFMessage, "/tf", reliable(10))

    def publish(odom: Odometry) -> None:
        transform = TransformStamped(header=odom.header, child_frame_id=odom.child_frame_id)
        p = odom.pose.pose.position
        transform.transform.translation.x, transform.transform.translation.y = p.x, p.y
        transform.transform.translation.z = p.z
        transform.transform.rotation = odom.pose.pose.orientation
        publisher.publish(TFMessage(transforms=[transform]))

    return publish


def _stage(path: Path, robot: str, motion: int) -> Stage:
    """Return the stage with a motion in its reference's place, or a new one of a robot that stands on a flat floor."""
    if not robot:
        return Stage.load(path).playing(motion)
    spec = robot_spec(robot)
    return flat_stage(spec, standing_motion(spec, Place(0.0, 0.0, 0.0, math.inf), 1.0), path)


def main(arguments: list[str] | None = None) -> int:
    """Simulate until SIGINT or SIGTERM. Every option is the default of the ROS parameter of the same name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, description in OPTIONS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=description)
    argv = sys.argv if arguments is None else arguments
    args = parser.parse_args(remove_ros_args(argv)[1:])
    try:
        with running_node("sim_robot", argv) as running:
            value = {name: parameter(running.node, name, getattr(args, name), text) for name, _, text in OPTIONS}
            if not value["stage"]:
                raise InputError("parameter stage is empty, expected the folder of a stage")
            faults = Faults(**{field.name: value[field.name] for field in dataclasses.fields(Faults)})
            stage, truth = _stage(Path(value["stage"]), value["robot"], value["motion"]), value["truth"]
            robot = SimRobot(running.node, stage, faults, value["subscribers"], keep_truth=bool(truth))
            try:
                robot.loop(running.stop)
            finally:
                if truth:
                    robot.save_truth(Path(truth))
    except BodydoubleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
