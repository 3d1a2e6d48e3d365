"""Networks from their settings, as a checkpoint names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.nets.policy_net import Layout, PolicyNet
from policy.nets.soft import SoftActorCritic, SoftNetConfig

AnyNetConfig = NetConfig | SoftNetConfig
"""Settings of every network."""


def net_config(raw: Mapping[str, Any]) -> AnyNetConfig:
    """Return the settings that `dataclasses.asdict` made a mapping of, also after a trip through JSON.

    Settings that checkpoints of earlier versions do not name have their defaults.

    Raises:
        KeyError: The layers' sizes are missing.
        TypeError: There is a setting that this version does not know.
    """
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    kind = values.pop("kind", "gaussian")
    layers = {name: values.pop(name) for name in ("actor_layers", "critic_layers")}
    return SoftNetConfig(**layers, **values) if kind == "soft" else NetConfig(**layers, **values)


def build_net(
    config: AnyNetConfig, policy_size: int, critic_size: int, action_size: int, layout: Layout = ()
) -> PolicyNet:
    """Return the network of settings and sizes, to load a state into.

    Args:
        config: The settings.
        policy_size: Values of the policy's observation.
        critic_size: Values of the critics'.
        action_size: Actions.
        layout: Terms of the policy's observation; only an encoder reads it.
    """
    if isinstance(config, SoftNetConfig):
        # The bounds are part of the state.
        return SoftActorCritic(policy_size, critic_size, (1.0,) * action_size, config)
    return ActorCritic(policy_size, critic_size, action_size, config, layout)
