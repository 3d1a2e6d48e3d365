"""Routing, the combined optimizer, and its state on the way through safetensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bodydouble.errors import InputError
from policy.optim.combined import Combined, route
from policy.optim.matrix import Muon
from policy.optim.namo import NamoD
from policy.optim.registry import REGISTRY, AdamConfig, MuonConfig, NamoConfig, NamoDConfig, optimizer_config
from policy.optim.state import load_optimizer_tensors, optimizer_tensors

CONFIGS = [kind(lr=0.01) for kind in REGISTRY.values()]


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.ELU(), nn.Linear(5, 4), nn.ELU(), nn.Linear(4, 1))


def target(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x[:, 0]) + 0.5 * x[:, 1]


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(16, 3, generator=generator)
        optimizer.zero_grad()
        (net(x)[:, 0] - target(x)).square().mean().backward()
        optimizer.step()


def test_matrices_go_to_muon_and_the_rest_to_adamw() -> None:
    net = small_net()
    matrices, others = route(net.parameters())
    assert [tuple(p.shape) for p in matrices] == [(5, 3), (4, 5)]
    # The last layer has one row: no directions to balance.
    assert [tuple(p.shape) for p in others] == [(5,), (4,), (1, 4), (1,)]
    optimizer = NamoDConfig(lr=0.1, others_lr_ratio=0.2, clamp=0.4).build(net.parameters())
    assert isinstance(optimizer, Combined)
    first, second = optimizer._parts
    assert type(first) is NamoD and type(second) is torch.optim.AdamW
    assert first.param_groups[0]["clamp"] == 0.4 and second.param_groups[0]["weight_decay"] == 0.0
    assert second.param_groups[0]["lr"] == pytest.approx(0.02)
    only = MuonConfig().build([nn.Parameter(torch.zeros(3))])
    assert len(only.param_groups) == 1


def test_the_parts_do_what_they_do_alone() -> None:
    config = MuonConfig(lr=0.01)
    together, apart = small_net(), small_net()
    train(together, config.build(together.parameters()), 5, seed=1)
    matrices, others = route(apart.parameters())
    muon = Muon(matrices, 0.01, 0.95, True, 1e-2, "match_rms_adamw", "newton_schulz")
    adamw = torch.optim.AdamW(others, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)

    class Both:
        def zero_grad(self) -> None:
            apart.zero_grad()

        def step(self) -> None:
            muon.step()
            adamw.step()

    train(apart, Both(), 5, seed=1)  # type: ignore[arg-type]
    for a, b in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_learns(config) -> None:
    net = small_net()
    x = torch.randn(256, 3, generator=torch.Generator().manual_seed(9))

    def loss() -> float:
        with torch.no_grad():
            return float((net(x)[:, 0] - target(x)).square().mean())

    before = loss()
    train(net, dataclasses.replace(config, lr=0.05).build(net.parameters()), 200, seed=2)
    assert loss() < 0.2 * before


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_state_goes_through_safetensors_bit_for_bit(config, tmp_path: Path) -> None:
    """Three steps, a save, a load into a fresh optimizer, three more: the weights of six steps in one go."""
    whole = small_net()
    optimizer = config.build(whole.parameters())
    train(whole, optimizer, 3, seed=1)
    half = small_net(seed=5)
    half.load_state_dict(whole.state_dict())
    save_file(optimizer_tensors(optimizer), str(tmp_path / "optimizer.safetensors"))
    resumed = config.build(half.parameters())
    load_optimizer_tensors(resumed, load_file(str(tmp_path / "optimizer.safetensors")))
    train(whole, optimizer, 3, seed=2)
    train(half, resumed, 3, seed=2)
    for a, b in zip(whole.parameters(), half.parameters(), strict=True):
        assert torch.equal(a, b)
    for group, other in zip(optimizer.param_groups, resumed.param_groups, strict=True):
        assert group["lr"] == other["lr"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_changed_rate_reaches_every_part_after_a_load(config) -> None:
    net = small_net()
    optimizer = config.build(net.parameters())
    train(net, optimizer, 1, seed=1)
    load_optimizer_tensors(optimizer, optimizer_tensors(optimizer))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in net.parameters()]
    train(net, optimizer, 2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"6.exp_avg": torch.zeros(1)}, "belongs to none of 6 parameters"),
        ({"x.exp_avg": torch.zeros(1)}, "belongs to none"),
        ({"0": torch.zeros(1)}, "belongs to none"),
        ({"0.exp_avg": torch.zeros(5, 4)}, r"has shape \(5, 4\), its parameter \(5, 3\)"),
        ({"0.exp_avg": torch.zeros(15)}, r"has shape \(15,\)"),
    ],
)
def test_state_of_other_parameters_is_refused(tensors: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_optimizer_tensors(AdamConfig().build(small_net().parameters()), tensors)


@pytest.mark.parametrize("config", [*CONFIGS, NamoDConfig(lr=0.3, neurons="rows", others_betas=(0.8, 0.9))])
def test_configurations_go_through_json(config) -> None:
    data = json.loads(json.dumps(dataclasses.asdict(config)))
    assert optimizer_config(data) == config and type(optimizer_config(data)) is type(config)


def test_configurations_of_other_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="optimizer 'sgd' is not one of adam, adamw, muon, namo, namo_d, normuon"):
        optimizer_config({"name": "sgd", "lr": 0.1})
    with pytest.raises(InputError, match="optimizer adam has no setting 'clamp'"):
        optimizer_config({"name": "adam", "clamp": 0.5})
    with pytest.raises(InputError, match=r"optimizer\.clamp is 0\.0"):
        NamoDConfig(clamp=0.0)


def test_equal_settings_of_two_kinds_do_not_look_the_same() -> None:
    """A manifest's hash must tell NAMO from Muon."""
    assert dataclasses.asdict(NamoConfig())["name"] == "namo"
    assert dataclasses.asdict(NamoDConfig())["name"] == "namo_d"
