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
from bodydouble.errors import InputError, TrainingError
from policy.nets.actor_critic import ActorCritic
from policy.nets.policy_net import PolicyNet
from policy.nets.registry import AnyNetConfig, build_net, net_config
from policy.optim.schedule import set_lr
from policy.optim.state import load_optimizer_tensors, optimizer_tensors

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
    net: AnyNetConfig
    """Sizes of the networks."""
    env_steps: int
    """Environment steps learned from."""
    updates: int
    """Updates made."""
    extra: dict[str, Any]
    """Anything else worth keeping: learning rate, command, figures."""


def save_checkpoint(
    path: Path,
    net: PolicyNet,
    info: CheckpointInfo,
    optimizer: torch.optim.Optimizer | None = None,
    state: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a checkpoint; the previous file survives a failure.

    Args:
        path: The file.
        net: The network.
        info: What the checkpoint says of itself.
        optimizer: Its state is written too, with torch's random state on the CPU.
        state: More tensors, by name.

    Raises:
        TrainingError: The file could not be written, e.g. because the disk is full.
    """
    tensors = {f"net.{name}": tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    if optimizer is not None:
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(optimizer).items()}
        tensors["rng.cpu"] = torch.get_rng_state()
    tensors |= {name: tensor.detach().cpu().contiguous() for name, tensor in (state or {}).items()}
    metadata = {"bodydouble": json.dumps({**asdict(info), "layout": net.layout})}
    try:
        with atomic_file(path) as temporary:
            save_file(tensors, str(temporary), metadata=metadata)
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        before = "the previous one is unharmed" if path.exists() else "there is none yet"
        raise TrainingError(f"{path}: could not write the checkpoint ({reason}); {before}; free some space") from None


def load_checkpoint(
    path: Path, device: str | torch.device = "cpu"
) -> tuple[ActorCritic, CheckpointInfo, dict[str, Any]]:
    """Read a checkpoint of PPO's network, as `load_policy` does.

    Raises:
        InputError: The file is missing, damaged, too large, does not fit its own header, or holds another network.
    """
    net, info, rest = load_policy(path, device)
    if not isinstance(net, ActorCritic):
        raise InputError(f"{path}: holds a network of off-policy training (sac); PPO starts from its own kind, or none")
    return net, info, rest


def load_policy(path: Path, device: str | torch.device = "cpu") -> tuple[PolicyNet, CheckpointInfo, dict[str, Any]]:
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
        config = net_config(header.pop("net"))
        # Checkpoints from before there were encoders do not name the observation's terms.
        layout = tuple((int(size), int(history)) for size, history in header.pop("layout", ()))
        info = CheckpointInfo(net=config, joint_names=tuple(header.pop("joint_names")), **header)
        net = build_net(config, info.policy_size, info.critic_size, len(info.joint_names), layout)
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
    own = {name.removeprefix("optimizer."): t for name, t in tensors.items() if name.startswith("optimizer.")}
    load_optimizer_tensors(optimizer, own)
    set_lr(optimizer, lr)
    if "rng.cpu" in tensors:
        torch.set_rng_state(tensors["rng.cpu"])
