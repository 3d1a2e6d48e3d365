"""An optimizer's state as named tensors, for safetensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from bodydouble.errors import InputError


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the state as CPU tensors named "<parameter's index>.<slot>"; settings belong to the configuration."""
    return {
        f"{index}.{slot}": torch.as_tensor(value).detach().cpu().contiguous()
        for index, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put the tensors of `optimizer_tensors` back; the learning rates stay as they are.

    Raises:
        InputError: They are of an optimizer of other parameters.
    """
    params = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, slot = name.partition(".")
        if not (index.isdecimal() and slot and int(index) < len(params)):
            raise InputError(f"optimizer state {name!r} belongs to none of {len(params)} parameters; start anew")
        shape, own = tuple(tensor.shape), tuple(params[int(index)].shape)
        matrix = (own[0], math.prod(own[1:])) if own else own
        if tensor.ndim and not (_within(shape, own) or _within(shape, matrix)):
            raise InputError(
                f"optimizer state {name!r} has shape {shape}, its parameter {own}; it is of another network or "
                "optimizer, start anew"
            )
        slots.setdefault(int(index), {})[slot] = tensor
    state = optimizer.state_dict()
    state["state"] = slots
    optimizer.load_state_dict(state)


def _within(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether a slot is as large as its parameter, or smaller by dimensions that were summed over."""
    return len(shape) == len(whole) and all(a in (1, b) for a, b in zip(shape, whole, strict=True))
