"""Which parts of a robot follow which parts of a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bodydouble.errors import InputError

SIDES = ("left", "right")
"""The sides, in the order of all arrays."""
LEG = ("hip", "knee", "ankle")
"""Parts of a leg."""
ARM = ("shoulder", "elbow", "wrist")
"""Parts of an arm."""
BODY_PARTS = ("pelvis", "torso", *(f"{side}_{part}" for side in SIDES for part in LEG))
"""Parts that a robot needs to follow the whole body; arms come on top."""
PARTS = (*BODY_PARTS, *(f"{side}_{part}" for side in SIDES for part in ARM))
"""All parts of a person that a robot can follow with."""


@dataclass(frozen=True)
class Follow:
    """What of a robot follows a person: the whole body with or without arms, or one hand with an arm's tool."""

    parts: Mapping[str, str]
    """Part of the person to the robot's body, site or geom."""
    scale: float | None = None
    """Scale of the person's path or, for an arm, of the hand's; none finds it from the lengths of both."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Factor on the weight with which a part follows, 1 where it is not named."""

    def __post_init__(self) -> None:
        unknown = sorted({*self.parts, *self.weights} - set(PARTS))
        if unknown:
            raise InputError(f"mapping: {unknown[0]!r} is no part of a person; known are {', '.join(PARTS)}")
        if self.scale is not None and not 0.1 <= self.scale <= 10.0:
            raise InputError(f"mapping: scale is {self.scale}, expected 0.1 to 10")
        if any(not weight >= 0 for weight in self.weights.values()):
            raise InputError("mapping: a weight is below 0")
        if self.tool is not None:
            return
        missing = [part for part in BODY_PARTS if part not in self.parts]
        missing += [
            f"{side}_{part}" for side in SIDES for part in ARM if self.arms and f"{side}_{part}" not in self.parts
        ]
        if missing:
            raise InputError(
                f"mapping: nothing follows {missing[0]!r}; give pelvis, torso and both legs (hip, knee, ankle), and "
                "for arms shoulder, elbow and wrist of both sides; or one wrist alone for an arm's tool"
            )

    @property
    def tool(self) -> str | None:
        """The one wrist that an arm follows, left_wrist or right_wrist; None for a whole body."""
        wrists = [part for part in self.parts if part.endswith("_wrist")]
        return wrists[0] if len(self.parts) == 1 and wrists else None

    @property
    def arms(self) -> bool:
        """Whether a whole body has arms that follow."""
        return any(part.split("_")[-1] in ARM for part in self.parts)

    def weight(self, part: str) -> float:
        """Return the factor on a part's weight."""
        return float(self.weights.get(part, 1.0))

    def describe(self) -> str:
        """Return what follows, in words."""
        if self.tool is not None:
            return f"{self.tool.split('_')[0]} hand"
        return "whole body" if self.arms else "whole body without arms"
