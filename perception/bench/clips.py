"""The benchmark's eight clips, by people of different build: walk, turn, sit, stand up, reach, pick up, climb, lie."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from bodydouble.errors import InputError
from perception.synthetic.acting import proportions, whole_body
from perception.synthetic.generate import SyntheticConfig
from perception.synthetic.motions import SIT_BACK, MotionConfig, Segment
from perception.synthetic.room import STEP_HEIGHT, RoomConfig, layout

MOTIONS: dict[str, tuple[Segment, ...]] = {
    "walk": (Segment("stand", 0.8), Segment("walk", 5.0, 1.3), Segment("stand", 0.8)),
    "turn": (
        Segment("stand", 0.5), Segment("walk", 1.9, 0.5), Segment("turn", 3.7, 1.7), Segment("walk", 1.9, 0.5),
        Segment("stand", 0.4),
    ),
    "sit": (Segment("stand", 0.8), Segment("sit", 2.2), Segment("stand", 1.0), Segment("look", 2.0)),
    "stand_up": (
        Segment("stand", 0.4), Segment("sit", 1.8), Segment("stand", 1.0), Segment("stand_up", 2.0),
        Segment("walk", 2.0, 0.5), Segment("stand", 0.5),
    ),
    "reach": (
        Segment("stand", 0.5), Segment("walk", 2.0, 0.6), Segment("reach", 2.4, 1.0, "right"),
        Segment("reach", 2.3, 0.9, "both"), Segment("stand", 0.4),
    ),
    "pick_up": (
        Segment("stand", 0.5), Segment("walk", 2.0, 0.6), Segment("pick_up", 2.6, 1.0, "right"),
        Segment("pick_up", 2.4, 0.8, "both"), Segment("stand", 0.4),
    ),
    "climb": (
        Segment("stand", 0.7), Segment("climb", 2.8, STEP_HEIGHT), Segment("stand", 0.9),
        Segment("climb", 2.8, -STEP_HEIGHT), Segment("stand", 0.6),
    ),
    "lie": (Segment("stand", 0.7), Segment("lie", 4.2), Segment("stand", 1.8)),
}  # fmt: skip
"""What the person does in each clip. In every one the place where it ends was free at some time. Somebody who never
leaves one spot is found too (`perception/person_in_scene.py`); the clips do not show that, tests do."""
SHAPES: dict[str, tuple[float, float, float, float, float]] = {
    "walk": (0.5, 0.5, 0.5, 0.5, 0.5),
    "turn": (0.8, 0.6, 0.5, 0.6, 0.5),
    "sit": (0.3, 0.5, 0.5, 0.5, 0.5),
    "stand_up": (0.6, 0.5, 0.6, 0.45, 0.5),
    "reach": (0.2, 0.5, 0.4, 0.6, 0.6),
    "pick_up": (0.7, 0.6, 0.6, 0.5, 0.4),
    "climb": (0.4, 0.4, 0.5, 0.55, 0.5),
    "lie": (0.5, 0.5, 0.4, 0.5, 0.6),
}
"""The person's shape in each clip."""
CLIPS = tuple(MOTIONS)
"""Names of the clips."""
_STARTS = {
    "walk": (-0.75, 0.0), "turn": (-0.4, 0.3), "reach": (-0.75, -0.2), "pick_up": (-0.75, 0.0), "lie": (0.45, 0.0)
}  # fmt: skip
"""Where the person starts in clips that need no furniture, m."""
_HEADINGS = {"turn": -1.2, "reach": 0.4, "pick_up": 0.2}
"""Which way the person faces there, rad."""
_BEFORE_EDGE_M = 0.29
"""Distance of the ankles from the step that is climbed, m."""
_SEAT_FORWARD_M = 0.04
"""How far before the middle of the seat the pelvis comes down, m."""


def clip_config(name: str, *, seconds: float = 60.0, size: tuple[int, int] = (640, 480)) -> SyntheticConfig:
    """Return the recording of a clip, with poses and right clocks: both cameras, noise, furniture where it is needed.

    Args:
        name: One of CLIPS.
        seconds: The clip is cut here, s.
        size: Width and height of the images, pixels.

    Raises:
        InputError: There is no such clip.
    """
    if name not in MOTIONS:
        raise InputError(f"no clip {name!r} in the benchmark; it has {', '.join(CLIPS)}")
    seed = 100 + CLIPS.index(name)
    furniture = RoomConfig()
    start, heading = _STARTS.get(name, (0.0, 0.0)), _HEADINGS.get(name, 0.0)
    if name in ("sit", "stand_up"):
        furniture = RoomConfig(chair_xy=(-0.80, 0.15))
        x, y = layout(np.random.default_rng(seed), furniture)["chair"]
        body = whole_body()
        leg = proportions(body.rest(torch.tensor(SHAPES[name], dtype=body.dtype))).leg
        start = (x + _SEAT_FORWARD_M + SIT_BACK * leg, y)
    elif name == "climb":
        furniture = RoomConfig(step_xy=(-0.05, 0.0))
        x, y = layout(np.random.default_rng(seed), furniture)["step"]
        start = (x - 0.4 - _BEFORE_EDGE_M, y)
    motion = MotionConfig(MOTIONS[name], start_xy=start, heading=heading)
    config = SyntheticConfig(seed=seed, shape=SHAPES[name], motion=motion, room=furniture, max_seconds=seconds)
    return dataclasses.replace(config, width=size[0], height=size[1])
