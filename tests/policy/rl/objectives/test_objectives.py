"""Every objective against a formula written out here: its value, and its gradient by hand against autograd's."""

from __future__ import annotations

import math

import pytest
import torch

from policy.rl.objectives.clip import GRPO, GSPO, PPOClip
from policy.rl.objectives.plain import PolicyGradient
from policy.rl.objectives.samples import Samples
from policy.rl.objectives.smooth import SAPO
from policy.rl.objectives.vespo import VESPO, log_kernel

SEQUENCE = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
COUNTS = torch.tensor([3.0, 2.0, 4.0])


def samples(spread: float = 0.3, seed: int = 0, sequences: bool = True) -> Samples:
    """Nine steps in three sequences of three, two and four."""
    generator = torch.Generator().manual_seed(seed)
    log_prob = torch.randn(9, generator=generator, dtype=torch.float64)
    behaviour = log_prob - spread * torch.randn(9, generator=generator, dtype=torch.float64)
    advantage = torch.randn(9, generator=generator, dtype=torch.float64)
    return Samples(log_prob.requires_grad_(), behaviour, advantage, SEQUENCE if sequences else None)


def gradient(objective, s: Samples) -> torch.Tensor:
    loss, more = objective.loss(s)
    assert loss.ndim == 0 and all(not value.requires_grad for value in more.values())
    (grad,) = torch.autograd.grad(loss, s.log_prob)
    return grad


def test_vespo_kernel_is_one_at_one_and_bounded() -> None:
    weights = torch.linspace(-8, 4, 400001, dtype=torch.float64)
    for (power, rate), highest, at in (((2.0, 3.0), 1.2081, 2 / 3), ((3.0, 2.0), 1.2416, 3 / 2)):
        assert float(torch.exp(log_kernel(torch.zeros((), dtype=torch.float64), power, rate))) == 1.0
        phi = torch.exp(log_kernel(weights, power, rate))
        assert float(phi.max()) == pytest.approx(highest, abs=5e-5)
        assert float(phi.max()) == pytest.approx((power / rate) ** power * math.exp(rate - power), rel=1e-8)
        assert float(torch.exp(weights[phi.argmax()])) == pytest.approx(at, rel=1e-4)


@pytest.mark.parametrize("log_weight", [-300.0, -25.0, 4.5, 25.0, 300.0])
def test_vespo_kernel_vanishes_far_away_without_overflow(log_weight: float) -> None:
    for power, rate in ((2.0, 3.0), (3.0, 2.0)):
        phi = torch.exp(log_kernel(torch.tensor(log_weight), power, rate))
        assert 0.0 <= float(phi) < 1e-15


def test_vespo_by_hand() -> None:
    # One sequence of two steps with ratios 1.2 and 0.5: W = 0.6. A = 1 and -1.
    #   phi(0.6) = 0.6^2 e^{3 * 0.4} = 0.36 * 3.3201169 = 1.1952421 for A >= 0,
    #              0.6^3 e^{2 * 0.4} = 0.216 * 2.2255409 = 0.4807168 for A < 0.
    # Log-probabilities -1 and -2: loss = -(1.1952421 * -1 + 0.4807168 * 2) / 2 = 0.1169042.
    log_prob = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    behaviour = log_prob.detach() - torch.tensor([1.2, 0.5], dtype=torch.float64).log()
    s = Samples(log_prob, behaviour, torch.tensor([1.0, -1.0], dtype=torch.float64), torch.tensor([0, 0]))
    loss, more = VESPO().loss(s)
    assert loss.item() == pytest.approx(0.1169042, abs=1e-7)
    assert more["weight"].item() == pytest.approx((1.1952421 + 0.4807168) / 2, abs=1e-7)
    # (sum phi)^2 / (2 sum phi^2) = 2.8087... / 3.3193...
    assert more["effective_share"].item() == pytest.approx(1.6759589**2 / (2 * (1.1952421**2 + 0.4807168**2)), rel=1e-6)
    # Per control step: phi(1.2) = 1.44 e^{-0.6} = 0.7902888; phi(0.5) = 0.125 e^{1} = 0.3397852.
    loss, _ = VESPO(level="step").loss(s)
    assert loss.item() == pytest.approx(-(0.7902888 * -1 + 0.3397852 * 2) / 2, abs=1e-7)


@pytest.mark.parametrize("level", ["sequence", "step"])
def test_vespo_gradient(level) -> None:
    """-phi(W) A / B for each step, phi held fixed; the product over the sequence, no length normalisation."""
    s = samples()
    log_weight = s.log_ratio.detach()
    if level == "sequence":
        log_weight = torch.stack([log_weight[k == SEQUENCE].sum() for k in range(3)])[SEQUENCE]
    weight = torch.exp(log_weight)
    phi = torch.where(
        s.advantage >= 0, weight**2 * torch.exp(3 * (1 - weight)), weight**3 * torch.exp(2 * (1 - weight))
    )
    torch.testing.assert_close(gradient(VESPO(level=level), s), -phi * s.advantage / 9)


def test_vespo_on_policy_is_the_policy_gradient() -> None:
    s = samples(spread=0.0)
    for level in ("sequence", "step"):
        torch.testing.assert_close(gradient(VESPO(level=level), s), gradient(PolicyGradient(), s))


def test_ppo_clip_gradient() -> None:
    s = samples(sequences=False)
    ratio = torch.exp(s.log_ratio.detach())
    stopped = ((s.advantage > 0) & (ratio > 1.2)) | ((s.advantage < 0) & (ratio < 0.8))
    assert 0 < int(stopped.sum()) < 9
    expected = torch.where(stopped, 0.0, -ratio * s.advantage / 9)
    torch.testing.assert_close(gradient(PPOClip(0.2), s), expected)


def test_grpo_gradient() -> None:
    """Each sequence weighs the same, however long; the upper range is wider."""
    s = samples()
    ratio = torch.exp(s.log_ratio.detach())
    stopped = ((s.advantage > 0) & (ratio > 1.28)) | ((s.advantage < 0) & (ratio < 0.8))
    expected = torch.where(stopped, 0.0, -ratio * s.advantage / COUNTS[SEQUENCE] / 3)
    torch.testing.assert_close(gradient(GRPO(), s), expected)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_gspo_gradient(scale: float) -> None:
    s = samples(spread=0.3 * scale)
    mean = torch.stack([s.log_ratio.detach()[k == SEQUENCE].mean() for k in range(3)])
    ratio = torch.exp(mean)[SEQUENCE]
    stopped = ((s.advantage > 0) & (ratio > 1 + 4e-4)) | ((s.advantage < 0) & (ratio < 1 - 3e-4))
    expected = torch.where(stopped, 0.0, -ratio * s.advantage / COUNTS[SEQUENCE] / 3)
    torch.testing.assert_close(gradient(GSPO(), s), expected)


def test_gspo_with_one_advantage_per_sequence_is_the_sequence_form() -> None:
    """min(s A, clip(s) A) with s = (pi / mu)^(1 / T), differentiated as it stands."""
    s = samples()
    per_sequence = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    s = Samples(s.log_prob, s.behaviour, per_sequence[SEQUENCE], SEQUENCE)
    ratio = torch.exp(s.means(s.log_ratio))
    gain = torch.minimum(ratio * per_sequence, ratio.clamp(1 - 0.3, 1 + 0.4) * per_sequence)
    (expected,) = torch.autograd.grad(-gain.mean(), s.log_prob)
    torch.testing.assert_close(gradient(GSPO(0.3, 0.4), s), expected)


def test_sapo_gradient() -> None:
    """-4 sigma (1 - sigma) ratio A / B with sigma the sigmoid of tau (ratio - 1)."""
    s = samples(sequences=False)
    ratio = torch.exp(s.log_ratio.detach())
    tau = torch.where(s.advantage >= 0, 1.0, 1.05)
    sigma = 1 / (1 + torch.exp(-tau * (ratio - 1)))
    torch.testing.assert_close(gradient(SAPO(), s), -4 * sigma * (1 - sigma) * ratio * s.advantage / 9)


@pytest.mark.parametrize("importance", [False, True])
def test_policy_gradient(importance: bool) -> None:
    s = samples(sequences=False)
    weight = torch.exp(s.log_ratio.detach()) if importance else torch.ones(9, dtype=torch.float64)
    torch.testing.assert_close(gradient(PolicyGradient(importance), s), -weight * s.advantage / 9)


@pytest.mark.parametrize("objective", [VESPO(), GRPO(), GSPO()])
def test_single_steps_are_refused_where_sequences_are_needed(objective) -> None:
    assert objective.needs_sequences
    with pytest.raises(ValueError, match="needs whole sequences"):
        objective.loss(samples(sequences=False))


@pytest.mark.parametrize("objective", [PPOClip(), SAPO(), PolicyGradient(), VESPO(level="step")])
def test_single_steps_suffice(objective) -> None:
    assert not objective.needs_sequences
    first, _ = objective.loss(samples(sequences=False))
    second, _ = objective.loss(samples())
    assert first.item() == second.item()


@pytest.mark.parametrize("objective", [VESPO(), VESPO(level="step"), PPOClip(), GRPO(), GSPO(), SAPO()])
def test_nan_is_not_hidden(objective) -> None:
    s = samples()
    with torch.no_grad():
        s.behaviour[4] = math.nan
    assert not math.isfinite(objective.loss(s)[0].item())
