"""The joint network as a term of the body fit: joints are drawn to where it has them, by its certainty.

One camera sees one side of a body, through clothes: how deep inside the joints lie is learned better than fitted.
"""

from __future__ import annotations

import numpy as np
import torch

from perception.body.anny_body import BodyState
from perception.body.jacobian import JOINT_INFLUENCE, Motions
from perception.clip_solver import ClipEquations
from perception.joints.estimate import JointEstimates

REACH_M = 0.15
"""Distance at which a joint that lies elsewhere has lost most of its pull, m."""
CERTAIN_M = 0.03
"""Laplace scale at which a joint's pull is half of what it can be, m."""


class JointPrior:
    """A term of the fit (`perception.clip_fit.FitTerm`).

    Args:
        found: The network's joints, world, m, at every frame of the person.
        pull: Weight of a frame's joints together where all are certain, 1/m^2.
    """

    def __init__(self, found: JointEstimates, pull: float):
        known: np.ndarray = np.asarray(np.isfinite(found.joints).all(axis=-1))
        scales = np.where(known, found.scales, 1.0)
        joints = max(1, int(known.any(axis=0).sum()))
        weight = known * pull / joints * 2 * CERTAIN_M**2 / (CERTAIN_M**2 + scales**2)
        self._joints = torch.as_tensor(np.where(known[..., None], found.joints, 0.0), dtype=torch.float32)
        self._weight = torch.as_tensor(np.minimum(weight, pull / joints), dtype=torch.float32)

    def add(self, equations: ClipEquations, motions: Motions, state: BodyState, frames: np.ndarray, start: int) -> None:
        """Add the residuals of some frames; see `perception.clip_fit.FitTerm`."""
        index = torch.as_tensor(frames)
        missing = self._joints[index] - state.joint_pos
        far = (missing.norm(dim=-1) / REACH_M) ** 2
        weight = self._weight[index] / (1 + far) ** 2
        rows = motions.point_rows(state.joint_pos, JOINT_INFLUENCE)
        equations.add(-rows.flatten(1, 2), missing.flatten(1), weight.repeat_interleave(3, dim=1), start=start)
