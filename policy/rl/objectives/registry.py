"""The objectives a training can choose from."""

from __future__ import annotations

from typing import Annotated, Any

import tyro

from policy.rl.objectives.clip import GRPO, GSPO, PPOClip
from policy.rl.objectives.plain import PolicyGradient
from policy.rl.objectives.smooth import SAPO
from policy.rl.objectives.vespo import VESPO

AnyObjective = (
    Annotated[PPOClip, tyro.conf.subcommand("ppo-clip")]
    | Annotated[VESPO, tyro.conf.subcommand("vespo")]
    | Annotated[GRPO, tyro.conf.subcommand("grpo")]
    | Annotated[GSPO, tyro.conf.subcommand("gspo")]
    | Annotated[SAPO, tyro.conf.subcommand("sapo")]
    | Annotated[PolicyGradient, tyro.conf.subcommand("policy-gradient")]
)
"""Every objective; on the command line, `config.ppo.objective:vespo` chooses one."""
OBJECTIVES: dict[str, Any] = {
    "ppo_clip": PPOClip,
    "vespo": VESPO,
    "grpo": GRPO,
    "gspo": GSPO,
    "sapo": SAPO,
    "policy_gradient": PolicyGradient,
}
"""The objectives by name."""
