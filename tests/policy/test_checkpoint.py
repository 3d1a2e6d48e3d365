from __future__ import annotations

import json
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bodydouble.errors import InputError
from policy import checkpoint
from policy.checkpoint import CheckpointInfo, load_checkpoint, restore_optimizer, save_checkpoint
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.runner import Runner
from policy.shipped import shipped_checkpoint
from tests.policy.rl.reach_task import ReachTask

SMALL = NetConfig(actor_layers=(6, 5), critic_layers=(4,), init_std=0.3)
INFO = CheckpointInfo(
    robot="toy", joint_names=("hip", "knee"), policy_size=3, critic_size=4, net=SMALL, env_steps=7, updates=2,
    extra={"lr": 0.1 + 0.2, "note": "ü", "list": [1, None]},
)  # fmt: skip


def small_net(seed: int = 0) -> ActorCritic:
    torch.manual_seed(seed)
    net = ActorCritic(3, 4, 2, SMALL)
    net.update_norm(torch.randn(9, 3), torch.randn(9, 4))
    return net


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "policy.safetensors"
    save_checkpoint(path, small_net(), INFO)
    return path


def rewrite_header(path: Path, change) -> None:
    """Change the JSON header of a safetensors file in place: 8 bytes of length, then JSON, then the tensors."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header = change(header) or header
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def rewrite_info(path: Path, change) -> None:
    def of_header(header: dict[str, Any]) -> None:
        info = json.loads(header["__metadata__"]["bodydouble"])
        header["__metadata__"]["bodydouble"] = json.dumps(change(info))

    rewrite_header(path, of_header)


def test_round_trip_keeps_every_bit(saved: Path) -> None:
    net, info, rest = load_checkpoint(saved)
    assert info == INFO and rest == {}
    mine, theirs = small_net().state_dict(), net.state_dict()
    assert list(mine) == list(theirs)
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype
        assert tensor.numpy().tobytes() == theirs[name].numpy().tobytes(), name
    obs = torch.randn(5, 3)
    assert torch.equal(net.actor(obs), small_net().actor(obs))
    assert net.config == SMALL


def test_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Two updates, a save, a load, two more updates: the same network as four updates in one go."""
    path = tmp_path / "full.safetensors"
    info = CheckpointInfo("toy", ("x",), 2, 3, SMALL, 0, 0, {})

    def train(ppo: PPO, updates: int, seed: int) -> None:
        Runner(ReachTask(4, seed), ppo, torch.device("cpu")).train(lambda p: p.update >= updates, lambda p: None)

    torch.manual_seed(3)
    whole = PPO(ActorCritic(2, 3, 1, SMALL), PPOConfig(steps=6))
    train(whole, 2, seed=0)
    save_checkpoint(path, whole.net, info, whole.optimizer)
    lr = whole.lr
    train(whole, 2, seed=1)

    torch.manual_seed(12345)
    net, _, rest = load_checkpoint(path)
    resumed = PPO(net, PPOConfig(steps=6))
    resumed.lr = lr
    restore_optimizer(resumed.optimizer, rest, lr)
    train(resumed, 2, seed=1)
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(tensor, resumed.net.state_dict()[name]), name


def test_a_failed_save_leaves_the_previous_file(saved: Path) -> None:
    before = saved.read_bytes()
    bad = CheckpointInfo(**{**vars(INFO), "extra": {"object": object()}})
    with pytest.raises(TypeError):
        save_checkpoint(saved, small_net(1), bad)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved], "no temporary file stays"


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint; train a policy first"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path)


class Trap:
    """Whoever unpickles this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, writer: str) -> None:
    path, sprung = tmp_path / "policy.safetensors", tmp_path / "sprung"
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"net": Trap(sprung)}))
    else:
        torch.save({"net": Trap(sprung)}, path)
    with pytest.raises(InputError, match=re.escape(f"{path}: cannot be read as a checkpoint")):
        load_checkpoint(path)
    assert not sprung.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_checkpoint(saved)


def test_a_file_of_another_program_is_refused(saved: Path) -> None:
    rewrite_header(saved, lambda header: header.pop("__metadata__") and None)
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda info: {k: v for k, v in info.items() if k != "robot"},
        lambda info: {**info, "more": 1},
        lambda info: {**info, "policy_size": 5},
        lambda info: {**info, "policy_size": -1},
        lambda info: {**info, "policy_size": "three"},
        lambda info: {**info, "joint_names": ["hip"]},
        lambda info: {**info, "joint_names": None},
        lambda info: {**info, "net": {**info["net"], "actor_layers": [6]}},
        lambda info: {**info, "net": {"actor_layers": [6, 5]}},
        lambda info: {**info, "net": [1, 2]},
        lambda info: [info],
        lambda info: None,
    ],
)
def test_a_header_that_does_not_fit_is_refused(saved: Path, change) -> None:
    rewrite_info(saved, change)
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_checkpoint(saved)


def test_a_missing_tensor_is_named(saved: Path) -> None:
    def rename(header: dict[str, Any]) -> None:
        header["net.other"] = header.pop("net.log_std")

    rewrite_header(saved, rename)
    with pytest.raises(InputError, match="log_std"):
        load_checkpoint(saved)


def test_a_huge_file_is_not_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = saved.stat().st_size
    monkeypatch.setattr(checkpoint, "MAX_CHECKPOINT_BYTES", size)
    load_checkpoint(saved)
    monkeypatch.setattr(checkpoint, "MAX_CHECKPOINT_BYTES", size - 1)
    with pytest.raises(InputError, match=f"{size} bytes, the limit is {size - 1}"):
        load_checkpoint(saved)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_are_refused_or_harmless(saved: Path, data: st.DataObject) -> None:
    """Any damage gives an InputError or a checkpoint of the same shape, never another error."""
    save_checkpoint(saved, small_net(), INFO)
    content = bytearray(saved.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        # Half of the damage goes to the header, which decides what is built.
        end = data.draw(st.sampled_from([1200, len(content)]))
        content[data.draw(st.integers(0, min(end, len(content)) - 1))] = data.draw(st.integers(0, 255))
    saved.write_bytes(bytes(content))
    try:
        net, info, _ = load_checkpoint(saved)
    except InputError as error:
        assert str(saved) in str(error)
    else:
        assert (info.policy_size, info.critic_size, len(info.joint_names)) == (3, 4, 2)
        assert net.actor(torch.zeros(1, 3)).shape == (1, 2)


def test_the_shipped_checkpoint_loads_and_is_finite() -> None:
    net, info, rest = load_checkpoint(shipped_checkpoint("unitree_g1"))
    assert info.robot == "unitree_g1" and len(info.joint_names) == 29 and rest == {}
    assert info.updates > 0 and info.env_steps > 0
    assert all(torch.isfinite(tensor).all() for tensor in net.state_dict().values())
    assert net.actor.norm.count.item() > 0, "its normaliser came with it"
