from __future__ import annotations

import json
from pathlib import Path

import mujoco
import pytest
import torch

from bodydouble.errors import InputError
from policy import pretrain
from policy.checkpoint import load_checkpoint
from sim.env.tracked_robot import TrackedRobot
from sim.stage.stage import Stage
from sim.tasks.tracking.library import save_library


@pytest.fixture(scope="module")
def inputs(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The three files that travel to the training machine, as options."""
    folder = tmp_path_factory.mktemp("pretrain")
    mujoco.mj_saveModel(stage.compile(visuals=False), str(folder / "g1.mjb"))
    TrackedRobot.from_spec(stage.robot).save(folder / "g1.json")
    save_library(list(stage.motions) * 2, folder / "library.npz")
    return [
        "--model", str(folder / "g1.mjb"), "--robot", str(folder / "g1.json"),
        "--motions", str(folder / "library.npz"), "--backend", "cpu", "--envs", "6", "--threads", "2",
    ]  # fmt: skip


def test_trains_saves_and_goes_on(inputs: list[str], stage: Stage, tmp_path: Path) -> None:
    """A second training that resumes the first one starts with its network, its optimizer and its counts."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert pretrain.main([*inputs, "--out", str(first), "--minutes", "0"]) == 0
    assert {path.name for path in first.iterdir()} == {
        "full.safetensors", "policy.safetensors", "log.jsonl", "eval.json",
    }  # fmt: skip
    net, info, rest = load_checkpoint(first / "full.safetensors")
    light, _, nothing = load_checkpoint(first / "policy.safetensors")
    assert info.robot == "unitree_g1" and info.joint_names == stage.robot.joint_names
    assert (info.updates, info.env_steps) == (1, 24 * 6)
    assert "optimizer.0.exp_avg" in rest and "rng.cpu" in rest and nothing == {}
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, light.state_dict()[name])
    figures = json.loads((first / "eval.json").read_text())["figures"]
    assert set(figures) == {
        "clean_success", "clean_body_error_m", "randomised_success", "randomised_body_error_m",
    }  # fmt: skip

    resume = ["--resume", str(first / "full.safetensors")]
    assert pretrain.main([*inputs, "--out", str(second), "--minutes", "0", *resume]) == 0
    after, info, rest = load_checkpoint(second / "full.safetensors")
    assert (info.updates, info.env_steps) == (2, 2 * 24 * 6)
    # 20 gradient steps per update: the optimizer went on counting.
    assert rest["optimizer.0.step"].item() == 40
    before, now = net.state_dict(), after.state_dict()
    assert now["actor.norm.count"].item() == before["actor.norm.count"].item() + 24 * 6
    change = (now["actor.net.0.weight"] - before["actor.net.0.weight"]).abs().max().item()
    assert 0 < change < 0.05, "it went on from the first network"


def test_starts_from_a_checkpoint_with_more_libraries(inputs: list[str], tmp_path: Path) -> None:
    """The steps that the start has seen count on; a network of other sizes is refused."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert pretrain.main([*inputs, "--out", str(first), "--minutes", "0"]) == 0
    library = inputs[inputs.index("--motions") + 1]
    more = ["--motions", library, library, "--judge", library, "--start", str(first / "policy.safetensors")]
    assert pretrain.main([*inputs, *more, "--out", str(second), "--minutes", "0"]) == 0
    _, info, _ = load_checkpoint(second / "policy.safetensors")
    assert (info.updates, info.env_steps) == (1, 2 * 24 * 6)
    memory = ["--memory", "8", "--start", str(first / "policy.safetensors")]
    with pytest.raises(InputError, match="expected"):
        pretrain.main([*inputs, *memory, "--out", str(tmp_path / "third"), "--minutes", "0"])
