"""`bodydouble inspect` shows everything that a contract says, to people and to programs."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bodydouble.cli import main
from bodydouble.cli.inspect import show
from bodydouble.contract import PolicyContract
from bodydouble.observation import ObservationTerm
from bodydouble.randomisation import LogUniform, Randomisation, RandomisedTerm, Uniform
from robot.policy_file import PolicyFile
from tests.robot.samples import JOINTS, toy_policy

WALKING = {
    "action_mode": "residual_default",
    "reference_offsets": (),
    "observation": (
        ObservationTerm("command", 2, 1.0, 10.0, 1, "none"),
        ObservationTerm("joint_pos", 3, 1.0, 10.0, 5, "joint"),
    ),
    "command_names": ("vx", "yaw_rate"),
    "command_low": (-0.5, -1.0),
    "command_high": (1.25, 1.0),
    "memory_size": 6,
    "randomisation": Randomisation(
        (
            RandomisedTerm("mass", "all", LogUniform(0.8, 1.25), "scale", "simulation"),
            RandomisedTerm("push", "base", Uniform(-0.5, 0.5), "add", "interval", interval_s=Uniform(5.0, 10.0)),
        )
    ),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return toy_policy(tmp_path / "toy.onnx", **WALKING)


def test_tables(path: Path) -> None:
    policy = PolicyFile(path)
    out = io.StringIO()
    show(policy, Console(file=out, width=160))
    text = " ".join(out.getvalue().split())
    for words in (
        "toy, 3 joints", "50 Hz; trained with physics steps of 5 ms", "unsigned", policy.sha256,
        "17 observation values -> 3 actions, memory of 6 values", "clip(default + scale * action)", "reference none",
        "joint_pos 2..16 3 5 1 10 joint", "vx -0.5 1.25", "mass all scale log_uniform 0.8, 1.25 simulation",
        "push base add uniform -0.5, 0.5 interval, every uniform 5, 10 s", policy.contract.hashes["weights"],
        "4, reproduced within", "wxyz",
    ):  # fmt: skip
        assert words in text, words
    for name in JOINTS:
        assert name in text


def test_json_holds_the_contract_with_every_digit(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    policy = PolicyFile(path)
    assert PolicyContract.from_json(json.dumps(found["contract"])) == policy.contract
    assert found["file"] == {
        "name": "toy.onnx", "bytes": path.stat().st_size, "sha256": policy.sha256, "signer": "",
        "golden_max_abs_diff": policy.golden_max_abs_diff,
    }  # fmt: skip
    assert set(found["contract"]) == {field.name for field in dataclasses.fields(PolicyContract)}


def test_names_are_text_and_no_markup(tmp_path: Path) -> None:
    path = toy_policy(tmp_path / "toy.onnx", joint_names=("[red]hip", "[/]", "[link=x]ankle"))
    out = io.StringIO()
    show(PolicyFile(path), Console(file=out, width=160))
    assert all(name in out.getvalue() for name in ("[red]hip", "[/]", "[link=x]ankle"))


def test_a_file_that_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.onnx").write_text("hello")
    assert main(["inspect", str(tmp_path / "p.onnx")]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and "is no ONNX model" in err and err.count("\n") == 1
