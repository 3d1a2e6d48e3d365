"""Postures to train on: frames of acted clips, written once so that a GPU machine needs neither planner nor solver.

Run `python -m perception.joints.poses --out postures.npz`, then `python -m perception.joints.train`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from perception.synthetic.acting import act
from perception.synthetic.motions import MotionConfig, Segment, random_segments, with_segments

HELD_OUT = 0.1
"""Share of the clips, the last ones, that training does not see."""


@dataclass(frozen=True)
class PostureConfig:
    """The postures."""

    out: Path
    """File to write: `pose` (N, 22, 4), float16, and `held_out` (N,), bool."""
    clips: int = 300
    """Clips to act."""
    every: int = 4
    """Frames from one posture to the next."""
    seed: int = 50_000
    """Seed of the first clip; each has its own."""


def draw_clip(seed: int) -> HumanMotion:
    """Return a random clip; every third sits down and stands up between its actions."""
    rng = np.random.default_rng(seed)
    segments = list(random_segments(rng, actions=int(rng.integers(2, 5))))
    if seed % 3 == 0:
        sit, stand_up = (Segment(kind, float(rng.uniform(1.0, 2.0))) for kind in ("sit", "stand_up"))
        side, amount = str(rng.choice(["left", "right"])), float(rng.uniform(0.4, 1.0))
        reach = [Segment("reach", float(rng.uniform(1.5, 2.5)), amount, side)] if rng.random() < 0.5 else []
        segments[-1:-1] = [sit, *reach, stand_up]
    shape = tuple(float(x) for x in np.clip(rng.normal(0.5, 0.15, size=5), 0.1, 0.9))
    config = MotionConfig(start_xy=(0.0, 0.0), heading=float(rng.uniform(-np.pi, np.pi)))
    return act(with_segments(config, tuple(segments)), shape)


def write_postures(config: PostureConfig) -> None:
    """Write the postures of the clips; one that cannot be acted is named and left out."""
    console = Console(stderr=True)
    poses, held_out = [], []
    for index in track(range(config.clips), "acting", console=console):
        try:
            motion = draw_clip(config.seed + index)
        except InputError as error:
            console.print(f"clip {index} left out: {error}")
            continue
        assert motion.pose is not None
        kept = motion.pose[:: config.every]
        poses.append(kept.astype(np.float16))
        held_out.append(np.full(len(kept), index >= (1 - HELD_OUT) * config.clips))
    with open(config.out, "wb") as file:
        np.savez_compressed(file, pose=np.concatenate(poses), held_out=np.concatenate(held_out))


if __name__ == "__main__":
    write_postures(tyro.cli(PostureConfig))
