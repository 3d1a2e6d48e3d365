"""Bad input: one line that names the file and the fix, exit status 2, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from bodydouble.cli import main
from bodydouble.contract import METADATA_KEY
from bodydouble.recording import RecordingWriter
from robot.policy_file import weights_sha256
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.robots import robot_spec
from sim.stage.flat import flat_stage
from sim.stage.stage import Stage
from tests.bodydouble.recording.samples import HEIGHT, WIDTH, K, pose, write_rgbd


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], *words: str) -> str:
    """Run a command that must fail with status 2 and one line that holds the words."""
    assert main(argv) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    return lines[0]


def reconstruct(recording: Path, out: Path) -> list[str]:
    return ["reconstruct", "--recording", str(recording), "--out", str(out)]


def nothing_in(folder: Path, *known: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(known)


def test_truncated_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = write_rgbd(tmp_path / "cut.mcap", count=20)
    data = recording.read_bytes()
    recording.write_bytes(data[: len(data) // 2])
    refused(capsys, reconstruct(recording, tmp_path / "out"), str(recording), "recover")
    nothing_in(tmp_path, "cut.mcap")


def test_missing_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, reconstruct(tmp_path / "no.mcap", tmp_path / "out"), "no.mcap", "bodydouble record")
    nothing_in(tmp_path)


def test_zero_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = tmp_path / "dark.mcap"
    with RecordingWriter(recording) as writer:
        writer.write_camera_info("cam0", K, WIDTH, HEIGHT, 0)
        for i in range(5):
            writer.write_color("cam0", np.zeros((HEIGHT, WIDTH, 3), np.uint8), i * 10**8)
            writer.write_depth("cam0", np.zeros((HEIGHT, WIDTH), np.uint16), i * 10**8)
            writer.write_pose("cam0", pose(i), i * 10**8)
    refused(capsys, reconstruct(recording, tmp_path / "out"), str(recording), "cam0", "depth")
    nothing_in(tmp_path, "dark.mcap")


@pytest.mark.parametrize(("part", "word"), [("info", "camera_info"), ("depth", "depth"), ("poses", "pose")])
def test_recording_that_lacks_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, word: str) -> None:
    recording = write_rgbd(tmp_path / "part.mcap", **{part: False})
    refused(capsys, reconstruct(recording, tmp_path / "out"), str(recording), word)
    nothing_in(tmp_path, "part.mcap")


def swap_joints(policy: Path, out: Path) -> Path:
    """Write the policy with its first two joint names exchanged, everything else as it was."""
    model = onnx.load(str(policy))
    before = weights_sha256(model)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            contract = json.loads(entry.value)
            names = contract["joint_names"]
            names[0], names[1] = names[1], names[0]
            entry.value = json.dumps(contract)
    assert weights_sha256(model) == before
    onnx.save(model, str(out))
    return out


@pytest.mark.parametrize("command", ["verify", "run"])
def test_policy_with_swapped_joints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], policy_path: Path, stage: Stage, command: str
) -> None:
    policy = swap_joints(policy_path, tmp_path / "swapped.onnx")
    argv = [command, "--policy", str(policy), "--stage", str(stage.path), "--out", str(tmp_path / "out")]
    refused(capsys, argv, str(policy), "order", "left_hip")
    nothing_in(tmp_path, "swapped.onnx")


@pytest.fixture(scope="session")
def go1_stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    robot = robot_spec("unitree_go1")
    root = np.tile([0.0, 0.0, kinematics(robot).standing_height()], (30, 1))
    joints = np.tile(robot.default_joint_pos, (30, 1))
    motion = make_robot_motion(robot, 50.0, root, np.tile([1.0, 0, 0, 0], (30, 1)), joints)
    return flat_stage(robot, motion, tmp_path_factory.mktemp("go1") / "stage")


@pytest.mark.parametrize("command", ["verify", "run"])
def test_stage_for_another_robot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], policy_path: Path, go1_stage: Stage, command: str
) -> None:
    argv = [command, "--policy", str(policy_path), "--stage", str(go1_stage.path), "--out", str(tmp_path / "out")]
    refused(capsys, argv, str(policy_path), "unitree_g1", "unitree_go1")
    nothing_in(tmp_path)


def test_changed_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: Stage) -> None:
    import shutil

    changed = tmp_path / "stage"
    shutil.copytree(stage.path, changed)
    model = changed / "stage.xml"
    model.write_text(model.read_text().replace("<mujoco", "<!-- changed --><mujoco", 1))
    argv = ["train", "--stage", str(changed), "--out", str(tmp_path / "policy")]
    refused(capsys, argv, "stage.xml", "build the stage again")
    nothing_in(tmp_path, "stage")


def test_unknown_command_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == 2
    assert "unknown command 'fly'" in capsys.readouterr().err
    assert main([]) == 2
    assert "reconstruct" in capsys.readouterr().out


def test_view_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    refused(capsys, ["view", str(tmp_path / "notes.txt")], "notes.txt")
    refused(capsys, ["view", str(tmp_path / "nothing")], "no such file")


def test_view_of_a_saved_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qpos = np.zeros((2, 3))
    qpos[1, 2] = np.nan
    np.savez(tmp_path / "nan_state.npz", qpos=qpos, qvel=np.zeros(4))
    assert main(["view", str(tmp_path / "nan_state.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-3:] == ["1", "(1,", "2)"]
    assert lines[2].split()[-1] == "0"
