"""The simulated robot's node: MuJoCo in the robot's place, in real time.

    python -m sim.nodes.sim_robot_node --stage runs/stage [--truth truth.npz] [--ros-args ...]

It hangs at the reference's first frame until the first command arrives, as a robot on a hoist, and is then let go.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray

from bodydouble.artifacts import atomic_file
from bodydouble.errors import BodydoubleError, PhysicsError
from bodydouble.frames import xyzw_from_wxyz
from robot.nodes.process import CLOCK, COMMANDS, IMU, JOINT_STATES, ODOM, reliable, running_node
from sim.closed_loop import RobotModel, place
from sim.divergence import diverged
from sim.stage.stage import Stage

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
    loss: float = 0.0
    """Share of the sensor messages that are lost."""
    seed: int = 0
    """Seed of noise and loss."""


class SimRobot:
    """The physics and its topics."""

    def __init__(self, node: Node, stage: Stage, faults: Faults, subscribers: int) -> None:
        """Put the robot on the reference's first frame.

        Args:
            node: The node.
            stage: The stage.
            faults: Delay, noise and loss.
            subscribers: Subscribers of the joint states to wait for before time begins.
        """
        self._stage, self._faults, self._wait_for = stage, faults, subscribers
        self._robot = RobotModel.of(stage)
        self._data = mujoco.MjData(self._robot.model)
        place(self._robot, self._data, stage.reference)
        self._joints = len(self._robot.joint_names)
        self._rng = np.random.default_rng(faults.seed)
        self._command: np.ndarray | None = None
        self._queue: list[np.ndarray] = []
        self._truth: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.released_ns = 0
        self.slipped_s = 0.0
        self._joint_pub = node.create_publisher(JointState, JOINT_STATES, reliable(5))
        self._imu_pub = node.create_publisher(Imu, IMU, reliable(5))
        self._odom_pub = node.create_publisher(Odometry, ODOM, reliable(5))
        self._clock_pub = node.create_publisher(Clock, CLOCK, reliable(1))
        self._tf: Any = _transform_publisher(node)
        node.create_subscription(Float64MultiArray, COMMANDS, self._on_command, reliable(1))

    def _on_command(self, message: Float64MultiArray) -> None:
        values = np.array(message.data)
        if values.shape == (self._joints,) and np.isfinite(values).all():
            self._command = values

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
            self._data.ctrl[: self._joints] = self._queue.pop(0)
        mujoco.mj_step(self._robot.model, self._data)
        if diverged(self._data):
            raise PhysicsError(f"physics diverged at {self._data.time:.3f} s; check the commands and the stage")

    def _publish(self, step: int) -> None:
        data, faults, n = self._data, self._faults, self._joints
        now = time.time_ns()
        stamp = Time(sec=now // 1_000_000_000, nanosec=now % 1_000_000_000)
        if step % self._robot.substeps == 0:
            self._truth.append((now, data.qpos.copy(), data.xpos[self._robot.tracked].copy()))
            clock_ns = round(data.time * 1e9)
            self._clock_pub.publish(Clock(clock=Time(sec=clock_ns // 10**9, nanosec=clock_ns % 10**9)))
        position = data.qpos[7 : 7 + n] + faults.joint_noise * self._rng.standard_normal(n)
        gyro = data.qvel[3:6] + faults.gyro_noise * self._rng.standard_normal(3)
        lost = self._rng.random(3) < faults.loss
        if not lost[0]:
            joints = JointState(name=list(self._robot.joint_names))
            joints.header.stamp = stamp
            joints.position, joints.velocity = position.tolist(), data.qvel[6 : 6 + n].tolist()
            joints.effort = data.actuator_force[:n].tolist()
            self._joint_pub.publish(joints)
        x, y, z, w = map(float, xyzw_from_wxyz(data.qpos[3:7]))
        if not lost[1]:
            imu = Imu()
            imu.header.stamp, imu.header.frame_id = stamp, self._stage.robot.base_body
            imu.orientation.x, imu.orientation.y, imu.orientation.z, imu.orientation.w = x, y, z, w
            imu.angular_velocity.x, imu.angular_velocity.y, imu.angular_velocity.z = map(float, gyro)
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


def main() -> int:
    """Simulate until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", type=Path, required=True, help="folder of the stage")
    parser.add_argument("--truth", type=Path, default=None, help="npz to write the true states to")
    parser.add_argument("--subscribers", type=int, default=0, help="subscribers of the joint states to wait for")
    parser.add_argument("--delay-steps", type=int, default=0, help="delay of a command, physics steps")
    parser.add_argument("--joint-noise", type=float, default=0.0, help="encoder noise, rad")
    parser.add_argument("--gyro-noise", type=float, default=0.0, help="gyro noise, rad/s")
    parser.add_argument("--loss", type=float, default=0.0, help="share of the sensor messages that are lost")
    parser.add_argument("--seed", type=int, default=0, help="seed of noise and loss")
    args, _ = parser.parse_known_args()
    faults = Faults(args.delay_steps, args.joint_noise, args.gyro_noise, args.loss, args.seed)
    try:
        stage = Stage.load(args.stage)
        with running_node("sim_robot") as running:
            robot = SimRobot(running.node, stage, faults, args.subscribers)
            try:
                robot.loop(running.stop)
            finally:
                if args.truth is not None:
                    robot.save_truth(args.truth)
    except BodydoubleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
