"""`run` as a whole: a failure keeps what was recorded, any motion of a stage, and policies that are told a velocity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from bodydouble.cli import main
from bodydouble.contract import PolicyContract
from bodydouble.errors import InputError
from robot import launch, run_watch
from robot.command_source import constant, read_commands
from robot.launch import RunConfig, RunError, run
from robot.replay import replay
from robot.run_folder import run_folder
from sim.robots import robot_spec
from sim.stage.flat import flat_stage
from sim.tasks.velocity.config import VelocityConfig
from sim.tasks.velocity.task import VelocityTask
from tests.policy.artifacts import squat_motion
from tests.robot.samples import linear_model, save_policy, with_contract
from tests.robot.test_command_input import WALK


def walker(path: Path) -> Path:
    """Write a policy of the Go1 that is told a velocity and stands, whatever it is told."""
    task = VelocityTask.of(robot_spec("unitree_go1"), VelocityConfig())
    robot, size = task.robot, task.observation.size
    contract = PolicyContract(
        robot=robot.name, joint_names=robot.joint_names, default_joint_pos=robot.default_joint_pos, kp=robot.kp,
        kd=robot.kd, effort_limit=robot.effort_limit, joint_lower=robot.joint_lower, joint_upper=robot.joint_upper,
        joint_velocity_limit=robot.velocity_limit, action_mode="residual_default", action_scale=robot.action_scale,
        observation=task.observation.terms, reference_offsets=(), control_hz=task.control_hz, physics_dt=0.005,
        quaternion_order="wxyz", versions={}, hashes={"weights": ""}, golden_inputs=((0.0,) * size,),
        golden_outputs=((0.0,) * robot.num_joints,), command_names=task.command.names, command_low=task.command.low,
        command_high=task.command.high,
    )  # fmt: skip
    model = linear_model(size, robot.num_joints, gain=0.001)
    return save_policy(path, model, with_contract(model, contract).to_json())


def test_a_policy_that_is_told_runs_on_a_floor_by_a_file_of_commands(tmp_path: Path) -> None:
    policy, commands, out = walker(tmp_path / "walk.onnx"), tmp_path / "walk.csv", tmp_path / "run"
    commands.write_text("t_s,velocity_forward,velocity_left,yaw_rate\n0,0,0,0\n0.4,0.5,0,0.25\n1.6,0,0,0\n")
    result = run(policy, None, out, RunConfig(command_file=commands))
    figures = result.figures
    assert figures["robot_up_s"] == figures["run_s"] > 1.0 and figures["dropped_messages"] == 0
    with np.load(out / "tracking.npz") as data:
        told, done = data["command"], data["velocity"]
    assert {tuple(row) for row in told.tolist()} == {(0.0, 0.0, 0.0), (0.5, 0.0, 0.25)}
    # It stands: the errors are what it was told, over the share of the time.
    share = float((told[:, 0] > 0).mean())
    assert np.abs(done).max() < 0.2 and figures["velocity_error_m_s"] == pytest.approx(0.5 * share, abs=0.15)
    report = replay(out / "run.mcap", policy, None)
    assert report.diff_bits == 0 and report.ticks == figures["ticks"]
    assert "velocity error" in str(result) and (out / "stage" / "stage.xml").is_file()


def test_a_run_that_fails_keeps_what_was_recorded_and_it_replays(
    policy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = robot_spec("unitree_g1")
    stage = flat_stage(robot, [squat_motion(robot), squat_motion(robot, 90)], tmp_path / "stage").path
    watch = launch.watch

    def watch_and_kill(processes: dict[str, Any], *rest: Any) -> None:
        short = run_watch._short

        def seen(text: str) -> dict[str, Any]:
            tick = short(text)
            if tick["frame"] == 20 and processes["sim_robot"].poll() is None:
                processes["sim_robot"].kill()
            return tick

        monkeypatch.setattr(run_watch, "_short", seen)
        watch(processes, *rest)

    monkeypatch.setattr(launch, "watch", watch_and_kill)
    config = RunConfig(orchestrator=False, stand_s=0.3, motion=1)
    with pytest.raises(RunError, match=r"sim_robot ended with status -9.*; what was recorded is kept in .*run\.failed"):
        run(policy_path, stage, tmp_path / "run", config)
    kept = tmp_path / "run.failed"
    assert not (tmp_path / "run").exists() and (kept / "policy.log").is_file()
    report = replay(kept / "run.mcap", policy_path, stage)
    assert report.diff_bits == 0 and report.ticks > 20
    with pytest.raises(InputError, match=r"followed a motion that .* does not hold"):
        replay(kept / "run.mcap", policy_path, _one_motion(tmp_path / "other"))
    with pytest.raises(InputError, match=r"has 2 motions, --config\.motion is 2"):
        run(policy_path, stage, tmp_path / "run", RunConfig(motion=2))


def _one_motion(path: Path) -> Path:
    robot = robot_spec("unitree_g1")
    return flat_stage(robot, squat_motion(robot), path).path


def test_what_is_kept_after_any_error_and_how_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    with pytest.raises(RunError, match=r"^it broke$"), run_folder(out):
        raise RunError("it broke")
    assert list(tmp_path.iterdir()) == []
    for number, name in enumerate(("run.failed", "run.failed-2", "run.failed-3")):
        with pytest.raises(KeyboardInterrupt), run_folder(out) as folder:
            (folder / "run.mcap").write_bytes(bytes([number]))
            raise KeyboardInterrupt
        assert capsys.readouterr().err == f"what was recorded is kept in {tmp_path / name}\n"
        assert (tmp_path / name / "run.mcap").read_bytes() == bytes([number])
    said = r"it broke; what was recorded is kept: `bodydouble recover .*/run\.mcap\.tmp "
    with pytest.raises(RunError, match=said), run_folder(out) as folder:
        (folder / "run.mcap.tmp").write_bytes(b"half")
        raise RunError("it broke")
    with run_folder(out) as folder:
        (folder / "run.mcap").write_bytes(b"whole")
    assert (out / "run.mcap").read_bytes() == b"whole"


def test_commands_over_time(tmp_path: Path) -> None:
    path = tmp_path / "walk.csv"
    path.write_text("t_s, velocity_forward, yaw_rate\n1,0.5,0\n2.5,-0.5,1\n")
    source = read_commands(path, WALK)
    assert [source.at(t) for t in (0.0, 1.0, 2.4, 2.5, 99.0)] == [[0.5, 0.0]] * 3 + [[-0.5, 1.0]] * 2
    assert source.end_s == 2.5 and constant((1.0, -1.0), WALK).at(7.0) == [1.0, -1.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with 'nothing', expected the heading t_s,velocity_forward,yaw_rate"),
        ("t_s,yaw_rate,velocity_forward\n0,0,0\n", "expected the heading t_s,velocity_forward,yaw_rate"),
        ("t_s,velocity_forward,yaw_rate\n", "holds no command"),
        ("t_s,velocity_forward,yaw_rate\n0,0\n", "row 2 is '0,0', expected 3 numbers"),
        ("t_s,velocity_forward,yaw_rate\n0,0,nan\n", "row 2 is '0,0,nan', expected 3 numbers"),
        ("t_s,velocity_forward,yaw_rate\n0,0,0\n1,2,0\n", "row 3: command velocity_forward is 2.0, outside"),
        ("t_s,velocity_forward,yaw_rate\n1,0,0\n1,0,0\n", "its times do not grow"),
    ],
)
def test_a_file_that_holds_no_commands_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "walk.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_commands(path, WALK)


def test_what_cannot_be_run_is_told_before_anything_starts(
    policy_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk, out = str(walker(tmp_path / "walk.onnx")), str(tmp_path / "run")
    stage = str(_one_motion(tmp_path / "stage"))
    for words, said in (
        (["--policy", str(policy_path)], "name the stage that holds it with --stage"),
        (["--policy", walk, "--config.command", "0.5", "0"], "the command has 2 values, expected 3"),
        (["--policy", walk, "--config.command", "9", "0", "0"], "command velocity_forward is 9.0, outside"),
        (["--policy", str(policy_path), "--stage", stage, "--config.command", "1"], "is told nothing"),
        (["--policy", walk, "--stage", stage], "unitree_g1"),
    ):
        assert main(["run", "--out", out, *words]) == 2
        assert said in capsys.readouterr().err
    assert not Path(out).exists() and not Path(f"{out}.failed").exists()
