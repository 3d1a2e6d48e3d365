"""NorMuon: the paper's algorithm step by step, its invariants, and what becomes of convolutions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from policy.optim.combined import Combined
from policy.optim.normuon import NorMuon
from policy.optim.registry import NorMuonConfig
from policy.optim.state import load_optimizer_tensors, optimizer_tensors


def by_hand(weight: torch.Tensor, gradients: list[torch.Tensor], lr: float, decay: float) -> torch.Tensor:
    """Algorithm 1 (arXiv 2510.05491) with Nesterov's look-ahead, in float64 and with the exact orthogonalisation."""
    momentum, rows = torch.zeros_like(weight), torch.zeros(weight.shape[0], 1, dtype=weight.dtype)
    for gradient in gradients:
        momentum = 0.95 * momentum + 0.05 * gradient
        left, _, right = torch.linalg.svd(0.05 * gradient + 0.95 * momentum, full_matrices=False)
        step = left @ right
        rows = 0.9 * rows + 0.1 * step.square().mean(dim=1, keepdim=True)
        step = step / rows.sqrt()
        step = step * 0.2 * math.sqrt(step.numel()) / step.norm()
        weight = weight * (1 - lr * decay) - lr * step
    return weight


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_the_algorithm_step_by_step(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(5)]
    expected = by_hand(start.double(), [g.double() for g in gradients], 0.1, 0.5)
    parameter = nn.Parameter(start.clone())
    optimizer = NorMuon([parameter], 0.1, 0.95, 0.9, True, 0.5, "svd")
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), expected.float(), atol=2e-5, rtol=1e-5)


@given(rows=st.integers(2, 8), columns=st.integers(2, 8), size=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_first_step_is_as_large_as_adamws_and_alike_in_every_row(
    rows: int, columns: int, size: float, seed: int
) -> None:
    """Root mean square 0.2 lr, in all and in each row, whatever the gradient's size and its rows' sizes."""
    torch.manual_seed(seed)
    parameter = nn.Parameter(torch.zeros(rows, columns))
    optimizer = NorMuonConfig(lr=0.01, weight_decay=0.0).build([parameter])
    # Rows of very different size.
    parameter.grad = size * torch.randn(rows, columns) * torch.logspace(-1, 1, rows)[:, None]
    optimizer.step()
    found = parameter.detach().square().mean(dim=1).sqrt()
    torch.testing.assert_close(found, torch.full((rows,), 0.2 * 0.01), rtol=1e-4, atol=0)


def test_on_a_cpu_it_is_computed_in_float32() -> None:
    """The package's own bfloat16 leaves eight bits: two sizes of one gradient would step apart by a percent."""
    steps = []
    for size in (1.0, 3.7):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.zeros(16, 8))
        optimizer = NorMuonConfig(lr=1.0, weight_decay=0.0).build([parameter])
        parameter.grad = size * torch.randn(16, 8)
        optimizer.step()
        steps.append(parameter.detach())
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-4, atol=1e-5)


def test_matrices_go_to_it_and_the_rest_to_adamw() -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.ELU(), nn.Linear(5, 1))
    optimizer = NorMuonConfig(lr=0.1, others_lr_ratio=0.5).build(net.parameters())
    assert isinstance(optimizer, Combined)
    first, second = optimizer._parts
    assert type(first) is NorMuon and type(second) is torch.optim.AdamW
    assert [tuple(p.shape) for p in first.param_groups[0]["params"]] == [(5, 3)]
    assert second.param_groups[0]["lr"] == pytest.approx(0.05) and second.param_groups[0]["weight_decay"] == 0.0


def test_a_convolution_is_a_matrix_and_its_state_comes_back() -> None:
    """Its rows' squares (8, 1) have fewer dimensions than the weight (8, 3, 5)."""

    def net() -> nn.Conv1d:
        torch.manual_seed(0)
        return nn.Conv1d(3, 8, 5)

    def step(module: nn.Conv1d, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        module(torch.randn(4, 3, 9)).square().mean().backward()
        optimizer.step()

    whole, config = net(), NorMuonConfig(lr=0.01)
    optimizer = config.build(whole.parameters())
    step(whole, optimizer, 1)
    half = net()
    half.load_state_dict(whole.state_dict())
    resumed = config.build(half.parameters())
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    assert (8, 1) in {tuple(tensor.shape) for tensor in tensors.values()}
    load_optimizer_tensors(resumed, tensors)
    for module, own in ((whole, optimizer), (half, resumed)):
        step(module, own, 2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), half.parameters(), strict=True))


def test_what_has_no_gradient_is_left_alone() -> None:
    moved, still = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    optimizer = NorMuonConfig(lr=0.1).build([moved, still])
    moved.grad = torch.randn(3, 3)
    optimizer.step()
    assert torch.equal(still.detach(), torch.ones(3, 3)) and not torch.equal(moved.detach(), torch.ones(3, 3))
