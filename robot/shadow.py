"""`shadow`: any recording's sensor messages through a policy. What would it have commanded? Nothing is sent."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.artifacts import atomic_dir, machine_info, provenance, write_json
from bodydouble.errors import ContractError, InputError
from bodydouble.motion import RobotMotion
from bodydouble.recording.bag import Bag, open_bag
from bodydouble.recording.messages import stamp_ns
from bodydouble.recording.writer import RecordingWriter
from robot import bag_inputs
from robot.bag_inputs import Chosen, TopicChooser, TopicOptions, decoder
from robot.command_input import VELOCITIES
from robot.inputs import READERS
from robot.policy_file import PolicyFile
from robot.reference_player import SKILLS
from robot.replay import COMMAND_TOPIC, INPUT_TOPICS, SETTINGS_TOPIC
from robot.run_figures import TICK_TOPIC
from robot.runtime import PolicyRuntime, TickResult
from robot.safety import SafetyConfig

SHADOW_FILE = "shadow.mcap"
"""Inputs, ticks and commands, in the form of a run: `replay` repeats it."""
MANIFEST_FILE = "shadow.json"
"""Figures."""
PICTURE_FILE = "shadow.png"
"""Measured, recorded and commanded positions."""
RECORDED_TOPIC = "/recorded/commands"
"""Float64MultiArray: the commands that the recording holds, in the contract's order."""
CLOCKS = ("header", "received")
"""Where an input's time comes from."""
_FIRST_STATES = 200
"""Joint states by which the offset between stamps and receipt is told."""
_MAX_TICKS = 10_000_000


@dataclass(frozen=True)
class ShadowConfig:
    """How a recording goes through the policy."""

    skill: str = ""
    """Skill to ask for at the start (stand, track or stop); empty takes the recorded ones."""
    clock: str = "header"
    """Time of an input: the stamp in its header, or `received`, for recordings without stamps."""
    topics: TopicOptions = field(default_factory=TopicOptions)
    """Topics that do not have their usual names."""
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    """Bounds of the safety layer."""


@dataclass(frozen=True)
class ShadowResult:
    """What a policy would have done."""

    path: Path
    """The folder that was written."""
    figures: dict[str, float]
    """Figures of shadow.json."""
    interventions: dict[str, int]
    """Ticks by what the safety layer said, the joints and numbers left out."""

    def __str__(self) -> str:
        """A line of figures, and one for each kind of intervention."""
        f = self.figures
        head = f"{self.path}: {f['ticks']:.0f} ticks in {f['seconds']:.1f} s, {f['commands']:.0f} commands"
        if "difference_rms_rad" in f:
            head += (
                f", {f['difference_rms_rad']:.3f} rad (RMS) from the recorded commands, at most "
                f"{f['difference_max_rad']:.3f}"
            )
        return "\n".join([head, *(f"{count} ticks: {reason}" for reason, count in self.interventions.items())])


@dataclass
class _Trace:
    """What is drawn and measured, tick by tick."""

    t_ns: list[int] = field(default_factory=list)
    command: list[np.ndarray] = field(default_factory=list)
    measured: list[np.ndarray] = field(default_factory=list)
    running: list[bool] = field(default_factory=list)
    recorded_ns: list[int] = field(default_factory=list)
    recorded: list[np.ndarray] = field(default_factory=list)


def shadow(
    recording: Path, policy: Path, out: Path, stage: Path | None = None, config: ShadowConfig | None = None
) -> ShadowResult:
    """Ask a policy what it would have commanded, tick by tick, and write it.

    Joints are mapped by name. The ticks are at the contract's rate from the moment all inputs are there. An input is
    as old at a tick as its time of receipt says, counted from the joint state that came through fastest.

    Args:
        recording: An MCAP file or a rosbag2 folder (sqlite3 or MCAP) with JointState and Imu topics.
        policy: The ONNX file.
        out: Folder to write shadow.mcap, shadow.json and shadow.png into.
        stage: Folder of the stage whose reference the policy follows.
        config: Settings.

    Raises:
        InputError: A topic is missing or not clear, or the recording is damaged.
        ContractError: The policy is refused, or the recording's first messages are not what it needs.
    """
    config = config or ShadowConfig()
    if config.clock not in CLOCKS:
        raise InputError(f"--config.clock {config.clock!r}: expected {' or '.join(CLOCKS)}")
    file = PolicyFile(policy)
    reference = None
    if file.contract.follows_reference:
        if stage is None:
            raise InputError(f"{policy}: follows a reference motion; name the stage that holds it with --stage")
        reference = RobotMotion.load(stage / "reference.npz")
    runtime = PolicyRuntime(file, reference, config.safety)
    begun = time.perf_counter()
    with open_bag(recording) as bag, atomic_dir(out) as folder:
        with RecordingWriter(folder / SHADOW_FILE) as writer:
            run = _Shadow(bag, runtime, writer, config)
            run.play()
        figures = run.figures()
        figures["x_realtime"] = figures["seconds"] / (time.perf_counter() - begun)
        inputs = {"recording": recording, "policy": policy} | ({"stage": stage} if stage else {})
        write_json(
            folder / MANIFEST_FILE,
            {
                "provenance": provenance(config, inputs),
                "machine": machine_info(),
                "topics": run.names,
                "figures": figures,
                "interventions": dict(run.interventions),
                "modes": dict(run.modes),
                "first_stop": run.first_stop,
                "difference_rms_rad_by_joint": run.by_joint(),
            },
        )
        (folder / PICTURE_FILE).write_bytes(run.picture(recording.name))
    return ShadowResult(out, figures, dict(run.interventions))


class _Shadow:
    """One recording on its way through the runtime."""

    def __init__(self, bag: Bag, runtime: PolicyRuntime, writer: RecordingWriter, config: ShadowConfig) -> None:
        self._bag, self._runtime, self._writer, self._config = bag, runtime, writer, config
        self._contract = runtime.contract
        self._joints = self._contract.joint_names
        self.interventions: Counter[str] = Counter()
        self.modes: Counter[str] = Counter()
        self.first_stop = ""
        self._trace = _Trace()
        self._topics = self._choose()
        self.names = {role: chosen.name for role, chosen in self._topics.items()}
        self._inputs = [role for role in INPUT_TOPICS if role in self._topics]
        self._decode = {role: decoder(bag, chosen) for role, chosen in self._topics.items()}
        self._by_header = config.clock == "header"
        self._ahead_ns = self._clock_offset()
        self._measured: np.ndarray | None = None
        self._ticks = self._intervened = 0
        self._start_ns: int | None = None

    def play(self) -> None:
        """Feed every message, and tick in between; the last tick is not after the last input."""
        roles = {chosen.name: role for role, chosen in self._topics.items()}
        heard: set[str] = set()
        told: list[tuple[int, str, Any]] = []
        now = 0
        for message in self._bag.messages(list(roles)):
            role, at = roles[message.topic], message.received_ns - self._ahead_ns
            content = self._decode[role](message)
            if role not in INPUT_TOPICS:
                told.append((at, role, content))
                continue
            now = at
            for moment, what, said in told:
                self._tick_until(moment)
                self._tell(what, said, moment)
            told.clear()
            self._tick_until(now)
            self._take_input(role, content, now)
            heard.add(role)
            if self._start_ns is None and heard >= set(self._inputs) and self._runtime.command_input.known:
                self._start_ns = now
                if self._config.skill:
                    self._runtime.ask(self._config.skill)
        if self._start_ns is None:
            lacking = [self.names[role] for role in self._inputs if role not in heard] or ["a command"]
            raise InputError(f"{self._bag.path}: holds no message of {', '.join(lacking)}; the policy was never asked")
        settings = {"data": json.dumps({"safety": dataclasses.asdict(self._config.safety)})}
        self._writer.write(SETTINGS_TOPIC, bag_inputs.STRING, settings, max(self._start_ns, 0))
        self._tick_until(now + 1)

    def _tick_until(self, end_ns: int) -> None:
        """Make the ticks that are due before a time."""
        period_ns = 1e9 / self._contract.control_hz
        while self._start_ns is not None and (due := self._start_ns + round(self._ticks * period_ns)) < end_ns:
            self._tick(due)

    def figures(self) -> dict[str, float]:
        """Return the figures."""
        trace = self._trace
        found = {
            "ticks": float(self._ticks),
            "seconds": self._ticks / self._contract.control_hz,
            "commands": float(len(trace.command)),
            "ticks_with_an_intervention": float(self._intervened),
            "stopped_ticks": float(self.modes["stopped"]),
            "recorded_commands": float(len(trace.recorded)),
        }
        difference = self._difference()
        if difference is not None:
            found |= {
                "compared_ticks": float(len(difference)),
                "difference_rms_rad": float(np.sqrt((difference**2).mean())),
                "difference_max_rad": float(np.abs(difference).max()),
            }
        return found

    def by_joint(self) -> dict[str, float]:
        """Return the RMS difference to the recorded commands of each joint, rad; empty where there are none."""
        difference = self._difference()
        if difference is None:
            return {}
        return dict(zip(self._joints, np.sqrt((difference**2).mean(axis=0)).tolist(), strict=True))

    def picture(self, name: str) -> bytes:
        """Return the plot as PNG."""
        from bodydouble.report.shadow_plot import shadow_plot

        trace = self._trace
        if not trace.t_ns:
            raise InputError(f"{self._bag.path}: the policy would have commanded nothing in {self._ticks} ticks")
        start = trace.t_ns[0]
        seconds = (np.array(trace.t_ns) - start) / 1e9
        recorded = (np.array(trace.recorded_ns) - start) / 1e9, np.array(trace.recorded).reshape(-1, len(self._joints))
        return shadow_plot(
            seconds, np.array(trace.measured), np.array(trace.command), np.array(trace.running), *recorded,
            self._joints, f"{name}: what the policy would have commanded",
        )  # fmt: skip

    def _choose(self) -> dict[str, Chosen]:
        """Return the topics by role: the inputs, and what else is there."""
        chooser, named, contract = TopicChooser(self._bag), self._config.topics, self._contract
        found: dict[str, Chosen] = {"joint_states": chooser.joint_states(named.joint_states)}
        found["imu"] = chooser.need("Imu of the base", ("imu",), (bag_inputs.IMU,), named.imu, "imu")
        if any(term.name == "ref_root_pos" for term in contract.observation):
            kinds = (bag_inputs.ODOMETRY,)
            found["odom"] = chooser.need("Odometry of the base", ("odom",), kinds, named.odom, "odom")
        usual = ("forward_position_controller/commands", "joint_trajectory_controller/joint_trajectory")
        kinds = (bag_inputs.FLOATS, bag_inputs.TRAJECTORY)
        optional = {"commands": chooser.find("recorded commands", usual, kinds, named.commands, "commands")}
        if contract.command_names and self._runtime.command_input.is_velocity:
            kinds = (bag_inputs.TWIST,)
            optional["velocity"] = chooser.find("velocity command", ("cmd_vel",), kinds, named.velocity, "velocity")
        elif contract.command_names:
            kinds = (bag_inputs.FLOATS,)
            optional["command"] = chooser.need("command", ("policy/command",), kinds, named.command, "command")
        if contract.follows_reference and not self._config.skill:
            kinds = (bag_inputs.STRING,)
            optional["skill"] = chooser.find("skill", ("skill",), kinds, named.skill, "skill")
            if optional["skill"] is None:
                raise InputError(
                    f"{self._bag.path}: holds no skill; say what to ask for with --config.skill ({', '.join(SKILLS)})"
                )
        elif self._config.skill and self._config.skill not in SKILLS:
            raise InputError(f"--config.skill {self._config.skill!r}: expected one of {', '.join(SKILLS)}")
        return found | {role: chosen for role, chosen in optional.items() if chosen is not None}

    def _clock_offset(self) -> int:
        """Return the time of receipt minus the stamp, ns, of the joint state that came through fastest."""
        if not self._by_header:
            return 0
        name, stamps = self._topics["joint_states"].name, []
        for number, message in enumerate(self._bag.messages([name])):
            stamps.append((message.received_ns, stamp_ns(self._decode["joint_states"](message).header.stamp)))
            if number + 1 >= _FIRST_STATES:
                break
        if not stamps:
            raise InputError(f"{self._bag.path}: {name} holds no message; the policy was never asked")
        # The first of a simulation may be stamped zero; a driver that stamps nothing never gets beyond.
        if len(stamps) > 1 and stamps[-1][1] == stamps[0][1]:
            raise InputError(
                f"{self._bag.path}: the stamps of {name} stand still; take the times of receipt with "
                "--config.clock received"
            )
        return min(received - stamp for received, stamp in stamps)

    def _tell(self, role: str, content: Any, now: int) -> None:
        """Take what is no input of the sensors: a recorded command, a skill, what the robot was told."""
        if role == "commands":
            target = self._recorded(content)
            self._trace.recorded_ns.append(now)
            self._trace.recorded.append(target)
            self._writer.write(RECORDED_TOPIC, bag_inputs.FLOATS, {"data": target}, max(now, 0))
        elif role == "skill":
            skill = _skill(content.data)
            if skill:
                self._runtime.ask(skill)
        else:
            values = list(content.data) if role == "command" else _velocity(content, self._contract.command_names)
            self._runtime.ask(f"command: {json.dumps([float(value) for value in values])}")

    def _take_input(self, role: str, content: Any, now: int) -> None:
        """Give one input to the runtime; now is its time of receipt on the inputs' clock."""
        if not self._by_header:
            sec, nanosec = divmod(now, 1_000_000_000)
            stamp = dataclasses.replace(content.header.stamp, sec=sec, nanosec=nanosec)
            content = dataclasses.replace(content, header=dataclasses.replace(content.header, stamp=stamp))
        try:
            READERS[role](self._runtime, stamp_ns(content.header.stamp), content)
        except ContractError as error:
            if self._start_ns is None:
                raise ContractError(f"{self._bag.path}: {self.names[role]}: {error}") from None
            # As the policy's node does with what it cannot use.
            self._runtime.ask(f"estop: {error}")
        if role == "joint_states":
            place = {name: i for i, name in enumerate(content.name)}
            if len(content.position) == len(content.name) and all(name in place for name in self._joints):
                self._measured = np.asarray(content.position)[[place[name] for name in self._joints]]
        self._writer.write(INPUT_TOPICS[role], self._topics[role].msgtype, content, max(now, 0))

    def _tick(self, t_ns: int) -> None:
        if self._ticks >= _MAX_TICKS:
            raise InputError(f"{self._bag.path}: more than {_MAX_TICKS} ticks; give a shorter recording")
        self._ticks += 1
        begun = time.perf_counter()
        result = self._runtime.tick(t_ns)
        spent = 1000 * (time.perf_counter() - begun)
        text = json.dumps(result.to_dict() | {"tick_ms": spent, "late_ms": 0.0, "missed": 0})
        log_ns = max(t_ns, 0)
        if result.command is not None:
            self._writer.write(COMMAND_TOPIC, bag_inputs.FLOATS, {"data": result.command}, log_ns)
        self._writer.write(TICK_TOPIC, bag_inputs.STRING, {"data": text}, log_ns)
        self._count(result)

    def _count(self, result: TickResult) -> None:
        self.modes[result.mode] += 1
        self._intervened += bool(result.events)
        for kind in {_kind(event) for event in result.events}:
            self.interventions[kind] += 1
        stops = [event for event in result.events if event.startswith("stop: ")]
        if stops and not self.first_stop:
            self.first_stop = f"tick {result.tick}: {stops[0].removeprefix('stop: ')}"
        if result.command is not None and self._measured is not None:
            self._trace.t_ns.append(result.t_ns)
            self._trace.command.append(result.command)
            self._trace.measured.append(self._measured)
            self._trace.running.append(result.mode == "run")

    def _recorded(self, content: Any) -> np.ndarray:
        """Return a recorded command in the contract's order."""
        name = self.names["commands"]
        if self._topics["commands"].msgtype == bag_inputs.FLOATS:
            values = np.asarray(content.data, dtype=np.float64)
        else:
            points, names = content.points, list(content.joint_names)
            absent = [joint for joint in self._joints if names.count(joint) != 1]
            if absent or not points or len(points[0].positions) != len(names):
                raise ContractError(
                    f"{self._bag.path}: {name}: names joint {(absent or ['-'])[0]} not once, or no point"
                )
            values = np.asarray(points[0].positions)[[names.index(joint) for joint in self._joints]]
        if len(values) != len(self._joints):
            raise ContractError(
                f"{self._bag.path}: {name} holds {len(values)} joint targets, the policy has {len(self._joints)} "
                "joints; name other commands with --config.topics.commands"
            )
        return values

    def _difference(self) -> np.ndarray | None:
        """Return commands minus the recorded ones nearest in time (N, J), rad, of running ticks that have one."""
        trace = self._trace
        at, times = np.array(trace.t_ns, dtype=np.int64), np.array(trace.recorded_ns, dtype=np.int64)
        keep = np.array(trace.running, dtype=bool)
        if not len(times) or not keep.any():
            return None
        after = np.clip(np.searchsorted(times, at), 1, max(len(times) - 1, 1))
        after = np.minimum(after, len(times) - 1)
        before = np.maximum(after - 1, 0)
        nearest = np.where(np.abs(times[before] - at) <= np.abs(times[after] - at), before, after)
        keep &= np.abs(times[nearest] - at) <= 1e9 / self._contract.control_hz
        if not keep.any():
            return None
        return np.array(trace.command)[keep] - np.array(trace.recorded)[nearest[keep]]


def _kind(event: str) -> str:
    """Return what an event is about, without joints and numbers: `slew`, `stop: base tilted`, ..."""
    kind, _, detail = event.partition(": ")
    if kind not in ("stop", "refused", "late input", "late command"):
        return kind
    words = [word for word in detail.split() if not any(letter.isdigit() for letter in word)]
    return kind if kind.startswith("late") else f"{kind}: {' '.join(words[:3])}"


def _skill(text: str) -> str:
    """Return the skill that a message asks for; empty where it asks for none that there is."""
    try:
        skill = json.loads(text)["skill"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return skill if skill in SKILLS else ""


def _velocity(content: Any, names: tuple[str, ...]) -> Iterator[float]:
    for name in names:
        part, axis = VELOCITIES[name]
        yield getattr(getattr(content, part), axis)
