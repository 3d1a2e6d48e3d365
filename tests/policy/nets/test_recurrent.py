from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from policy.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from policy.nets.actor_critic import ActorCritic, MeanPolicy, NetConfig
from policy.nets.recurrent import RecurrentActor

CONFIG = NetConfig(actor_layers=(16,), critic_layers=(8,), memory=6)


def actor(seed: int = 0) -> RecurrentActor:
    torch.manual_seed(seed)
    made = RecurrentActor(5, 3, (16,), 6)
    made.norm.update(2.0 + 3.0 * torch.randn(200, 5))
    # The last layer starts small; here it should show what the memory does.
    made.state_dict()["net.2.weight"].mul_(100)
    return made


@torch.no_grad()
def test_unrolling_is_stepping() -> None:
    """Seven steps of four environments at once, as one by one, with episodes that start in between."""
    made = actor()
    obs, memory = 2.0 + 3.0 * torch.randn(7, 4, 5), torch.randn(4, 6)
    starts = torch.zeros(7, 4, dtype=torch.bool)
    starts[0, 1] = starts[3, 0] = starts[3, 2] = starts[6, 2] = True
    together = made.unroll(obs, memory, starts)
    for t in range(7):
        for n in range(4):
            if starts[t, n]:
                memory[n] = 0.0
        mean, memory = made(obs[t], memory)
        torch.testing.assert_close(together[t], mean)


@torch.no_grad()
def test_nothing_of_an_episode_reaches_the_next() -> None:
    made = actor()
    obs = torch.randn(5, 1, 5)
    starts = torch.tensor([[False], [False], [True], [False], [False]])
    first = made.unroll(obs, torch.zeros(1, 6), starts)
    obs[:2] += 10.0
    second = made.unroll(obs, torch.ones(1, 6), starts)
    assert torch.equal(first[2:], second[2:])
    assert (first[:2] - second[:2]).abs().min() > 0


def test_the_gradient_goes_back_through_the_memory() -> None:
    made = actor()
    obs = torch.randn(4, 1, 5, requires_grad=True)
    made.unroll(obs, torch.zeros(1, 6), torch.zeros(4, 1, dtype=torch.bool))[3].sum().backward()
    assert obs.grad is not None and obs.grad[0].abs().max() > 0


def test_onnx_has_the_memory_as_input_and_output(tmp_path: Path) -> None:
    """An episode of 20 steps in onnxruntime, each handed the memory of the one before, gives torch's actions."""
    made = actor()
    path = tmp_path / "policy.onnx"
    made.as_onnx(path)
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("obs", [1, 5]), ("memory", [1, 6])]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [
        ("action", [1, 3]), ("next_memory", [1, 6]),
    ]  # fmt: skip
    obs, memory = 2.0 + 3.0 * torch.randn(20, 1, 5), torch.zeros(1, 6)
    state = np.zeros((1, 6), np.float32)
    for row in obs:
        with torch.no_grad():
            expected, memory = made(row, memory)
        action, state = session.run(["action", "next_memory"], {"obs": row.numpy(), "memory": state})
        np.testing.assert_allclose(np.asarray(action), expected.numpy(), atol=1e-5)
    assert np.abs(state).max() > 0.1
    assert list(tmp_path.iterdir()) == [path]


def test_the_memory_goes_through_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = ActorCritic(5, 7, 3, CONFIG)
    info = CheckpointInfo("toy", ("a", "b", "c"), 5, 7, CONFIG, 0, 0, {})
    save_checkpoint(tmp_path / "policy.safetensors", net, info)
    loaded, found, _ = load_checkpoint(tmp_path / "policy.safetensors")
    assert found == info and isinstance(loaded.actor, RecurrentActor)
    first, second = MeanPolicy(net), MeanPolicy(loaded)
    for _ in range(3):
        obs = torch.randn(2, 5)
        assert torch.equal(first(obs), second(obs))


@torch.no_grad()
def test_the_mean_policy_remembers() -> None:
    torch.manual_seed(0)
    net = ActorCritic(5, 7, 3, CONFIG)
    policy, obs = MeanPolicy(net), torch.randn(4, 5)
    first, memory = net.mean(obs, net.empty_memory(4))
    assert torch.equal(policy(obs), first)
    second, _ = net.mean(obs, memory)
    assert torch.equal(policy(obs), second) and not torch.equal(first, second)
