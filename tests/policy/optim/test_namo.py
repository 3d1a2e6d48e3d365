"""Muon, NAMO and NAMO-D against their equations, written out here step by step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bodydouble.errors import InputError
from policy.optim.matrix import Muon, shape_scale
from policy.optim.namo import Namo, NamoD
from policy.optim.orthogonal import orthogonalise

SHAPE = (6, 4)


def gradients(count: int, noise: float = 1.0, shape: tuple[int, int] = SHAPE, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(shape, generator=generator)
    return [mean + noise * torch.randn(shape, generator=generator) for _ in range(count)]


def run(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, steps: list[torch.Tensor]) -> torch.Tensor:
    for gradient in steps:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def fresh(shape: tuple[int, int] = SHAPE) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_muon_is_that_of_torch(nesterov: bool, scale) -> None:
    """The two differ by torch's bfloat16 products alone (an orthogonal matrix of entries below one: 8 bits)."""
    mine, theirs = fresh(), fresh()
    settings = {"lr": 0.02, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1}
    a = run(Muon([mine], scale=scale, method="newton_schulz", **settings), mine, gradients(12))
    b = run(torch.optim.Muon([theirs], adjust_lr_fn=scale, **settings), theirs, gradients(12))
    assert (a - b).abs().max() < 12 * 0.02 * shape_scale(scale, *SHAPE) * 2**-6
    assert (a - fresh()).abs().max() > 0.05


def test_namo_follows_its_equations() -> None:
    eta, mu1, mu2, decay, eps = 0.05, 0.9, 0.95, 0.1, 1e-8
    parameter = fresh()
    steps = gradients(9)
    optimizer = Namo(
        [parameter], eta, mu1, mu2, nesterov=False, weight_decay=decay, scale="none", method="svd", eps=eps
    )
    out = run(optimizer, parameter, steps)
    theta, mean, square = fresh().detach(), torch.zeros(SHAPE), 0.0
    for t, gradient in enumerate(steps, start=1):
        mean = mu1 * mean + (1 - mu1) * gradient
        square = mu2 * square + (1 - mu2) * float(gradient.square().sum())
        alpha = math.sqrt(1 - mu2**t) / (1 - mu1**t) * float(mean.norm()) / (math.sqrt(square) + eps)
        theta = theta - eta * alpha * (orthogonalise(mean, "svd") + decay * theta)
    torch.testing.assert_close(out, theta, atol=1e-5, rtol=0)


def test_namo_d_follows_its_equations_in_columns() -> None:
    eta, mu1, mu2, decay, eps, c = 0.05, 0.9, 0.95, 0.1, 1e-8, 0.9
    parameter = fresh()
    # Columns of very different noise, so that the clamp acts on some of them.
    loud = torch.tensor([1.0, 0.1, 3.0, 10.0])
    steps = [gradients(1)[0] + loud * noise for noise in gradients(9, seed=1)]
    optimizer = NamoD(
        [parameter], eta, mu1, mu2, nesterov=False, weight_decay=decay, scale="none", method="svd", eps=eps, clamp=c
    )
    out = run(optimizer, parameter, steps)
    theta, mean, square = fresh().detach(), torch.zeros(SHAPE), torch.zeros(4)
    clamped = 0
    for t, gradient in enumerate(steps, start=1):
        mean = mu1 * mean + (1 - mu1) * gradient
        for j in range(4):
            square[j] = mu2 * square[j] + (1 - mu2) * gradient[:, j].norm() ** 2
        size = torch.stack([mean[:, j].norm() / (square[j].sqrt() + eps) for j in range(4)])
        size = size * math.sqrt(1 - mu2**t) / (1 - mu1**t)
        kept = size.clamp(c * float(size.mean()), float(size.mean()) / c)
        clamped += int((kept != size).sum())
        theta = theta - eta * (orthogonalise(mean, "svd") @ torch.diag(kept) + decay * theta @ torch.diag(kept))
    assert 0 < clamped < 4 * 9
    torch.testing.assert_close(out, theta, atol=1e-5, rtol=0)


def test_namo_d_of_rows_is_that_of_the_transposed_matrix() -> None:
    """The other reading of "neuron": for torch's (out, in) weights, a row is what feeds one neuron."""
    wide = (4, 6)
    rows, columns = fresh(wide), nn.Parameter(fresh(wide).detach().T.clone())
    settings = {"lr": 0.05, "scale": "none", "method": "svd", "clamp": 0.5}
    steps = gradients(7, noise=3.0, shape=wide)
    by_row = run(NamoD([rows], neurons="rows", **settings), rows, steps)
    by_column = run(NamoD([columns], neurons="columns", **settings), columns, [g.T.contiguous() for g in steps])
    torch.testing.assert_close(by_row, by_column.T, atol=1e-5, rtol=0)
    other = fresh(wide)
    by_input = run(NamoD([other], neurons="columns", **settings), other, steps)
    assert (by_input - by_row).abs().max() > 1e-3, "the two conventions differ"


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("kind", ["namo", "namo_d"])
def test_a_constant_gradient_makes_it_muon(nesterov: bool, kind: str) -> None:
    """Without noise alpha is one at every step, also at the first ones, where bias correction does its work."""
    settings = {"lr": 0.02, "momentum": 0.95, "nesterov": nesterov, "weight_decay": 0.1, "scale": "match_rms_adamw"}
    steps = gradients(1, noise=0.0) * 15
    plain, adaptive = fresh(), fresh()
    expected = run(Muon([plain], method="newton_schulz", **settings), plain, steps)
    build = Namo if kind == "namo" else NamoD
    found = run(build([adaptive], method="newton_schulz", **settings), adaptive, steps)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0, 3.0])
def test_the_step_falls_with_the_noise(sigma: float) -> None:
    """alpha settles near |G0| / sqrt(|G0|^2 + sigma^2), sigma the noise's norm; Muon knows no alpha.

    The running mean is long (0.99), so that it is nearly the mean gradient: of the noise, a share sqrt(0.005) stays.
    """
    generator = torch.Generator().manual_seed(3)
    mean = torch.randn(SHAPE, generator=generator)
    spread = sigma * mean.norm() / math.sqrt(mean.numel())
    adaptive, plain = nn.Parameter(torch.zeros(SHAPE)), nn.Parameter(torch.zeros(SHAPE))
    settings = {"lr": 1.0, "momentum": 0.99, "nesterov": False, "weight_decay": 0.0, "scale": "none"}
    parts = [
        (Namo([adaptive], second_momentum=0.99, **settings), adaptive),
        (Muon([plain], method="newton_schulz", **settings), plain),
    ]
    alphas = []
    for _ in range(600):
        gradient = mean + spread * torch.randn(SHAPE, generator=generator)
        steps = []
        for optimizer, parameter in parts:
            with torch.no_grad():
                parameter.zero_()
            parameter.grad = gradient
            optimizer.step()
            steps.append(-parameter.detach())
        alphas.append(float((steps[0] * steps[1]).sum() / steps[1].square().sum()))
        torch.testing.assert_close(steps[0], alphas[-1] * steps[1], atol=1e-5, rtol=0)
    assert sum(alphas[-300:]) / 300 == pytest.approx(1 / math.sqrt(1 + sigma**2), rel=0.05)
    assert max(alphas) < 1.05


def test_namo_d_clamped_to_one_gives_every_column_the_mean() -> None:
    parameter = fresh()
    optimizer = NamoD([parameter], lr=0.1, clamp=1.0)
    run(optimizer, parameter, gradients(3, noise=5.0))
    state, group = optimizer.state[parameter], optimizer.param_groups[0]
    sizes = optimizer._step_size(state["momentum_buffer"], gradients(1)[0], state, group)
    assert sizes.shape == (1, 4) and (sizes - sizes.mean()).abs().max() < 1e-6


def test_step_has_adamw_size() -> None:
    """match_rms_adamw: the step's root mean square is 0.2 lr for a matrix of full rank, whatever its shape."""
    for shape in ((64, 16), (16, 64), (32, 32)):
        parameter = nn.Parameter(torch.zeros(shape))
        optimizer = Muon([parameter], 0.01, 0.95, True, 0.0, "match_rms_adamw", "svd")
        step = run(optimizer, parameter, gradients(1, shape=shape))
        # An orthogonal (m, n) matrix has Frobenius norm sqrt(min), so an rms of sqrt(min / (m n)) = 1 / sqrt(max).
        assert float(step.square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=1e-3)


def test_kernels_are_seen_as_matrices_and_vectors_are_refused() -> None:
    kernel, matrix = nn.Parameter(torch.zeros(4, 3, 5)), nn.Parameter(torch.zeros(4, 15))
    gradient = gradients(1, shape=(4, 15))[0]
    a = run(NamoD([kernel], lr=0.1), kernel, [gradient.view(4, 3, 5)])
    b = run(NamoD([matrix], lr=0.1), matrix, [gradient])
    assert torch.equal(a.flatten(1), b)
    with pytest.raises(InputError, match=r"got a parameter of shape \(3,\), it takes matrices only"):
        Namo([nn.Parameter(torch.zeros(3))], lr=0.1)
