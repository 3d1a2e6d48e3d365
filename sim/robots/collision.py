"""Which geoms of a robot touch what, and with which friction."""

from __future__ import annotations

import re
from dataclasses import dataclass

import mujoco


@dataclass(frozen=True)
class CollisionRule:
    """Contact settings of the geoms whose whole name matches a pattern."""

    pattern: str
    """Regular expression over the whole geom name."""
    condim: int
    """1: frictionless; 3: sliding friction; 6: also torsional and rolling friction."""
    priority: int = 0
    """The geom with the higher priority sets the friction of a contact."""
    friction: float | None = None
    """Sliding friction; None keeps the model's."""
    contype: int = 1
    """Contact type bits."""
    conaffinity: int = 1
    """Contact affinity bits."""


def apply_collision_rules(spec: mujoco.MjSpec, rules: tuple[CollisionRule, ...]) -> None:
    """Set every geom that a rule matches; the first matching rule counts, other geoms stay as they are."""
    for geom in spec.geoms:
        rule = next((rule for rule in rules if re.fullmatch(rule.pattern, geom.name or "")), None)
        if rule is None:
            continue
        geom.condim, geom.priority = rule.condim, rule.priority
        geom.contype, geom.conaffinity = rule.contype, rule.conaffinity
        if rule.friction is not None:
            geom.friction = [rule.friction, geom.friction[1], geom.friction[2]]
