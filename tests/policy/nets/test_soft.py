"""The networks of off-policy training: squashed densities, distributions over fixed returns, targets, export."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, TanhTransform

from bodydouble.errors import InputError
from policy.nets.soft import SoftActorCritic, SoftNetConfig, SquashedActor, projected

CONFIG = SoftNetConfig(actor_layers=(16, 8), critic_layers=(8,), atoms=11, lowest=-5.0, highest=5.0)
BOUND = (0.5, 2.0)


@pytest.fixture
def net() -> SoftActorCritic:
    torch.manual_seed(0)
    return SoftActorCritic(3, 4, BOUND, CONFIG)


def stirred(actor: SquashedActor) -> SquashedActor:
    """An actor whose last layer is not zero."""
    torch.nn.init.normal_(actor.head.weight, std=1.5)
    actor.norm.update(1.0 + 2.0 * torch.randn(200, actor.norm.mean.shape[0]))
    return actor


def test_starts_at_rest_and_stays_within_the_bounds(net: SoftActorCritic) -> None:
    obs = 10 * torch.randn(500, 3)
    assert not net.actor(obs).any()
    stirred(net.actor)
    for action in (net.actor(obs), net.actor.sample(obs)[0]):
        assert action.shape == (500, 2) and (action.abs() <= torch.tensor(BOUND)).all()
    assert (net.actor(obs).abs() > 0.9 * torch.tensor(BOUND)).any()


def test_the_density_is_that_of_torch(net: SoftActorCritic) -> None:
    actor, obs = stirred(net.actor), torch.randn(400, 3)
    torch.manual_seed(1)
    action, log_prob = actor.sample(obs)
    mean, log_std = actor.distribution(obs)
    scaled = [TanhTransform(cache_size=1), AffineTransform(0.0, torch.tensor(BOUND))]
    known = Independent(TransformedDistribution(Normal(mean, log_std.exp()), scaled), 1)
    # Close to a bound the inverse of tanh is lost in rounding; the density there is only ours.
    inner = (action.abs() < 0.99 * torch.tensor(BOUND)).all(dim=1)
    assert inner.sum() > 200
    torch.testing.assert_close(log_prob[inner], known.log_prob(action)[inner], rtol=1e-3, atol=1e-3)
    assert log_prob.isfinite().all()


def test_spreads_stay_in_their_range(net: SoftActorCritic) -> None:
    torch.nn.init.normal_(net.actor.head.weight, std=50.0)
    log_std = net.actor.distribution(torch.randn(200, 3))[1]
    assert log_std.min() >= CONFIG.min_log_std and log_std.max() <= CONFIG.max_log_std
    assert log_std.min() < -4.9 and log_std.max() > -0.1


def test_a_projection_by_hand() -> None:
    """Returns 0.5 + 0.5 z of atoms 0, 1, 2, 3, 4 are 0.5, 1, 1.5, 2, 2.5."""
    support = torch.arange(5.0)
    chances = torch.tensor([[[0.5, 0.25, 0.0, 0.0, 0.25]], [[0.0, 0.0, 1.0, 0.0, 0.0]]])
    returns = (0.5 + 0.5 * support)[None]
    found = projected(chances, returns, support)
    expected = [[[0.25, 0.25 + 0.25, 0.125, 0.125, 0.0]], [[0.0, 0.5, 0.5, 0.0, 0.0]]]
    torch.testing.assert_close(found, torch.tensor(expected))


@given(
    st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6).filter(lambda p: sum(p) > 0.1),
    st.floats(-3.0, 3.0),
    st.floats(0.0, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_projections_keep_the_mass_and_inside_the_support_the_mean(p: list[float], shift: float, factor: float) -> None:
    support = torch.linspace(-2.0, 3.0, 6, dtype=torch.float64)
    chances = torch.tensor(p, dtype=torch.float64) / sum(p)
    returns = shift + factor * support
    found = projected(chances[None, None], returns[None], support)[0, 0]
    assert found.min() >= 0 and found.sum().item() == pytest.approx(1.0)
    mean = (chances * returns.clamp(-2.0, 3.0)).sum().item()
    assert (found * support).sum().item() == pytest.approx(mean, abs=1e-9)


def test_critics_are_two_and_their_values_are_means(net: SoftActorCritic) -> None:
    logits = net.logits(torch.randn(7, 4), torch.rand(7, 2))
    assert logits.shape == (2, 7, 11) and not torch.equal(logits[0], logits[1])
    by_hand = (logits[1, 3].softmax(0) * torch.linspace(-5, 5, 11)).sum()
    torch.testing.assert_close(net.value(logits)[1, 3], by_hand)


def test_targets_follow_and_are_not_learned(net: SoftActorCritic) -> None:
    critic, action = torch.randn(7, 4), torch.rand(7, 2)
    assert torch.equal(net.logits(critic, action), net.logits(critic, action, target=True))
    learned = {id(parameter) for parameter in net.learned()}
    assert not learned & {id(parameter) for parameter in net.targets.parameters()}
    before = [p.detach().clone() for p in net.targets.parameters()]
    for parameter in net.critics.parameters():
        parameter.data += 1.0
    net.move_targets(0.25)
    for old, new in zip(before, net.targets.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)


def test_the_temperature_begins_as_asked(net: SoftActorCritic) -> None:
    assert net.log_temperature.item() == pytest.approx(math.log(0.1))


def test_onnx_gives_the_same_actions(net: SoftActorCritic, tmp_path: Path) -> None:
    actor = stirred(net.actor)
    actor.as_onnx(tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "policy.onnx"), providers=["CPUExecutionProvider"])
    obs = torch.cat([1.0 + 2.0 * torch.randn(50, 3), 1000.0 * torch.randn(20, 3), torch.zeros(1, 3)])
    with torch.no_grad():
        expected = actor(obs).numpy()
    found = np.concatenate([np.asarray(session.run(["action"], {"obs": row[None].numpy()})[0]) for row in obs])
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"atoms": 1}, "1 atoms from"),
        ({"lowest": 20.0}, "101 atoms from 20 to 20"),
        ({"min_log_std": 1.0}, "log_std 1 to 0"),
        ({"temperature": 0.0}, "temperature 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SoftNetConfig(**change)


def test_bounds_are_positive() -> None:
    with pytest.raises(InputError, match=r"bounds are \[1.0, 0.0\], expected positive"):
        SoftActorCritic(3, 4, (1.0, 0.0), CONFIG)
