"""What a tracking policy is pretrained on: acted clips as a robot's motions, with its model, for any machine.

Run `python -m perception.synthetic.training_library --out pretraining`, then `python -m policy.pretrain`. Some clips
are acted by a person and retargeted, as a user's recordings are; the others the robot acts itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import mujoco
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from scipy.ndimage import gaussian_filter1d

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion, RobotMotion
from perception.synthetic.motions import DEMO_SEGMENTS, MotionConfig, Segment, random_segments, with_segments
from perception.synthetic.robot_acting import Block, add_blocks
from perception.synthetic.robot_clips import act_robot_clip, blocks, draw_robot_clip, walk
from sim.env.tracked_robot import TrackedRobot
from sim.retarget.metrics import motion_metrics
from sim.retarget.retarget import retarget
from sim.robots import robot_spec
from sim.stage.stage import PHYSICS_DT
from sim.stage.write import add_floor
from sim.tasks.tracking.library import save_library

DEMO_COPIES = 6
"""Times the demo's own motion is in a library that a person acts in."""
_HUMAN_PACE = 0.9
_MOST_OUTSIDE_CM = 25.0


@dataclass(frozen=True)
class LibraryConfig:
    """The library."""

    out: Path
    """Folder for model.mjb, robot.json and library.npz."""
    clips: int = 160
    """Clips acted by a person and retargeted, beside the demo's; needs the body model."""
    robot_clips: int = 2000
    """Clips acted by the robot itself: of ten four walk, two do other things, two sit, two climb."""
    first_robot_clip: int = 0
    """Index of the first of these, so that a library can be made in parts."""
    seed: int = 1000
    """Seed of the clips; each has its own."""
    blocks_seed: int = 1000
    """Seed of the seats and platforms."""
    robot: str = "unitree_g1"
    """The robot."""
    workers: int = 1
    """Processes."""


def draw_clip(seed: int, index: int) -> HumanMotion:
    """Return a random clip of a person.

    Of six clips one varies the demo's and two walk at several speeds; every third bears smooth estimation error of 4
    to 15 mm.
    """
    # The body model is loaded only where a person acts.
    from perception.synthetic.acting import act

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
        if index % 6 in (1, 4):
            config = with_segments(config, _person_walks(rng))
        else:
            config = with_segments(config, random_segments(rng, actions=int(rng.integers(2, 5))))
    motion = act(config, shape)
    if index % 3 == 0:
        noise = gaussian_filter1d(rng.normal(size=motion.joint_pos.shape), 4, axis=0)
        noise *= rng.uniform(0.004, 0.015) / noise.std()
        motion = dataclasses.replace(motion, joint_pos=motion.joint_pos + noise)
    return motion


def _person_walks(rng: np.random.Generator) -> tuple[Segment, ...]:
    out = [Segment("stand", float(rng.uniform(0.6, 1.2)))]
    for _ in range(int(rng.integers(1, 3))):
        # A person's legs are half as long again as the robot's, and so is the way.
        gait = walk(rng, float(rng.uniform(2.0, 5.0)), float(rng.uniform(0.45, 1.6)))
        out += [dataclasses.replace(gait, pace=_HUMAN_PACE * gait.pace), Segment("stand", float(rng.uniform(0.2, 0.8)))]
    return (*out, Segment("stand", 0.8))


def _make(job: tuple[str, int, int, str, tuple[Block, ...]]) -> RobotMotion | str:
    """Return one motion, or why there is none."""
    kind, seed, index, name, boxes = job
    robot, on_box = robot_spec(name), False
    try:
        if kind == "robot":
            on_box = draw_robot_clip(seed, index, robot, boxes)[1] is not None
            motion = act_robot_clip(seed, index, robot, boxes)
        elif kind == "person":
            motion = retarget(draw_clip(seed, index), robot)
        else:
            from perception.synthetic.acting import act

            motion = retarget(act(MotionConfig()), robot)
    except InputError as error:
        return f"{kind} clip {index} left out: {error}"
    # What a seat carries is not in the figures.
    outside = 0.0 if on_box else motion_metrics(motion, robot)["zmp_outside_max_cm"]
    if outside > _MOST_OUTSIDE_CM:
        return f"{kind} clip {index} left out: the zero-moment point is {outside:.0f} cm outside of the feet"
    return motion


def make_motions(config: LibraryConfig) -> Iterator[RobotMotion | str]:
    """Yield every motion of the library in order, or why one is left out."""
    boxes = blocks(config.blocks_seed)
    jobs = [("demo", 0, 0, config.robot, boxes)] if config.clips else []
    jobs += [("person", config.seed, index, config.robot, boxes) for index in range(config.clips)]
    first = config.first_robot_clip
    jobs += [("robot", config.seed, index, config.robot, boxes) for index in range(first, first + config.robot_clips)]
    if config.workers <= 1:
        yield from map(_make, jobs)
        return
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make, jobs, chunksize=4)


def build_library(config: LibraryConfig) -> None:
    """Write the library, the robot's model on a floor with its boxes, and what the environment must know of the robot.

    Raises:
        InputError: No motion could be made.
    """
    robot = robot_spec(config.robot)
    config.out.mkdir(parents=True, exist_ok=True)
    spec = robot.mjspec(PHYSICS_DT, visuals=False)
    add_floor(spec)
    add_blocks(spec, blocks(config.blocks_seed))
    mujoco.mj_saveModel(spec.compile(), str(config.out / "model.mjb"))
    TrackedRobot.from_spec(robot).save(config.out / "robot.json")
    console = Console(stderr=True)
    motions: list[RobotMotion] = []
    total = config.clips + config.robot_clips + bool(config.clips)
    for index, made in enumerate(track(make_motions(config), "clips", total=total, console=console)):
        if isinstance(made, str):
            console.print(made)
        else:
            motions += [made] * (DEMO_COPIES if index == 0 and config.clips else 1)
    save_library(motions, config.out / "library.npz")


if __name__ == "__main__":
    build_library(tyro.cli(LibraryConfig))
