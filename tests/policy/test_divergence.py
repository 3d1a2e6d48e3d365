"""Physics that explodes in a training: an error, the state in a file that can be looked at, nothing on stdout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bodydouble.cli import main
from bodydouble.errors import PhysicsError
from policy.train import TrainConfig, train
from sim.backend.cpu_batch import CpuBatch
from sim.stage.stage import Stage


def test_the_state_of_an_exploding_training_can_be_viewed(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Exploding(CpuBatch):
        steps = 0

        def step(self, *arguments) -> None:
            Exploding.steps += 1
            if self.num_envs == 5 and Exploding.steps % 7 == 0:
                self._qvel[3, 8] = 1e12
            super().step(*arguments)

    monkeypatch.setattr("policy.train.CpuBatch", Exploding)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "policy"
    with pytest.raises(PhysicsError, match=r"diverged in 1 of 5 .*bodydouble view") as raised:
        train(stage.path, out, TrainConfig(envs=5, eval_envs=2, updates=3, threads=1))
    dump = out / "nan_state.npz"
    assert str(dump) in str(raised.value)
    assert capfd.readouterr().out == ""
    with np.load(dump) as state:
        assert state["bad"].tolist() == [False, False, False, True, False]
        assert {"qpos", "qvel", "target", "clip", "frame"} <= set(state.files)
    assert main(["view", str(dump)]) == 0
    shown = capfd.readouterr().out
    assert "qvel" in shown and "bad" in shown
