"""Checkpoints: tensors as safetensors with a JSON header inside; nothing is pickled; written in one step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bodydouble.artifacts import atomic_file
from bodydouble.errors import InputError
from policy.nets.actor_critic import ActorCritic, NetConfig

MAX_CHECKPOINT_BYTES = 1 << 30
"""Largest checkpoint that is read."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself."""

    robot: str
    """Name of the robot."""
    joint_names: tuple[str, ...]
    """Joints, in the order of the actions."""
    policy_size: int
    """Size of the policy's observation."""
    critic_size: int
    """Size of the critic's observation."""
    net: NetConfig
    """Sizes of the networks."""
    env_steps: int
    """Environment steps learned from."""
    updates: int
    """Updates made."""
    extra: dict[str, Any]
    """Anything else worth keeping: learning rate, command, figures."""


def save_checkpoint(
    path: Path, net: ActorCritic, info: CheckpointInfo, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Write network, optional optimizer and CPU random state; the previous file survives a failure."""
    tensors = {f"net.{name}": tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    header = asdict(info)
    if optimizer is not None:
        state = optimizer.state_dict()
        for index, slots in state["state"].items():
            for name, value in slots.items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
        tensors["rng.cpu"] = torch.get_rng_state()
    with atomic_file(path) as temporary:
        save_file(tensors, str(temporary), metadata={"bodydouble": json.dumps(header)})


def load_checkpoint(
    path: Path, device: str | torch.device = "cpu"
) -> tuple[ActorCritic, CheckpointInfo, dict[str, Any]]:
    """Read a checkpoint.

    Returns:
        The network on `device`, what the checkpoint says, and the optimizer's tensors and random state by name.

    Raises:
        InputError: The file is missing, damaged, too large, or does not fit its own header.
    """
    try:
        if path.stat().st_size > MAX_CHECKPOINT_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {MAX_CHECKPOINT_BYTES}")
        with safe_open(str(path), framework="pt", device="cpu") as file:
            header = json.loads(file.metadata()["bodydouble"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        raw_net = header.pop("net")
        net_config = NetConfig(
            actor_layers=tuple(raw_net["actor_layers"]),
            critic_layers=tuple(raw_net["critic_layers"]),
            init_std=raw_net["init_std"],
        )
        info = CheckpointInfo(net=net_config, joint_names=tuple(header.pop("joint_names")), **header)
        net = ActorCritic(info.policy_size, info.critic_size, len(info.joint_names), net_config)
        net.load_state_dict({name[4:]: tensor for name, tensor in tensors.items() if name.startswith("net.")})
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; train a policy first") from None
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: cannot be read as a checkpoint ({reason}); train again") from None
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith("net.")}
    return net.to(device), info, rest


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Any], lr: float) -> None:
    """Put saved optimizer tensors back, so that training goes on exactly where it stopped."""
    state = optimizer.state_dict()
    slots: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            slots.setdefault(int(index), {})[name] = tensor
    state["state"] = slots
    for group in state["param_groups"]:
        group["lr"] = lr
    optimizer.load_state_dict(state)
    if "rng.cpu" in tensors:
        torch.set_rng_state(tensors["rng.cpu"])
