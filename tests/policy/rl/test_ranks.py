"""Two processes over gloo train one network: together they do what one process with all the environments does."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bodydouble.errors import InputError
from policy.rl.ranks import SEED_STRIDE, Ranks, joined
from tests.policy.rl.ranks_worker import joint_rollout, updated


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of what the two processes wrote, and what each saw."""
    folder = tmp_path_factory.mktemp("ranks")
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "tests.policy.rl.ranks_worker", str(folder)]
    processes = [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 3], errors
    return folder, [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(2)]


def test_numbers_worked_out_by_hand(together: tuple[Path, list[dict[str, Any]]]) -> None:
    _, seen = together
    for rank, own in enumerate(seen):
        assert (own["rank"], own["size"]) == (rank, 2)
        assert own["gradient"] == [1.5, 15.0]
        # 0, 1, 2, 3: mean 1.5, variance 1.25, and with one degree of freedom less 5 / 3.
        assert own["moments"] == [1.5, 1.25, 4.0]
        expected = (torch.tensor([0.0, 1.0]) + 2 * rank - 1.5) / (5 / 3) ** 0.5
        torch.testing.assert_close(torch.tensor(own["standardised"]), expected)
        assert own["stats"] == {"both": 0.5, "one": 5.0}
        assert own["told"] == "from the first"


def test_seeds_differ_and_are_pinned(together: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, seen = together
    assert [own["seed"] for own in seen] == [7, 7 + SEED_STRIDE] == [7, 7_368_794]
    obs = [load_file(folder / f"trained_{rank}.safetensors")["obs"] for rank in range(2)]
    assert not torch.equal(obs[0], obs[1])


def test_networks_and_rates_are_the_same_bit_for_bit(together: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, seen = together
    for name in ("joint", "trained"):
        first, second = (load_file(folder / f"{name}_{rank}.safetensors") for rank in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first if key != "obs")
    for key in ("lr", "kl", "trained_lr", "env_steps", "logged"):
        assert seen[0][key] == seen[1][key]
    assert seen[0]["env_steps"] == 3 * 6 * 8


def test_they_do_what_one_process_does_with_all_environments(together: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, seen = together
    alone, stats = updated(Ranks(), joint_rollout())
    ours = load_file(folder / "joint_0.safetensors")
    for name, tensor in alone.net.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, atol=2e-6, rtol=1e-5)
    assert seen[0]["lr"] == alone.lr != 1e-3, "the rate was steered, and alike"
    assert seen[0]["kl"] == pytest.approx(stats["kl"], rel=1e-4)


def test_a_training_is_resumed_exactly_on_every_rank(together: tuple[Path, list[dict[str, Any]]]) -> None:
    assert [own["resumed_alike"] for own in together[1]] == [True, True]


def test_networks_that_come_to_differ_are_noticed(together: tuple[Path, list[dict[str, Any]]]) -> None:
    assert all(re.search("networks differ from each other", own["differing"]) for own in together[1])


def test_a_process_that_dies_ends_the_others(together: tuple[Path, list[dict[str, Any]]]) -> None:
    assert re.search(r"process 0 of 2 lost the others .*what was saved stands", together[1][0]["alone"])


def test_without_torchrun_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with joined() as ranks:
        assert ranks.first and ranks.size == 1 and ranks.seed(5) == 5
        assert ranks.from_first(b"x") == b"x" and ranks.mean_stats({"a": 1.0}) == {"a": 1.0}


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "64", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="process 64 of this machine finds"), joined(gpu=True):
        pass
