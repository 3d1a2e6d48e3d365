"""Commands with --task: training and gate without a stage; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bodydouble.cli import main
from bodydouble.cli.options import task_name


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train", "--task", "fly", "--robot", "unitree_g1"], ("task 'fly' is unknown", "velocity, reach, pick")),
        (["train", "--task"], ("task '' is unknown",)),
        (["train", "--task=velocity", "--robot", "hal"], ("robot 'hal' is unknown",)),
        (["train", "--task", "velocity", "--robot", "ur5e_2f85"], ("has no feet or a fixed base",)),
        (["train", "--task", "pick", "--robot", "unitree_go1"], ("has no known tool",)),
        (
            ["train", "--task", "reach", "--robot", "i2rt_yam", "--setup.control-hz", "33"],
            ("multiple of the physics step",),
        ),
        (["verify", "--task", "reach", "--policy", "no.onnx"], ("no.onnx", "cannot be read")),
        (["export", "--policy", "nowhere"], ("policy.json",)),
        (["export", "--policy", "nowhere", "--int8"], ("8-bit weights",)),
    ],
)
def test_one_line_says_what_is_wrong(
    argv: list[str], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.onnx"))


def test_task_name_is_found_wherever_it_stands() -> None:
    assert task_name(["--robot", "x", "--task", "reach"]) == "reach"
    assert task_name(["--task=pick"]) == "pick"
    assert task_name(["--stage", "s"]) is None
