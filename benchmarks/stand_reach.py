"""G1 stand-and-reach: a robot from scratch that squats a little, reaches aside and stays up, as a vector environment.

Every library of `benchmarks.rl` steps this one simulation, so what differs is the learner. The policy sees what the
tracking task's policy sees, with its usual noise and without randomised models; actions are offsets to the reference.
"""

from __future__ import annotations

from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.robot_acting import act_robot
from sim.backend.cpu_batch import CpuBatch
from sim.env.gym_env import TrackingVectorEnv
from sim.env.gym_faces import BatchedVectorEnv
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.robots import robot_spec
from sim.stage.stage import PHYSICS_DT
from sim.stage.write import add_floor
from sim.tasks.tracking.config import TrackingConfig

NAME = "G1-stand-and-reach"
ROBOT = "unitree_g1"
MOTION = (Segment("stand", 0.8), Segment("squat", 2.4, 0.7), Segment("reach", 2.2, 1.0, "right"), Segment("stand", 0.8))
"""What it follows."""


class StandReachVectorEnv(BatchedVectorEnv):
    """N robots on a floor; a finished environment starts anew in the same step."""

    def __init__(self, num_envs: int, threads: int = 1) -> None:
        """Make the motion and the model."""
        spec = robot_spec(ROBOT)
        scene = spec.mjspec(PHYSICS_DT, visuals=False)
        add_floor(scene)
        model, robot = scene.compile(), TrackedRobot.from_spec(spec)
        motion = act_robot(MotionConfig(MOTION, start_xy=(0, 0), fps=50.0), spec)

        def make(seed: int) -> TrackingEnv:
            return TrackingEnv(CpuBatch(model, num_envs, seed, threads), robot, [motion], TrackingConfig())

        super().__init__(make, num_envs)

    measures = TrackingVectorEnv.measures
