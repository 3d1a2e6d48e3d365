"""Robots: a registry of models read from pinned wheels, and any MJCF file as a robot."""

from sim.robots.registry import robot_names, robot_spec
from sim.robots.spec import HOME_KEY, IMU_ACC, IMU_GYRO, IMU_QUAT, RobotSpec

__all__ = ["HOME_KEY", "IMU_ACC", "IMU_GYRO", "IMU_QUAT", "RobotSpec", "robot_names", "robot_spec"]
