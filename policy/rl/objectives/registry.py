"""The objectives a training can choose from."""

from __future__ import annotations

from typing import Any

from policy.rl.objectives.clip import GRPO, GSPO, PPOClip
from policy.rl.objectives.plain import PolicyGradient
from policy.rl.objectives.smooth import SAPO
from policy.rl.objectives.vespo import VESPO

AnyObjective = PPOClip | VESPO | GRPO | GSPO | SAPO | PolicyGradient
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
