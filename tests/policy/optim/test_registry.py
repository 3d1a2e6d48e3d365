from __future__ import annotations

import pytest
import torch
from torch import nn

from policy.optim.registry import AdamConfig, AdamWConfig, OptimizerConfig

CONFIGS = [AdamConfig(lr=0.05), AdamWConfig(lr=0.05, weight_decay=0.0)]


def one_parameter(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value]))


def test_configurations_build_what_they_say() -> None:
    module = nn.Linear(2, 2)
    adam = AdamConfig(lr=0.3, betas=(0.8, 0.9)).build(module.parameters())
    adamw = AdamWConfig(lr=0.4, betas=(0.7, 0.95), weight_decay=0.02).build(module.parameters())
    assert type(adam) is torch.optim.Adam and type(adamw) is torch.optim.AdamW
    assert (adam.defaults["lr"], adam.defaults["betas"]) == (0.3, (0.8, 0.9))
    assert (adamw.defaults["lr"], adamw.defaults["betas"], adamw.defaults["weight_decay"]) == (0.4, (0.7, 0.95), 0.02)
    assert adam.param_groups[0]["params"] == list(module.parameters())


@pytest.mark.parametrize("config", CONFIGS)
def test_the_first_step_has_the_size_of_the_learning_rate(config: OptimizerConfig) -> None:
    """Adam's first step is lr against the gradient's sign, whatever its size."""
    for gradient in (1e-3, 1.0, -250.0):
        parameter = one_parameter(1.0)
        optimizer = config.build([parameter])
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        assert parameter.item() == pytest.approx(1.0 - 0.05 * (1 if gradient > 0 else -1), abs=1e-5)


def test_weight_decay_is_decoupled_from_the_gradient() -> None:
    """Without a gradient AdamW shrinks a weight by lr * decay, Adam leaves it."""
    for config, expected in ((AdamWConfig(lr=0.1, weight_decay=0.5), 1.9), (AdamConfig(lr=0.1), 2.0)):
        parameter = one_parameter(2.0)
        optimizer = config.build([parameter])
        parameter.grad = torch.zeros(1)
        optimizer.step()
        assert parameter.item() == pytest.approx(expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_fits_a_parabola(config: OptimizerConfig) -> None:
    parameter = one_parameter(2.0)
    optimizer = config.build(iter([parameter]))
    for _ in range(300):
        optimizer.zero_grad()
        (parameter - 0.5).square().sum().backward()
        optimizer.step()
    assert parameter.item() == pytest.approx(0.5, abs=1e-2)
