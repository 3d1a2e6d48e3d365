"""Replay: no bit differs on an untouched run, and anything that was changed is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodydouble.cli import main
from bodydouble.errors import RecordingError
from bodydouble.recording import RecordingReader, RecordingWriter
from robot.policy_file import PolicyFile
from robot.replay import COMMAND_TOPIC, INPUT_TOPICS, ReplayReport, compare, differing_bits, replay
from robot.run_figures import TICK_TOPIC, read_ticks
from robot.runtime import PolicyRuntime
from sim.stage.stage import Stage
from tests.robot.recorded import record_closed_loop, rewritten
from tests.robot.samples import toy_motion, toy_policy

TICKS = 60
ASKED = {5: ("track",), 40: ("estop",), 50: ("resume", "track")}
"""The run tracks, is stopped, is released and tracks on."""


@pytest.fixture(scope="module")
def run(stage: Stage, policy_file: PolicyFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_closed_loop(tmp_path_factory.mktemp("run") / "run.mcap", stage, policy_file, TICKS, ASKED)


@pytest.fixture
def replayed(policy_path: Path, stage: Stage) -> Callable[[Path], ReplayReport]:
    return lambda path: replay(path, policy_path, stage.path)


@pytest.fixture
def changed(run: Path, tmp_path: Path) -> Callable[..., Path]:
    return lambda topic, number, edit: rewritten(run, tmp_path / "changed.mcap", topic, number, edit)


def in_tick(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Any], Any]:
    """Return an edit of a tick's message from one of its JSON."""

    def apply(message: Any) -> Any:
        tick = json.loads(message.data)
        edit(tick)
        message.data = json.dumps(tick)
        return message

    return apply


def test_an_untouched_run_has_no_differing_bit(run: Path, replayed: Callable[[Path], ReplayReport]) -> None:
    ticks = read_ticks(run)
    assert {tick["mode"] for tick in ticks} == {"ramp", "run", "stopped"}, "the run has all that a replay must repeat"
    report = replayed(run)
    assert (report.ticks, report.diff_bits, report.first_difference) == (TICKS, 0, "")
    assert report.x_realtime > 1
    assert "60 ticks, 0 differing bits, " in str(report)


def nudge(message: Any) -> Any:
    message.position = message.position + np.eye(len(message.position))[3] * 1e-3
    return message


def turn(message: Any) -> Any:
    message.angular_velocity.y += 1e-3
    return message


def push(message: Any) -> Any:
    message.pose.pose.position.x += 1e-3
    return message


def one_bit(message: Any) -> Any:
    message.data = np.array(message.data)
    message.data[7] = np.nextafter(message.data[7], 9.0)
    return message


@pytest.mark.parametrize(("name", "edit"), [("joint_states", nudge), ("imu", turn), ("odom", push)])
def test_a_changed_input_is_found_where_it_was_consumed(
    replayed: Callable[[Path], ReplayReport], changed: Callable[..., Path], name: str, edit: Callable[[Any], Any]
) -> None:
    report = replayed(changed(INPUT_TOPICS[name], 20, edit))
    assert report.diff_bits > 0
    assert report.first_difference == "tick 20: obs"


def test_a_changed_command_is_found_to_the_bit(
    replayed: Callable[[Path], ReplayReport], changed: Callable[..., Path], run: Path
) -> None:
    report = replayed(changed(COMMAND_TOPIC, 20, one_bit))
    before = np.array(read_ticks(run)[20]["command"])
    after = before.copy()
    after[7] = np.nextafter(after[7], 9.0)
    assert report.diff_bits == differing_bits(before, after) >= 1
    assert report.first_difference == "tick 20: the command that was sent"


@pytest.mark.parametrize(
    ("number", "edit", "where"),
    [
        (20, lambda tick: tick["obs"].__setitem__(0, tick["obs"][0] + 1e-6), "tick 20: obs"),
        (20, lambda tick: tick["action"].__setitem__(2, 0.5), "tick 20: action"),
        (45, lambda tick: tick["command"].__setitem__(2, 0.5), "tick 45: command"),
        (45, lambda tick: tick.update(mode="run"), "tick 45: mode"),
        (20, lambda tick: tick.update(frame=tick["frame"] + 1), "tick 20: frame"),
        (40, lambda tick: tick.update(events=[]), "tick 40: events"),
        (40, lambda tick: tick.update(commands=[]), "tick 40: mode"),
        (20, lambda tick: tick.update(commands=["stop"]), "tick 20: skill"),
        (20, lambda tick: tick.update(obs=None), "tick 20: obs"),
    ],
    ids=["obs", "action", "command", "mode", "frame", "events", "no estop", "another skill", "no obs"],
)
def test_a_changed_tick_is_found(
    replayed: Callable[[Path], ReplayReport],
    changed: Callable[..., Path],
    number: int,
    edit: Callable[[dict[str, Any]], Any],
    where: str,
) -> None:
    report = replayed(changed(TICK_TOPIC, number, in_tick(edit)))
    assert report.diff_bits > 0 and report.first_difference == where


def gone(message: Any) -> None:
    del message


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (COMMAND_TOPIC, "holds 59 commands, its ticks sent 60"),
        (TICK_TOPIC, "lacks tick 20; the recorder dropped messages"),
    ],
)
def test_a_message_that_was_not_recorded_is_an_error(
    replayed: Callable[[Path], ReplayReport], changed: Callable[..., Path], topic: str, words: str
) -> None:
    with pytest.raises(RecordingError, match=words):
        replayed(changed(topic, 20, gone))


def test_an_input_that_was_lost_on_its_way_to_the_recorder_is_taken_from_the_tick(
    replayed: Callable[[Path], ReplayReport], run: Path, tmp_path: Path
) -> None:
    rng, lossy, lost = np.random.default_rng(3), tmp_path / "lossy.mcap", 0
    topics = set(INPUT_TOPICS.values())
    with RecordingReader(run) as reader, RecordingWriter(lossy) as writer:
        for message in reader.raw_messages():
            if message.topic in topics and rng.random() < 0.3:
                lost += 1
            else:
                writer.write_cdr(
                    message.topic, message.msgtype, bytes(message.data), message.log_time_ns, message.publish_time_ns
                )
    report = replayed(lossy)
    assert (report.ticks, report.diff_bits) == (TICKS, 0) and report.inputs_from_ticks == lost > 30
    assert f"{lost} inputs from the ticks alone" in str(report)


def test_an_input_that_nobody_recorded_is_an_error(
    replayed: Callable[[Path], ReplayReport], changed: Callable[..., Path], tmp_path: Path
) -> None:
    forgotten = changed(TICK_TOPIC, 20, in_tick(lambda tick: tick.pop("inputs")))
    with pytest.raises(RecordingError, match="lacks the message of /imu with stamp 400000000 that tick 20 consumed"):
        replayed(rewritten(forgotten, tmp_path / "lost.mcap", "/imu", 20, gone))


def test_a_tick_that_says_it_consumed_something_else_is_found(
    replayed: Callable[[Path], ReplayReport], changed: Callable[..., Path]
) -> None:
    report = replayed(changed(TICK_TOPIC, 20, in_tick(lambda tick: tick["inputs"]["imu"]["gyro"].__setitem__(1, 9.0))))
    assert report.diff_bits > 0 and report.first_difference == "tick 20: inputs"


def test_a_run_without_its_beginning(replayed: Callable[[Path], ReplayReport], changed: Callable[..., Path]) -> None:
    with pytest.raises(RecordingError, match="begins at tick 1, expected 0"):
        replayed(changed(TICK_TOPIC, 0, gone))


@pytest.mark.parametrize(
    "edit",
    [
        lambda tick: tick.pop("heartbeat_age_s"),
        lambda tick: tick.update(stamps=[1]),
        lambda tick: tick["stamps"].update(imu=[1]),
        lambda tick: tick.update(commands=[["estop"]]),
        lambda tick: tick.update(commands="estop"),
        lambda tick: tick.update(t_ns=10**400),
        lambda tick: tick.update(tick="20"),
        lambda tick: tick.update(inputs=[]),
        lambda tick: tick["inputs"].update(imu={"quat": [[1.0]]}),
    ],
    ids=["no heartbeat", "stamps", "stamp", "commands", "command", "time", "number", "inputs", "input"],
)
def test_a_damaged_tick_is_named(
    replayed: Callable[[Path], ReplayReport], changed: Callable[..., Path], edit: Callable[[dict[str, Any]], Any]
) -> None:
    with pytest.raises(RecordingError, match=r"changed\.mcap: holds a damaged tick"):
        replayed(changed(TICK_TOPIC, 20, in_tick(edit)))


def test_an_unknown_command_in_a_tick(replayed: Callable[[Path], ReplayReport], changed: Callable[..., Path]) -> None:
    with pytest.raises(RecordingError, match="tick 20: command 'dance' is unknown"):
        replayed(changed(TICK_TOPIC, 20, in_tick(lambda tick: tick.update(commands=["dance"]))))


def test_the_command_line_says_it_with_its_status(
    run: Path,
    changed: Callable[..., Path],
    policy_path: Path,
    stage: Stage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "replay.json"
    rest = ["--policy", str(policy_path), "--stage", str(stage.path), "--out", str(out)]
    assert main(["replay", "--run", str(run), *rest]) == 0
    assert "0 differing bits" in capsys.readouterr().out
    assert json.loads(out.read_text())["figures"]["replay_diff_bits"] == 0
    assert main(["replay", "--run", str(changed(COMMAND_TOPIC, 20, one_bit)), *rest]) == 1
    assert json.loads(out.read_text())["first_difference"] == "tick 20: the command that was sent"
    assert main(["replay", "--run", str(tmp_path / "none.mcap"), *rest]) == 2


def test_differing_bits_by_hand() -> None:
    zeros = np.zeros(3)
    assert differing_bits(zeros, zeros) == 0
    assert differing_bits(zeros, -zeros) == 3, "the sign bit of each"
    assert differing_bits(np.array([1.0]), np.array([np.nextafter(1.0, 2.0)])) == 1
    assert differing_bits(np.array([1.0]), np.array([2.0])) == 11, "3ff0... and 4000...: all of the exponent"
    assert differing_bits(np.array([np.nan]), np.array([np.nan])) == 0
    assert differing_bits(zeros, np.zeros(2)) == 3 * 64


@given(st.lists(st.floats(), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 63))
def test_any_flipped_bit_counts_as_one(values: list[float], at: int, bit: int) -> None:
    before = np.array(values)
    words = before.view(np.uint64).copy()
    words[at % len(words)] ^= np.uint64(1 << bit)
    assert differing_bits(before, words.view(np.float64)) == 1
    assert differing_bits(before, before.copy()) == 0


def test_a_tick_equals_itself_through_json(tmp_path: Path) -> None:
    runtime = PolicyRuntime(PolicyFile(toy_policy(tmp_path / "toy.onnx")), toy_motion())
    runtime.ask("track")
    result = runtime.tick(0)
    recorded = json.loads(json.dumps(result.to_dict()))
    assert compare(result, recorded) == (0, "")
    assert compare(result, recorded | {"skill": "stop"}) == (64, "skill")
    assert compare(result, {"tick": 0})[1] == "t_ns", "a field that is missing differs"
