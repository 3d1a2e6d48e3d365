"""A finished gate is not measured again for the same inputs, and is for others."""

from __future__ import annotations

from pathlib import Path

import pytest

import sim.gate.verify
from bodydouble.artifacts import read_json
from bodydouble.cli import main
from sim.stage.stage import Stage


def test_verify_measures_once(
    policy_path: Path, stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "verify.json"
    argv = ["verify", "--policy", str(policy_path), "--stage", str(stage.path), "--out", str(out)]
    argv += ["--config.min-success", "0", "0", "0", "0", "0", "--config.episodes"]
    assert main([*argv, "1"]) == 0
    first, told = out.read_bytes(), capsys.readouterr().out

    class MeasuredError(Exception):
        pass

    def measure(*_: object) -> None:
        raise MeasuredError

    monkeypatch.setattr(sim.gate.verify, "verify", measure)
    assert main([*argv, "1"]) == 0
    assert capsys.readouterr().out == told and out.read_bytes() == first
    with pytest.raises(MeasuredError):
        main([*argv, "2"])
    assert read_json(out)["passed"] is True
