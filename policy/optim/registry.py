"""The optimizers a training or a fit can choose from: `config.build(parameters)`.

`name` is not set by hand; it tells the kind in a manifest or a checkpoint, from which `optimizer_config` reads it back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from bodydouble.errors import InputError
from policy.optim.combined import Combined, route
from policy.optim.matrix import Muon, Scale
from policy.optim.namo import Namo, NamoD, Neurons
from policy.optim.orthogonal import Method


class OptimizerConfig(Protocol):
    """A configuration that builds a torch optimizer."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    @property
    def lr(self) -> float:
        """Learning rate."""
        ...

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters."""
        ...


@dataclass(frozen=True)
class AdamConfig:
    """Adam."""

    lr: float = 1e-3
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments."""
    name: str = field(default="adam", init=False)
    """Name in the registry."""

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return Adam over the parameters: one pass over all of them per step, on every device."""
        return torch.optim.Adam(list(params), lr=self.lr, betas=self.betas, fused=True)


@dataclass(frozen=True)
class AdamWConfig:
    """AdamW: Adam with decoupled weight decay."""

    lr: float = 1e-3
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments."""
    weight_decay: float = 1e-2
    """Decay of the weights per step, in units of the learning rate."""
    name: str = field(default="adamw", init=False)
    """Name in the registry."""

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return AdamW over the parameters."""
        return torch.optim.AdamW(list(params), lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True)


@dataclass(frozen=True)
class MuonConfig:
    """Muon for matrices (momentum, orthogonalised), AdamW for the rest."""

    lr: float = 1e-3
    """Learning rate."""
    momentum: float = 0.95
    """Decay of the gradient's running mean."""
    nesterov: bool = True
    """Whether the momentum looks one step ahead."""
    weight_decay: float = 1e-2
    """Decay of the matrices per step, in units of the learning rate; the rest does not decay."""
    scale: Scale = "match_rms_adamw"
    """How a step grows with the matrix' shape; match_rms_adamw lets AdamW's learning rates carry over."""
    method: Method = "newton_schulz"
    """How matrices are orthogonalised."""
    others_lr_ratio: float = 1.0
    """Learning rate of the rest, in units of `lr`."""
    others_betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the moments of the rest."""
    name: str = field(default="muon", init=False)
    """Name in the registry."""

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return Muon over the matrices among the parameters and AdamW over the rest."""
        return _routed(params, self, lambda matrices: Muon(matrices, **_shared(self)))


@dataclass(frozen=True)
class NamoConfig:
    """NAMO for matrices (Muon with a step size that follows the gradient's noise), AdamW for the rest."""

    lr: float = 1e-3
    """Learning rate."""
    momentum: float = 0.95
    """Decay of the gradient's running mean."""
    second_momentum: float = 0.99
    """Decay of the running mean of the squared gradient norm."""
    nesterov: bool = True
    """Whether the momentum looks one step ahead."""
    weight_decay: float = 1e-2
    """Decay of the matrices per step, in units of the learning rate; the rest does not decay."""
    scale: Scale = "match_rms_adamw"
    """How a step grows with the matrix' shape; match_rms_adamw lets AdamW's learning rates carry over."""
    method: Method = "newton_schulz"
    """How matrices are orthogonalised."""
    others_lr_ratio: float = 1.0
    """Learning rate of the rest, in units of `lr`."""
    others_betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the moments of the rest."""
    name: str = field(default="namo", init=False)
    """Name in the registry."""

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return NAMO over the matrices among the parameters and AdamW over the rest."""
        return _routed(
            params, self, lambda matrices: Namo(matrices, second_momentum=self.second_momentum, **_shared(self))
        )


@dataclass(frozen=True)
class NamoDConfig(NamoConfig):
    """NAMO-D for matrices (a step size per column or row), AdamW for the rest."""

    clamp: float = 0.75
    """Step sizes are kept between this and its inverse times their mean; in (0, 1]."""
    neurons: Neurons = "columns"
    """What has a step size of its own: "columns" of a weight (out, in), its inputs, or "rows", its neurons."""
    name: str = field(default="namo_d", init=False)
    """Name in the registry."""

    def __post_init__(self) -> None:
        """Check the clamp.

        Raises:
            InputError: It lies outside (0, 1].
        """
        if not 0.0 < self.clamp <= 1.0:
            raise InputError(f"optimizer.clamp is {self.clamp}, expected above 0 and at most 1")

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return NAMO-D over the matrices among the parameters and AdamW over the rest."""

        def build(matrices: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
            return NamoD(
                matrices, second_momentum=self.second_momentum, clamp=self.clamp, neurons=self.neurons, **_shared(self)
            )

        return _routed(params, self, build)


@dataclass(frozen=True)
class NorMuonConfig:
    """NorMuon for matrices (Muon whose rows are brought to the same size), AdamW for the rest."""

    lr: float = 1e-3
    """Learning rate; those of AdamW carry over."""
    momentum: float = 0.95
    """Decay of the gradient's running mean."""
    second_momentum: float = 0.95
    """Decay of the running mean of the rows' squared steps."""
    nesterov: bool = True
    """Whether the momentum looks one step ahead."""
    weight_decay: float = 1e-2
    """Decay of the matrices per step, in units of the learning rate; the rest does not decay."""
    method: Method = "newton_schulz"
    """How matrices are orthogonalised."""
    others_lr_ratio: float = 1.0
    """Learning rate of the rest, in units of `lr`."""
    others_betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the moments of the rest."""
    name: str = field(default="normuon", init=False)
    """Name in the registry."""

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return NorMuon over the matrices among the parameters and AdamW over the rest."""
        # The package takes as long to import as torch; who does not use it does not wait for it.
        from policy.optim.normuon import NorMuon

        def build(matrices: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
            return NorMuon(
                matrices, self.lr, self.momentum, self.second_momentum, self.nesterov, self.weight_decay, self.method
            )

        return _routed(params, self, build)


AnyOptimizer = AdamConfig | AdamWConfig | MuonConfig | NamoConfig | NamoDConfig | NorMuonConfig
"""Every optimizer of the registry; on the command line, `config.ppo.optimizer:muon-config` chooses one."""
REGISTRY: dict[str, Any] = {
    "adam": AdamConfig,
    "adamw": AdamWConfig,
    "muon": MuonConfig,
    "namo": NamoConfig,
    "namo_d": NamoDConfig,
    "normuon": NorMuonConfig,
}
"""The configurations by name."""


def optimizer_config(data: Mapping[str, Any]) -> AnyOptimizer:
    """Return the configuration that `dataclasses.asdict` made a mapping of (also after a trip through JSON).

    Raises:
        InputError: Its name is not in the registry, or a value does not fit.
    """
    settings = dict(data)
    name = settings.pop("name", None)
    if name not in REGISTRY:
        raise InputError(f"optimizer {name!r} is not one of {', '.join(REGISTRY)}")
    known = {f.name for f in dataclasses.fields(REGISTRY[name]) if f.init}
    if unknown := sorted(set(settings) - known):
        raise InputError(f"optimizer {name} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    # JSON has no tuples.
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    return REGISTRY[name](**settings)


def _shared(config: MuonConfig | NamoConfig) -> dict[str, Any]:
    return {
        "lr": config.lr, "momentum": config.momentum, "nesterov": config.nesterov,
        "weight_decay": config.weight_decay, "scale": config.scale, "method": config.method,
    }  # fmt: skip


def _routed(
    params: Iterable[torch.nn.Parameter],
    config: MuonConfig | NamoConfig | NorMuonConfig,
    build: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
) -> Combined:
    """Return the matrices' optimizer and AdamW as one; the rest (biases, spreads) is not pulled to zero."""
    matrices, others = route(params)
    parts: list[torch.optim.Optimizer] = [build(matrices)] if matrices else []
    if others:
        lr = config.lr * config.others_lr_ratio
        rest = torch.optim.AdamW(others, lr=lr, betas=config.others_betas, weight_decay=0.0)
        rest.param_groups[0]["lr_ratio"] = config.others_lr_ratio
        parts.append(rest)
    return Combined(parts)
