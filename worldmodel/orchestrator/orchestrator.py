"""Orchestrator: rehearses the skills whose preconditions hold and picks by success, then cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bodydouble.motion import RobotMotion
from worldmodel.orchestrator.competence import Competence
from worldmodel.orchestrator.rehearsal import Outcome, Rehearsal
from worldmodel.orchestrator.skills import SKILLS, Situation, Skill


@dataclass(frozen=True)
class OrchestratorConfig:
    """How skills are chosen."""

    rehearsals: int = 3
    """Rehearsals per skill, each with its own uncertainty of the present velocity."""
    velocity_noise: float = 0.1
    """Standard deviation of that uncertainty, m/s."""
    horizon_s: float = 4.0
    """Simulated time of a rehearsal of stand and stop, s; track is rehearsed to the reference's end."""
    min_competence: float = 0.7
    """Expected rate of success below which track is not begun."""
    seed: int = 0
    """Seed of the uncertainty."""


@dataclass(frozen=True)
class Candidate:
    """A skill that was considered."""

    skill: str
    """Its name."""
    refused: str
    """Why it may not begin; empty when it was rehearsed."""
    competence: float
    """Expected rate of success after the rehearsals."""
    cost: float
    """The skill's cost and the body error of its rehearsals, m."""
    outcomes: tuple[Outcome, ...]
    """What the rehearsals showed."""


@dataclass(frozen=True)
class Decision:
    """A choice and why."""

    t_ns: int
    """Time of the situation, ns."""
    frame: int
    """Frame of the reference."""
    skill: str
    """The chosen skill."""
    reason: str
    """Why it was chosen."""
    candidates: tuple[Candidate, ...]
    """What was considered."""
    wall_s: float
    """Time spent on rehearsals, s."""

    def message(self) -> dict[str, Any]:
        """Return what is published."""
        return {"skill": self.skill, "reason": self.reason, "t_ns": self.t_ns, "frame": self.frame}


@dataclass
class Orchestrator:
    """Chooses skills for one reference."""

    rehearsal: Rehearsal
    """Where skills are tried."""
    reference: RobotMotion
    """The reference."""
    config: OrchestratorConfig = field(default_factory=OrchestratorConfig)
    """Settings."""
    competence: dict[str, Competence] = field(default_factory=dict)
    """What is known of each skill, over all decisions."""

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.config.seed)

    def decide(self, situation: Situation) -> Decision:
        """Rehearse what may begin and choose: the surest skill; among equally sure ones the cheapest.

        A skill counts as sure when every rehearsal succeeded and its competence reaches the bound.
        """
        candidates = [self._consider(skill, situation) for skill in SKILLS]
        open_ones = [candidate for candidate in candidates if not candidate.refused]
        wall = sum(outcome.wall_s for candidate in candidates for outcome in candidate.outcomes)
        if not open_ones:
            return Decision(
                situation.t_ns, situation.frame, "stop", f"no skill may begin: {candidates[0].refused}",
                tuple(candidates), wall,
            )  # fmt: skip
        sure = [
            c for c in open_ones if all(o.success for o in c.outcomes) and c.competence >= self.config.min_competence
        ]
        best = min(sure, key=lambda c: c.cost) if sure else max(open_ones, key=lambda c: (c.competence, -c.cost))
        won = sum(outcome.success for outcome in best.outcomes)
        reason = f"{won} of {len(best.outcomes)} rehearsals succeeded, competence {best.competence:.2f}"
        reason += f", cost {best.cost:.2f}" + ("" if sure else "; no skill is sure")
        return Decision(situation.t_ns, situation.frame, best.skill, reason, tuple(candidates), wall)

    def _consider(self, skill: Skill, situation: Situation) -> Candidate:
        refused = skill.precondition(situation, self.reference)
        known = self.competence.get(skill.name, Competence())
        if refused:
            return Candidate(skill.name, refused, known.mean, skill.cost, ())
        remaining = (self.reference.num_frames - situation.frame) / self.reference.fps + 0.5
        seconds = remaining if skill.name == "track" else self.config.horizon_s
        outcomes = []
        for trial in range(self.config.rehearsals):
            push = None if trial == 0 else self.config.velocity_noise * self._rng.standard_normal(3) * (1, 1, 0)
            outcomes.append(self.rehearsal.run(situation, skill.name, seconds, push))
            known = known.after(outcomes[-1].success)
        self.competence[skill.name] = known
        error = float(np.mean([min(outcome.body_error_m, 1.0) for outcome in outcomes]))
        return Candidate(skill.name, "", known.mean, skill.cost + error, tuple(outcomes))
