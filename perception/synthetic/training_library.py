"""What a tracking policy is pretrained on: acted clips retargeted to a robot, with its model, for any machine.

Run `python -m perception.synthetic.training_library --out pretraining`, then `python -m policy.pretrain`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from scipy.ndimage import gaussian_filter1d

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from perception.synthetic.acting import act
from perception.synthetic.motions import DEMO_SEGMENTS, MotionConfig, random_segments, with_segments
from sim.env.tracked_robot import TrackedRobot
from sim.retarget.retarget import retarget
from sim.robots import robot_spec
from sim.stage.stage import PHYSICS_DT
from sim.stage.write import add_floor
from sim.tasks.tracking.library import save_library

DEMO_COPIES = 6
"""Times the demo's own motion is in the library."""


@dataclass(frozen=True)
class LibraryConfig:
    """The library."""

    out: Path
    """Folder for model.mjb, robot.json and library.npz."""
    clips: int = 160
    """Clips beside the demo's."""
    seed: int = 1000
    """Seed of the first clip; each has its own."""
    robot: str = "unitree_g1"
    """The robot."""


def draw_clip(seed: int, index: int) -> HumanMotion:
    """Return a random clip: every sixth varies the demo's, every third bears smooth estimation error of 4 to 15 mm."""
    rng = np.random.default_rng(seed + index)
    shape = tuple(float(x) for x in np.clip(rng.normal(0.5, 0.12, size=5), 0.1, 0.9))
    if index % 6 == 0:
        segments = tuple(
            dataclasses.replace(
                s, seconds=float(s.seconds * rng.uniform(0.9, 1.15)), amount=float(s.amount * rng.uniform(0.8, 1.1))
            )
            for s in DEMO_SEGMENTS
        )
        config = MotionConfig(segments=segments, start_xy=(0, 0), heading=float(rng.uniform(-3.1, 3.1)))
    else:
        config = MotionConfig(start_xy=(0, 0), heading=float(rng.uniform(-3.1, 3.1)))
        config = with_segments(config, random_segments(rng, actions=int(rng.integers(2, 5))))
    motion = act(config, shape)
    if index % 3 == 0:
        noise = gaussian_filter1d(rng.normal(size=motion.joint_pos.shape), 4, axis=0)
        noise *= rng.uniform(0.004, 0.015) / noise.std()
        motion = dataclasses.replace(motion, joint_pos=motion.joint_pos + noise)
    return motion


def build_library(config: LibraryConfig) -> None:
    """Write the library, the robot's model on a floor, and what the environment must know of the robot."""
    robot = robot_spec(config.robot)
    motions = [retarget(act(MotionConfig()), robot)] * DEMO_COPIES
    console = Console(stderr=True)
    for index in track(range(config.clips), "clips", console=console):
        try:
            motions.append(retarget(draw_clip(config.seed, index), robot))
        except InputError as error:
            console.print(f"clip {index} left out: {error}")
    config.out.mkdir(parents=True, exist_ok=True)
    save_library(motions, config.out / "library.npz")
    spec = robot.mjspec(PHYSICS_DT, visuals=False)
    add_floor(spec)
    mujoco.mj_saveModel(spec.compile(), str(config.out / "model.mjb"))
    TrackedRobot.from_spec(robot).save(config.out / "robot.json")


if __name__ == "__main__":
    build_library(tyro.cli(LibraryConfig))
