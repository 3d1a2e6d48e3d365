"""The history encoder: what it splits, its export, and that it learns what only the past can tell."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from bodydouble.errors import InputError
from bodydouble.observation import ObservationSpec, ObservationTerm
from policy.checkpoint import CheckpointInfo, load_policy, save_checkpoint
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.nets.history import HistoryActor, TemporalConvolution
from policy.optim.registry import AdamConfig
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.runner import Runner
from tests.policy.rl.recall_task import RecallTask

LAYOUT = ((2, 4), (1, 1), (3, 4))
CPU = torch.device("cpu")


def net_of(encoder: Any = "conv", layout: Any = LAYOUT, size: int = 21) -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(size, 2, 2, NetConfig((16,), (8,), encoder=encoder, encoded=6), layout)


def test_the_layout_is_that_of_the_observation() -> None:
    spec = ObservationSpec((
        ObservationTerm("joint_pos", 2, 1.0, 10.0, 1, "joint"), ObservationTerm("command", 1, 1.0, 10.0, 1, "base"),
    ))  # fmt: skip
    assert spec.layout == ((2, 1), (1, 1))
    longer = spec.with_history(4)
    assert longer.layout == ((2, 4), (1, 1)) and longer.size == 9 and longer.frame_size == 3


def test_terms_are_split_into_the_present_and_the_past() -> None:
    """Values 1 to 21: term A has frames (1, 2), (3, 4), (5, 6), (7, 8), B has 9, C (10, 11, 12) to (19, 20, 21)."""
    actor = HistoryActor(LAYOUT, 2, (8,), "conv", 4)
    present, past = actor.split(torch.arange(1.0, 22.0)[None])
    assert present.tolist() == [[7, 8, 9, 19, 20, 21]]
    assert past[0].tolist() == [[1, 2, 10, 11, 12], [3, 4, 13, 14, 15], [5, 6, 16, 17, 18], [7, 8, 19, 20, 21]]


def test_the_convolution_is_torchs_with_repeated_ends() -> None:
    torch.manual_seed(0)
    own, known = TemporalConvolution(3, 5), torch.nn.Conv1d(3, 5, 3, padding=1, padding_mode="replicate")
    layer = own.layer[0]
    assert isinstance(layer, torch.nn.Linear)
    known.weight.data = layer.weight.data.view(5, 3, 3).transpose(1, 2).contiguous()
    known.bias.data = torch.randn(5)  # type: ignore[union-attr]
    layer.bias.data = known.bias.data  # type: ignore[union-attr]
    x = torch.randn(4, 7, 3)
    expected = torch.nn.functional.elu(known(x.transpose(1, 2))).transpose(1, 2)
    torch.testing.assert_close(own(x), expected)


@pytest.mark.parametrize("encoder", ["mlp", "conv"])
def test_shapes_and_gradients(encoder: str) -> None:
    net = net_of(encoder)
    action, log_prob, mean, memory = net.act(torch.randn(7, 21), net.empty_memory(7))
    assert action.shape == mean.shape == (7, 2) and log_prob.shape == (7,) and memory.shape == (7, 0)
    obs = torch.randn(7, 21, requires_grad=True)
    net.actor(obs).square().sum().backward()
    assert obs.grad is not None and (obs.grad != 0).all(), "every value of every frame is read"
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.actor.parameters())
    normal = net.actor.norm(obs.detach())
    assert torch.equal(net.means(normal, memory, torch.ones(7), 1, normalised=True), net.actor(obs.detach()))


@pytest.mark.parametrize("encoder", ["mlp", "conv"])
def test_onnx_gives_the_same_actions(encoder: str, tmp_path: Path) -> None:
    actor = net_of(encoder).actor
    actor.norm.update(3.0 + 2.0 * torch.randn(500, 21))
    actor.state_dict()["net.2.weight"].mul_(100)
    actor.as_onnx(tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "policy.onnx"), providers=["CPUExecutionProvider"])
    obs = torch.cat([3.0 + 2.0 * torch.randn(40, 21), 100.0 * torch.randn(20, 21), torch.zeros(1, 21)])
    with torch.no_grad():
        expected = actor(obs).numpy()
    found = np.concatenate([np.asarray(session.run(["action"], {"obs": row[None].numpy()})[0]) for row in obs])
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_checkpoint_knows_the_terms(tmp_path: Path) -> None:
    net = net_of()
    save_checkpoint(tmp_path / "a.safetensors", net, CheckpointInfo("toy", ("x", "y"), 21, 2, net.config, 0, 0, {}))
    loaded, info, _ = load_policy(tmp_path / "a.safetensors")
    assert info.net == net.config and loaded.layout == LAYOUT
    obs = torch.randn(3, 21)
    assert torch.equal(loaded.actor(obs), net.actor(obs))


class ShownTask(RecallTask):
    """The recall task, whose policy sees the last four frames (8 values) in place of having a memory."""

    def reset(self) -> dict[str, np.ndarray]:
        obs = super().reset()
        self._frames = np.repeat(obs["policy"][:, None], 4, axis=1)
        return {**obs, "policy": self._frames.reshape(self.num_envs, -1)}

    def step(self, action: Any) -> SimpleNamespace:
        result = super().step(action)
        frames = np.concatenate([self._frames[:, 1:], result.obs["policy"][:, None]], axis=1)
        fresh = np.repeat(result.obs["policy"][:, None], 4, axis=1)
        self._frames = np.where(result.terminated[:, None, None], fresh, frames)
        result.obs = {**result.obs, "policy": self._frames.reshape(self.num_envs, -1)}
        return result


@pytest.mark.parametrize("encoder", ["mlp", "conv"])
def test_learns_what_only_the_past_can_tell(encoder: Any) -> None:
    """The sign was shown three steps before it is asked for; whoever sees the present alone is off by one."""
    torch.manual_seed(0)
    net = ActorCritic(8, 2, 1, NetConfig((16,), (16,), init_std=0.5, encoder=encoder, encoded=8), ((2, 4),))
    config = PPOConfig(steps=8, epochs=4, minibatches=2, gamma=0.95, optimizer=AdamConfig(lr=1e-3), max_lr=1e-2)
    Runner(ShownTask(64), PPO(net, config), CPU).train(lambda p: p.update >= 50, lambda p: None)
    task, errors = ShownTask(64, seed=77), []
    obs = task.reset()
    with torch.no_grad():
        for step in range(12):
            result = task.step(net.actor(torch.as_tensor(obs["policy"])).numpy())
            # The first episodes began before the sign could be seen.
            if step >= 4:
                errors.append(-result.reward[result.terminated])
            obs = result.obs
    assert np.concatenate(errors).mean() < 0.33


@pytest.mark.parametrize(
    ("layout", "size", "message"),
    [
        (((2, 1), (1, 1)), 3, r"needs observation terms of one history length above 1, .* lengths are \[1\]"),
        (((2, 4), (1, 3)), 11, r"lengths are \[3, 4\]"),
        (LAYOUT, 20, "reads an observation of 21 values in terms, the task's has 20"),
        ((), 20, "reads an observation of 0 values"),
    ],
)
def test_observations_that_it_cannot_read_are_refused(layout: Any, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        net_of("conv", layout, size)


def test_memory_and_encoder_exclude_each_other() -> None:
    with pytest.raises(InputError, match="two ways to know the past"):
        NetConfig(memory=4, encoder="mlp")
    with pytest.raises(InputError, match=r"net\.critics is 0"):
        NetConfig(critics=0)
