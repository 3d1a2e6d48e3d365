"""ReferencePlayer: which frame of the reference motion is due, as skills ask for it."""

from __future__ import annotations

import numpy as np

from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from bodydouble.observation import ReferenceWindow

SKILLS = ("stand", "track", "stop")
"""stand holds the present frame; track plays on; stop plays on to the next safe frame and holds it."""
SAFE_ROOT_SPEED = 0.15
"""Base speed below which a frame with all feet planted is safe to hold, m/s."""
MAX_OFFSET = 1 << 20
"""Farthest frame, from the present one, that a policy can ask for."""
_FIELDS = ("root_pos", "root_quat", "root_lin_vel", "root_ang_vel", "joint_pos", "joint_vel")


class ReferencePlayer:
    """Plays a reference motion at the control rate, one frame per tick."""

    def __init__(self, motion: RobotMotion, offsets: tuple[int, ...]) -> None:
        """Start at frame 0, standing.

        Args:
            motion: The reference.
            offsets: Frames ahead that the policy sees, the one to reach in this step first.

        Raises:
            InputError: There is no offset, or one reaches beyond any motion.
        """
        if not offsets or max(map(abs, offsets)) > MAX_OFFSET:
            raise InputError(f"reference offsets are {offsets}, expected at least one and none beyond {MAX_OFFSET}")
        self.motion = motion
        self.frame = 0
        self.skill = "stand"
        self._last = motion.num_frames - 1
        self._offsets = np.asarray(offsets, dtype=np.int64)
        self._arrays = {name: np.ascontiguousarray(getattr(motion, name), dtype=np.float32) for name in _FIELDS}
        feet = [i for i, name in enumerate(motion.contact_names) if "foot" in name]
        planted = motion.contact[:, feet].all(axis=1) if feet else np.ones(motion.num_frames, dtype=bool)
        self._safe = planted & (np.linalg.norm(motion.root_lin_vel, axis=1) < SAFE_ROOT_SPEED)
        self._safe[-1] = True

    @property
    def finished(self) -> bool:
        """Whether the last frame is reached."""
        return self.frame >= self._last

    @property
    def still(self) -> bool:
        """Whether the reference stands still at the present frame."""
        return self.skill == "stand" or (self.skill == "stop" and bool(self._safe[self.frame]))

    def select(self, skill: str) -> None:
        """Change the skill.

        Raises:
            InputError: The skill is unknown.
        """
        if skill not in SKILLS:
            raise InputError(f"skill {skill!r} is unknown; known skills: {', '.join(SKILLS)}")
        # Standing still in the middle of a step would fall over: stand means stop, until a safe frame is reached.
        self.skill = "stop" if skill == "stand" and not self._safe[self.frame] else skill

    def window(self) -> ReferenceWindow:
        """Return the reference ahead of the present frame, one environment, float32."""
        still = self.still
        ahead = self.frame + (np.zeros_like(self._offsets) if still else self._offsets)
        moving = ((ahead < self._last) & (not still))[:, None]
        place = np.clip(ahead, 0, self._last)
        taken = {name: array[place] for name, array in self._arrays.items()}
        for name in ("root_lin_vel", "root_ang_vel", "joint_vel"):
            taken[name] = np.where(moving, taken[name], np.float32(0))
        return ReferenceWindow(**{name: array[None] for name, array in taken.items()})

    def advance(self) -> None:
        """Go on by one frame where the skill plays."""
        if not self.still:
            self.frame = min(self.frame + 1, self._last)


class NoReference:
    """In the player's place for a policy that follows no reference: `track` lets it obey, the other skills rest."""

    frame = 0
    finished = False

    def __init__(self) -> None:
        """Begin with obeying: without a command there is nothing to obey yet."""
        self.skill = "track"

    @property
    def still(self) -> bool:
        """Whether the policy is to rest."""
        return self.skill != "track"

    def select(self, skill: str) -> None:
        """Change the skill.

        Raises:
            InputError: The skill is unknown.
        """
        if skill not in SKILLS:
            raise InputError(f"skill {skill!r} is unknown; known skills: {', '.join(SKILLS)}")
        self.skill = skill

    def window(self) -> None:
        """Return that there is no reference."""

    def advance(self) -> None:
        """Go on."""
