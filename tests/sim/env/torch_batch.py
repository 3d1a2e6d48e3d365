"""The CPU's simulations as a backend of torch tensors that is not called "cpu": what a GPU's code path sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from array_api_compat import torch as xp

from sim.backend.cpu_batch import CpuBatch


class TorchBatch:
    """CpuBatch behind torch tensors; the same random numbers."""

    xp: Any = xp
    device = torch.device("cpu")

    def __init__(self, inner: CpuBatch) -> None:
        self._inner = inner
        self.model, self.num_envs = inner.model, inner.num_envs

    def get_state(self) -> tuple[torch.Tensor, torch.Tensor]:
        qpos, qvel = self._inner.get_state()
        return torch.from_numpy(qpos), torch.from_numpy(qvel)

    def set_state(self, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        self._inner.set_state(qpos.numpy(), qvel.numpy())

    def step(self, ctrl: torch.Tensor, previous_ctrl: torch.Tensor, delay: torch.Tensor, num_substeps: int) -> None:
        self._inner.step(ctrl.numpy(), previous_ctrl.numpy(), delay.numpy(), num_substeps)

    def body_pos(self) -> torch.Tensor:
        return torch.from_numpy(self._inner.body_pos())

    def body_quat(self) -> torch.Tensor:
        return torch.from_numpy(self._inner.body_quat())

    def set_model_field(self, name: str, values: torch.Tensor) -> None:
        self._inner.set_model_field(name, values.numpy())

    def random(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._inner.random(*shape))

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._inner.normal(*shape))

    def asarray(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(self._inner.asarray(np.asarray(values)))

    def accumulate(self, index: torch.Tensor, weight: torch.Tensor, size: int) -> torch.Tensor:
        return torch.from_numpy(self._inner.accumulate(index.numpy(), weight.numpy(), size))
