"""Whether what moves before a scene is somebody: a network that knows bodies finds joints in it, time and again.

Errors of depth and poses, shiny things, and edges seen past from elsewhere stand before the scene and are gone at other
times, as somebody is; their clusters may be as long and as thick as a person. A person they are not: the joint network
(`perception/joints/`) is certain of few joints there, and no body reaches those that it names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bodydouble.errors import InputError
from perception.initial_pose import initial_pose
from perception.segment import PersonPoints

FRAMES = 24
"""Frames that are looked at, evenly over the time at which something was seen."""


@dataclass(frozen=True)
class SomebodyConfig:
    """When what moves is somebody."""

    joints: float = 0.35
    """Share of the joints that must be certain and that a body must reach, with 0.3 to spare on real people; 0 leaves
    the question out."""
    time: float = 0.25
    """Share of the time in which they must be: who lies or is half hidden is hard to read for a while."""


def no_somebody(person: PersonPoints, config: SomebodyConfig) -> str | None:
    """Return why points are nobody's, or None where they are somebody's.

    Args:
        person: The points over time.
        config: What is asked of them.
    """
    if config.joints <= 0:
        return None
    seen = np.flatnonzero(person.count > 0)
    seen = seen[np.unique(np.linspace(0, len(seen) - 1, min(FRAMES, len(seen))).astype(np.int64))]
    try:
        sure = initial_pose(person, seen).confidence.double().numpy()
    except InputError:  # too few points in every frame
        return "too little is seen to find joints of a body in it"
    share = float(np.quantile(sure, 1.0 - config.time))
    if share >= config.joints:
        return None
    return (
        f"no body is found in it ({100 * share:.0f} % of its joints are certain, expected {100 * config.joints:.0f} %)"
    )
