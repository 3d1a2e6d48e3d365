from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from policy.nets.actor_critic import Actor, ActorCritic, NetConfig
from policy.nets.mlp import mlp


@pytest.fixture
def net() -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(5, 7, 3, NetConfig(actor_layers=(16, 8), critic_layers=(4,), init_std=0.5))


def test_shapes(net: ActorCritic) -> None:
    obs, critic = torch.randn(11, 5), torch.randn(11, 7)
    action, log_prob, mean, memory = net.act(obs, net.empty_memory(11))
    assert memory.shape == (11, 0)
    assert action.shape == mean.shape == (11, 3) and log_prob.shape == (11,)
    assert net.value(critic).shape == (11,)
    assert net.entropy().shape == ()
    assert [tuple(p.shape) for p in net.actor.net.parameters()] == [(16, 5), (16,), (8, 16), (8,), (3, 8), (3,)]
    assert [tuple(p.shape) for p in net.critic_net.parameters()] == [(4, 7), (4,), (1, 4), (1,)]


def test_mlp_has_orthogonal_layers_and_activations_between_them() -> None:
    torch.manual_seed(0)
    layers = mlp((6, 6, 6, 6), last_gain=0.1)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ELU, nn.Linear, nn.ELU, nn.Linear]
    for layer, gain in ((layers[0], math.sqrt(2)), (layers[2], math.sqrt(2)), (layers[4], 0.1)):
        weight, bias = layer.state_dict()["weight"], layer.state_dict()["bias"]
        torch.testing.assert_close(weight @ weight.T, gain**2 * torch.eye(6), rtol=1e-4, atol=1e-5)
        assert not bias.any()


def test_starts_near_the_reference(net: ActorCritic) -> None:
    """The first actions are small, whatever is observed; the values are not made small."""
    obs = 5 * torch.randn(100, 5)
    # Gains sqrt(2), sqrt(2) and 0.01, activations that do not stretch: at most 0.02 of the normalised observation.
    bound = 0.02 * net.actor.norm(obs).norm(dim=1)
    assert (net.actor(obs).norm(dim=1) <= bound + 1e-6).all()
    assert net.value(5 * torch.randn(100, 7)).std().item() > 0.5


def test_log_prob_and_entropy_are_those_of_torch(net: ActorCritic) -> None:
    net.state_dict()["log_std"].copy_(torch.tensor([-1.0, 0.0, 0.7]))
    mean, action = torch.randn(20, 3), torch.randn(20, 3)
    gaussian = Independent(Normal(mean, torch.exp(net.log_std)), 1)
    torch.testing.assert_close(net.log_prob(action, mean), gaussian.log_prob(action))
    torch.testing.assert_close(net.entropy(), gaussian.entropy()[0])


@torch.no_grad()
def test_samples_have_the_mean_and_spread_they_claim(net: ActorCritic) -> None:
    torch.manual_seed(1)
    net.state_dict()["actor.net.4.bias"].copy_(torch.tensor([-2.0, 0.0, 3.0]))
    action, log_prob, mean, _ = net.act(torch.zeros(20000, 5), net.empty_memory(20000))
    # 20000 samples of spread 0.5: the mean is known to 0.0035, four of these are 0.015.
    np.testing.assert_allclose(action.mean(0).numpy(), mean[0].numpy(), atol=0.015)
    np.testing.assert_allclose(action.std(0).numpy(), 0.5, rtol=0.03)
    torch.testing.assert_close(log_prob, net.log_prob(action, mean))


def test_actor_and_critic_have_their_own_normalisers(net: ActorCritic) -> None:
    net.update_norm(torch.full((4, 5), 2.0), torch.full((4, 7), -3.0))
    assert net.actor.norm.mean.tolist() == [2.0] * 5 and net.critic_norm.mean.tolist() == [-3.0] * 7


def test_onnx_gives_the_same_actions(tmp_path: Path) -> None:
    """The exported file holds network and normaliser, and agrees on ordinary and on far-away observations."""
    torch.manual_seed(0)
    actor = Actor(12, 4, (32, 16))
    actor.norm.update(3.0 + 2.0 * torch.randn(500, 12))
    actor.state_dict()["net.4.weight"].mul_(100)
    actor.train()
    path = tmp_path / "policy.onnx"
    actor.as_onnx(path)
    assert actor.training, "the export leaves the mode as it was"
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("obs", [1, 12])]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("action", [1, 4])]
    observations = torch.cat([3.0 + 2.0 * torch.randn(50, 12), 1000.0 * torch.randn(50, 12), torch.zeros(1, 12)])
    with torch.no_grad():
        expected = actor(observations).numpy()
    found = np.concatenate([np.asarray(session.run(["action"], {"obs": row[None].numpy()})[0]) for row in observations])
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert list(tmp_path.iterdir()) == [path], "no weights in other files"
