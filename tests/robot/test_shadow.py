"""Shadow mode: what a policy would have commanded, on recordings of every form, and what is refused or asked for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as BagWriter

from bodydouble.cli import main
from bodydouble.errors import ContractError, InputError, RecordingError
from bodydouble.recording import RecordingReader, RecordingWriter, messages
from robot.bag_inputs import FLOATS, IMU, JOINT_STATE, ODOMETRY, TRAJECTORY, TopicOptions
from robot.replay import COMMAND_TOPIC, SETTINGS_TOPIC, replay
from robot.run_figures import read_ticks
from robot.safety import SafetyConfig
from robot.shadow import RECORDED_TOPIC, ShadowConfig, shadow
from tests.robot.recorded import rewritten
from tests.robot.samples import JOINTS, toy_motion, toy_policy

STEP_NS = 5_000_000
"""Time between two sensor messages."""
START_NS = 1_700_000_000_000_000_000
LATE_NS = 2_000_000
"""Receipt after the stamp."""
TRACK = ShadowConfig(skill="track")


@dataclasses.dataclass
class Sample:
    """One message that a test writes; a test may alter it."""

    topic: str
    msgtype: str
    t_ns: int
    fields: dict[str, Any]


def samples(count: int = 200, prefix: str = "", order: tuple[int, ...] = (0, 1, 2)) -> list[Sample]:
    """Return a still robot's messages, and commands at every fourth that differ from its pose by 0.1 rad."""
    out = []
    pose = np.array([0.05, 0.1, -0.1])
    for i in range(count):
        t = START_NS + i * STEP_NS
        head = {"stamp": t, "frame_id": "base"}
        names = [JOINTS[j] for j in order]
        state = {"header": head, "name": names, "position": pose[list(order)], "velocity": np.zeros(3)}
        imu = {"header": head, "orientation": {"w": 1.0}, "linear_acceleration": {"z": 9.81}}
        odom = {"header": head, "pose": {"pose": {"position": {"z": 1.0}, "orientation": {"w": 1.0}}}}
        out += [
            Sample(f"{prefix}/joint_states", JOINT_STATE, t, state),
            Sample(f"{prefix}/imu", IMU, t, imu),
            Sample(f"{prefix}/odom", ODOMETRY, t, odom),
        ]
        if i % 4 == 0:
            out.append(Sample(f"{prefix}{COMMAND_TOPIC}", FLOATS, t, {"data": pose + 0.1}))
    return out


def write_mcap(path: Path, found: list[Sample]) -> Path:
    with RecordingWriter(path) as writer:
        for s in found:
            writer.write(s.topic, s.msgtype, s.fields, s.t_ns, s.t_ns + LATE_NS)
    return path


def write_bag(path: Path, found: list[Sample], storage: StoragePlugin) -> Path:
    store = messages.typestore()
    with BagWriter(path, version=9, storage_plugin=storage) as bag:
        topics = {s.topic: s.msgtype for s in found}
        connections = {name: bag.add_connection(name, kind, typestore=store) for name, kind in topics.items()}
        for s in found:
            bag.write(connections[s.topic], s.t_ns + LATE_NS, messages.serialize(s.msgtype, s.fields))
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return toy_policy(tmp_path / "toy.onnx")


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    (tmp_path / "stage").mkdir()
    toy_motion().save(tmp_path / "stage" / "reference.npz")
    return tmp_path / "stage"


def ticks_of(path: Path) -> list[dict[str, Any]]:
    """Return the ticks without what depends on the machine."""
    return [{k: v for k, v in tick.items() if k != "tick_ms"} for tick in read_ticks(path / "shadow.mcap")]


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_every_storage_gives_the_same_ticks(storage: StoragePlugin, tmp_path: Path, policy: Path, stage: Path) -> None:
    ours = write_mcap(tmp_path / "ours.mcap", samples())
    theirs = write_bag(tmp_path / "bag", samples(), storage)
    for name, recording in (("a", ours), ("b", theirs)):
        shadow(recording, policy, tmp_path / name, stage, TRACK)
    assert ticks_of(tmp_path / "a") == ticks_of(tmp_path / "b")


def test_figures_picture_and_a_bit_exact_replay(tmp_path: Path, policy: Path, stage: Path) -> None:
    recording = write_mcap(tmp_path / "r.mcap", samples())
    result = shadow(recording, policy, tmp_path / "out", stage, TRACK)
    assert result.figures["ticks"] == 50 == result.figures["recorded_commands"], "a second at 50 Hz"
    ticks = ticks_of(tmp_path / "out")
    assert [tick["t_ns"] - ticks[0]["t_ns"] for tick in ticks] == [i * 20_000_000 for i in range(50)]
    assert ticks[0]["commands"] == ["track"] and ticks[-1]["mode"] == "run"
    ages = {tick["t_ns"] - min(tick["stamps"].values()) for tick in ticks}
    assert min(ages) >= 0 and max(ages) <= STEP_NS
    # Against the ticks themselves: the recorded command is one and the same all along.
    running = np.array([tick["command"] for tick in ticks if tick["mode"] == "run"])
    expected = running - np.array([0.15, 0.2, 0.0])
    assert result.figures["compared_ticks"] == len(running)
    np.testing.assert_allclose(result.figures["difference_rms_rad"], np.sqrt((expected**2).mean()), rtol=1e-9)
    np.testing.assert_allclose(result.figures["difference_max_rad"], np.abs(expected).max(), rtol=1e-9)
    saved = json.loads((tmp_path / "out" / "shadow.json").read_text())
    assert saved["figures"] == result.figures and set(saved["difference_rms_rad_by_joint"]) == set(JOINTS)
    assert saved["topics"]["commands"] == COMMAND_TOPIC
    assert (tmp_path / "out" / "shadow.png").read_bytes().startswith(b"\x89PNG")
    with RecordingReader(tmp_path / "out" / "shadow.mcap") as reader:
        assert reader.message_count(RECORDED_TOPIC) == 50
    report = replay(tmp_path / "out" / "shadow.mcap", policy, stage)
    assert (report.diff_bits, report.ticks) == (0, 50)


def test_a_replay_takes_the_bounds_that_were_in_force(tmp_path: Path, policy: Path, stage: Path) -> None:
    config = dataclasses.replace(TRACK, safety=SafetyConfig(slew_factor=0.05))
    recording = write_mcap(tmp_path / "r.mcap", samples())
    assert shadow(recording, policy, tmp_path / "out", stage, config).interventions["slew"] > 0
    run = tmp_path / "out" / "shadow.mcap"
    assert replay(run, policy, stage).diff_bits == 0
    with pytest.raises(InputError, match="name the stage"):
        replay(run, policy, None)
    edited = rewritten(run, tmp_path / "edited.mcap", SETTINGS_TOPIC, 0, lambda m: {"data": "{}"})
    with pytest.raises(RecordingError, match="holds damaged settings"):
        replay(edited, policy, stage)


def test_joints_are_mapped_by_name(tmp_path: Path, policy: Path, stage: Path) -> None:
    shadow(write_mcap(tmp_path / "a.mcap", samples()), policy, tmp_path / "a", stage, TRACK)
    shadow(write_mcap(tmp_path / "b.mcap", samples(order=(2, 0, 1))), policy, tmp_path / "b", stage, TRACK)
    assert ticks_of(tmp_path / "a") == ticks_of(tmp_path / "b")


def test_a_trajectory_is_compared_by_name(tmp_path: Path, policy: Path, stage: Path) -> None:
    found = samples()
    for s in found:
        if s.msgtype == FLOATS:
            s.topic, s.msgtype = "/joint_trajectory_controller/joint_trajectory", TRAJECTORY
            points = [{"positions": s.fields["data"][[2, 0, 1]]}]
            s.fields = {"joint_names": [JOINTS[j] for j in (2, 0, 1)], "points": points}
    plain = shadow(write_mcap(tmp_path / "a.mcap", samples()), policy, tmp_path / "a", stage, TRACK)
    named = shadow(write_mcap(tmp_path / "b.mcap", found), policy, tmp_path / "b", stage, TRACK)
    assert named.figures["difference_rms_rad"] == plain.figures["difference_rms_rad"] > 0


def test_interventions_are_counted_by_reason(tmp_path: Path, policy: Path, stage: Path) -> None:
    found = samples()
    for s in found:
        if s.msgtype == IMU and s.t_ns > START_NS + 500_000_000:
            s.fields["orientation"] = {"w": 0.5, "x": 0.866}
    result = shadow(write_mcap(tmp_path / "r.mcap", found), policy, tmp_path / "out", stage, TRACK)
    assert result.interventions["stop: base tilted by"] == 1
    saved = json.loads((tmp_path / "out" / "shadow.json").read_text())
    assert saved["first_stop"].endswith("base tilted by 2.09 rad, at most 1 is allowed")
    assert 20 < result.figures["stopped_ticks"] < 30 and "1 ticks: stop: base tilted by" in str(result)


def test_a_joint_that_goes_missing_stops_as_the_node_does(tmp_path: Path, policy: Path, stage: Path) -> None:
    found = samples()
    for s in found:
        if s.msgtype == JOINT_STATE and s.t_ns > START_NS + 500_000_000:
            s.fields |= {"name": ["hip", "knee"], "position": np.zeros(2), "velocity": np.zeros(2)}
    shadow(write_mcap(tmp_path / "r.mcap", found), policy, tmp_path / "out", stage, TRACK)
    saved = json.loads((tmp_path / "out" / "shadow.json").read_text())
    assert "joint state names joint ankle 0 times" in saved["first_stop"]


def test_messages_without_stamps_take_the_times_of_receipt(tmp_path: Path, policy: Path, stage: Path) -> None:
    found = samples()
    for s in found:
        if "header" in s.fields:
            s.fields["header"] = {"stamp": 0, "frame_id": ""}
    recording = write_mcap(tmp_path / "r.mcap", found)
    with pytest.raises(InputError, match=r"the stamps of /joint_states stand still.*--config.clock received"):
        shadow(recording, policy, tmp_path / "out", stage, TRACK)
    result = shadow(recording, policy, tmp_path / "out", stage, dataclasses.replace(TRACK, clock="received"))
    assert result.figures["ticks"] == 50 and ticks_of(tmp_path / "out")[-1]["mode"] == "run"
    assert replay(tmp_path / "out" / "shadow.mcap", policy, stage).diff_bits == 0


def renamed(topic: str, name: str) -> Callable[[list[Sample]], None]:
    def edit(found: list[Sample]) -> None:
        for s in found:
            s.topic = name if s.topic == topic else s.topic

    return edit


def test_a_namespace_is_taken_where_it_is_the_only_one(tmp_path: Path, policy: Path, stage: Path) -> None:
    shadow(write_mcap(tmp_path / "r.mcap", samples(prefix="/g1")), policy, tmp_path / "out", stage, TRACK)
    saved = json.loads((tmp_path / "out" / "shadow.json").read_text())
    assert saved["topics"]["imu"] == "/g1/imu" and "difference_rms_rad" in saved["figures"]


def test_what_is_not_clear_is_asked_for(tmp_path: Path, policy: Path, stage: Path) -> None:
    two = write_mcap(tmp_path / "two.mcap", samples(50, "/left") + samples(50, "/right"))
    with pytest.raises(InputError) as error:
        shadow(two, policy, tmp_path / "out", stage, TRACK)
    assert str(error.value) == (
        f"{two}: which topic is the joint states? Name it with --config.topics.joint-states; topics of type "
        "sensor_msgs/msg/JointState: /left/joint_states, /right/joint_states"
    )
    config = dataclasses.replace(TRACK, topics=TopicOptions(joint_states="/right/joint_states"))
    shadow(two, policy, tmp_path / "out", stage, config)

    found = samples(50)
    renamed("/imu", "/camera/imu")(found)
    head = write_mcap(tmp_path / "head.mcap", found)
    with pytest.raises(InputError, match=r"which topic is the Imu of the base.*topics.imu.*: /camera/imu"):
        shadow(head, policy, tmp_path / "out", stage, TRACK)
    shadow(head, policy, tmp_path / "out", stage, dataclasses.replace(TRACK, topics=TopicOptions(imu="/camera/imu")))
    with pytest.raises(InputError, match=r"topics.imu /odom is nav_msgs/msg/Odometry.*these are: /camera/imu"):
        shadow(head, policy, tmp_path / "out", stage, dataclasses.replace(TRACK, topics=TopicOptions(imu="/odom")))
    with pytest.raises(InputError, match=r"say what to ask for with --config.skill"):
        shadow(head, policy, tmp_path / "out", stage, ShadowConfig(topics=TopicOptions(imu="/camera/imu")))
    with pytest.raises(InputError, match="--stage"):
        shadow(two, policy, tmp_path / "out")


def test_what_the_contract_refuses_is_refused(tmp_path: Path, policy: Path, stage: Path) -> None:
    found = samples(50)
    for s in found:
        if s.msgtype == JOINT_STATE:
            s.fields["name"] = ["hip", "knee", "toe"]
    recording = write_mcap(tmp_path / "r.mcap", found)
    with pytest.raises(ContractError, match=r"r.mcap: /joint_states: joint state names joint ankle 0 times"):
        shadow(recording, policy, tmp_path / "out", stage, TRACK)
    assert not (tmp_path / "out").exists()


def test_the_command_line(tmp_path: Path, policy: Path, stage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = write_bag(tmp_path / "bag", samples(), StoragePlugin.SQLITE3)
    argv = ["shadow", "--recording", str(recording), "--policy", str(policy), "--stage", str(stage)]
    argv += ["--out", str(tmp_path / "out"), "--config.skill", "track"]
    assert main(argv) == 0 and "50 ticks in 1.0 s" in capsys.readouterr().out
    assert main([*argv, "--config.topics.imu", "/none"]) == 2
    assert "--config.topics.imu /none is not there" in capsys.readouterr().err
